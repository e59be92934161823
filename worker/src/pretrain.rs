//! Anchors from scratch (HANDS): the trainer's own step, one stitch, no coordinator. For demonstrations and tests; real
//! families come pre-trained.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use esta_data::{BatchTicket, DataError};
use esta_engine::{
    arch::Arch,
    pace::Pace,
    plan::Plan,
    run::StepTimings,
    sampler::{Draw, Reason},
    spec::{AnchorSpec, JobSpec, Mode, SamplingSpec, TrainSpec},
};
use esta_model::{StitchError, WeightsError};
use esta_objects::Place;
use esta_proto::{BudgetId, Step, StitchId};
use thiserror::Error;

use crate::{
    eval::{EvalError, StitchResult, evaluate},
    export::{ExportError, Vocabulary, save_anchor},
    trainer::{DeviceKind, Job, SetupError, State, StateError, StepError, Stepper},
};

/// Why an anchor was not made.
#[derive(Debug, Error)]
pub enum PretrainError {
    /// No anchor of that name.
    #[error("the job has no anchor named {0:?}")]
    Name(String),
    /// Weights that are no file.
    #[error("the anchor's weights are {0}, and pre-training writes files: give a path, and copy what is written there")]
    Place(String),
    /// The job does not load.
    #[error("the job cannot be set up")]
    Setup(#[from] SetupError),
    /// The network does not come about.
    #[error("the anchor cannot be started")]
    State(#[from] StateError),
    /// A step failed.
    #[error("step {step} failed")]
    Step {
        /// Which.
        step: u64,
        /// Why.
        source: StepError,
    },
    /// The loss ran away.
    #[error("the loss is no number any more at step {0}: lower train.learning_rate")]
    Diverged(u64),
    /// Evaluation.
    #[error("the anchor cannot be evaluated")]
    Eval(#[from] EvalError),
    /// The trained network.
    #[error("the anchor cannot be taken out")]
    Stitch(#[from] StitchError),
    /// The file.
    #[error("the anchor cannot be written")]
    Write(#[from] WeightsError),
    /// Its folder.
    #[error("{path} cannot be made")]
    Folder {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A language model's folder.
    #[error("the anchor cannot be written")]
    Export(#[from] ExportError),
    /// Samples.
    #[error("the samples do not load")]
    Data(#[from] DataError),
}

/// The job of one anchor alone, trained whole: every sample of a step in one slot.
///
/// # Errors
/// [`PretrainError::Name`].
pub fn alone(spec: &JobSpec, name: &str) -> Result<JobSpec, PretrainError> {
    let anchor = spec.family.anchors.iter().find(|anchor| anchor.name == name);
    let anchor: AnchorSpec = anchor.cloned().ok_or_else(|| PretrainError::Name(name.to_owned()))?;
    let mut alone = spec.clone();
    alone.mode = Mode::Anchor;
    alone.family.anchors = vec![anchor];
    alone.sampling = SamplingSpec { slots: 1, ..alone.sampling };
    alone.train = TrainSpec { full: true, ..alone.train };
    Ok(alone)
}

/// Trains the only anchor of a job of [`alone`] and writes it where the job's `weights` points. `hear` is told the loss
/// of every step. Answers with the held-out result where the job names held-out images.
///
/// # Errors
/// [`PretrainError`].
pub fn pretrain(
    spec: JobSpec,
    device: DeviceKind,
    mut hear: impl FnMut(u64, u64, f64),
) -> Result<Option<StitchResult>, PretrainError> {
    tch::set_num_threads(spec.train.intra_op_threads.cast_signed());
    let weights = &spec.family.anchors[0].weights;
    if Place::is_meant(weights) {
        return Err(PretrainError::Place(weights.clone()));
    }
    let target = PathBuf::from(weights);
    let job = Job::from_scratch(spec, device)?;
    let mut state = State::fresh(&job)?;
    let mut stepper = Stepper::new(&job);
    let anchor = StitchId(0);
    let batch = u64::from(job.family.law.spec.train.batch_size);
    let request = |step: u64| job.prefetcher.request(step * batch..(step + 1) * batch);
    let mut ahead = request(0);
    for step in 0..job.total_steps {
        let ticket = std::mem::replace(&mut ahead, request(step + 1));
        let loss = one_step(&job, &mut stepper, &mut state, anchor, (step, ticket))?;
        hear(step, job.total_steps, loss);
    }
    save(&job, &state, anchor, &target)?;
    if job.family.law.spec.data.eval.is_none() {
        return Ok(None);
    }
    Ok(evaluate(&job.family, &state.net, &[anchor], |_, _| {})?.results.pop())
}

fn one_step(
    job: &Job,
    stepper: &mut Stepper,
    state: &mut State,
    anchor: StitchId,
    (step, ticket): (u64, BatchTicket),
) -> Result<f64, PretrainError> {
    let batch = u64::from(job.family.law.spec.train.batch_size);
    let draw = Draw { stitch: anchor, budget: BudgetId(0), probability: 1.0, reason: Reason::Uniform };
    let plan = Plan::new(Step(step), Step(0), step * batch, vec![draw], &job.family.law.layout);
    let share = plan.shares(&job.family.law.catalog, &Pace::default(), &[1.0], &BTreeMap::new()).swap_remove(0);
    let failed = |source| PretrainError::Step { step, source };
    let buffer =
        stepper.accumulate(job, state, &share, vec![ticket], &mut StepTimings::default(), None).map_err(failed)?;
    let report = stepper.apply(state, &share, buffer);
    let outcome = report.outcomes[0];
    if outcome.valid { Ok(outcome.loss) } else { Err(PretrainError::Diverged(step)) }
}

/// Writes the anchor as an ordinary timm checkpoint, or a language model as a Hugging Face folder.
fn save(job: &Job, state: &State, anchor: StitchId, target: &Path) -> Result<(), PretrainError> {
    let merged = state.net.merged_state(&job.family.law.catalog, anchor)?;
    if let (Arch::Llama(arch), Some(vocabulary)) = (&merged.segments[0].arch, Vocabulary::of(&job.family)) {
        return Ok(save_anchor(arch, &merged.weights, &vocabulary, target)?);
    }
    let file = match target.extension() {
        Some(_) => target.to_owned(),
        None => target.join("model.safetensors"),
    };
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|source| PretrainError::Folder { path: folder.to_owned(), source })?;
    Ok(merged.weights.save(&file)?)
}
