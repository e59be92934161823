//! A run of any job that loses a worker every few seconds, beside the same run undisturbed.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;

use crate::{PATIENCE, Run};

/// Between two looks at the run.
const LOOK: Duration = Duration::from_millis(20);

/// A run that takes longer is none that a soak is for.
const LONGEST: Duration = Duration::from_secs(4 * 3600);

/// What a soak did.
#[derive(Debug)]
pub struct Soaked {
    /// Workers that were killed.
    pub killed: u32,
    /// Steps that those runs committed.
    pub steps: u64,
    /// How long either took.
    pub seconds: [f64; 2],
}

/// Runs a job twice, below `folder`: once in peace, once with a `kill -9` of a worker every `every`, each replaced at once.
/// The last one that trains is spared.
///
/// # Errors
/// When a run fails, or both do not end with the same bits.
pub fn soak(folder: &Path, job: &Path, workers: u32, every: Duration) -> anyhow::Result<Soaked> {
    let start = Instant::now();
    let calm = Run::of_job(folder, "calm", job, workers, LONGEST)?.finish()?;
    let undisturbed = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut run = Run::of_job(folder, "rough", job, workers, LONGEST)?;
    let (mut killed, mut steps, mut next, mut moved) = (0, 0, Instant::now() + every, Instant::now());
    while run.coordinator().runs() {
        std::thread::park_timeout(LOOK);
        let Some(sight) = run.sight() else { continue };
        if sight.durable > steps || sight.phase == "finishing" {
            moved = Instant::now();
        }
        steps = sight.durable;
        ensure!(moved.elapsed() < PATIENCE, "no step was committed for {PATIENCE:?}:\n{}", run.said());
        // What comes after the last step begins anew when its worker is lost: killed again and again it would never end.
        // Where a machine is slower at starting workers than at losing them, nobody would be left to go on.
        let goes_on = sight.phase == "running" && sight.ready.len() > 1;
        if goes_on && Instant::now() >= next {
            run.kill_worker(0);
            run.add_worker()?;
            (killed, next) = (killed + 1, Instant::now() + every);
        }
    }
    let rough = run.finish_without_latecomers()?;
    ensure!(killed > 0, "the run ended before {every:?} were over and nobody was killed");
    ensure!(calm == rough, "after {killed} kills the run ended with other bits");
    Ok(Soaked { killed, steps, seconds: [undisturbed, start.elapsed().as_secs_f64()] })
}
