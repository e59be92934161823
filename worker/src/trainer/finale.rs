//! The end of a run on the rank that writes (HANDS): last checkpoint, evaluation, deployable files.

use std::{error::Error, num::NonZeroU32};

use esta_engine::run::Finish;

use super::{Job, State};
use crate::{
    eval::{Evaluation, chosen, evaluate},
    export, machine,
};

/// Writes what the run leaves behind.
///
/// # Errors
/// What could not be evaluated or written; everything written before stays.
pub fn write(job: &Job, state: &State, finish: &Finish) -> Result<(), Box<dyn Error>> {
    let run_dir = job.family.checkpoints.run_dir();
    if !job.family.checkpoints.complete()?.contains(&state.applied) {
        job.family.checkpoints.stage(&state.summary(job), |folder| state.write(folder))?;
        job.family.checkpoints.publish(state.applied)?;
    }
    // Every other rank is idle: use the machine, unless the job shares it with others.
    let threads = job.family.law.spec.eval.threads.map_or_else(machine::cores, NonZeroU32::get);
    tch::set_num_threads(threads.cast_signed());
    // Where a device trains, the processor's time says nothing of it.
    let cpu_seconds = if job.family.device.is_cuda() { None } else { machine::cpu_seconds() };
    let peak_memory = machine::peak_memory();
    let mut evaluation = evaluation(job, state, finish)?;
    evaluation.step = Some(state.applied);
    (evaluation.peak_memory, evaluation.cpu_seconds) = (peak_memory, cpu_seconds);
    evaluation.train_texts = job.train.texts().map(|texts| texts.report().into());
    if job.family.law.spec.eval.export {
        evaluation.exports = export::palette(&job.family, state, finish, run_dir)?;
    }
    evaluation.save(run_dir)?;
    if let Some(kept) = job.family.checkpoints.kept() {
        if !evaluation.exports.is_empty() {
            kept.push(run_dir, "export")?;
        }
        // It names the exports.
        kept.send(run_dir, vec!["eval.json".to_owned()])?;
        tracing::info!(place = %kept.place(), "the results are kept");
    }
    Ok(())
}

fn evaluation(job: &Job, state: &State, finish: &Finish) -> Result<Evaluation, Box<dyn Error>> {
    if !job.family.law.spec.evaluates() {
        return Ok(Evaluation::default());
    }
    let stitches = chosen(&job.family, &finish.palettes);
    let total = stitches.len();
    let report = |number: usize, result: &crate::eval::StitchResult| {
        tracing::info!(stitch = result.stitch.0, accuracy = result.accuracy, done = number + 1, total, "evaluated");
    };
    Ok(evaluate(&job.family, &state.net, &stitches, report)?)
}
