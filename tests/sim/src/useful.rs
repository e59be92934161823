//! Row F10: the share of a run's time that went into steps that were kept, while workers fail again and again.
//!
//! Whoever loses only the step in flight, and the whole of it, keeps a share of e^(-step/MTBF): that is the floor. A
//! failure in the middle of a step wastes half a step on average, so whoever begins anew at once does better than that.

use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::{
    Sim,
    faults::{Fault, Gaps, Times, Weather},
    invariants::Violation,
    job,
};

/// Happenings per worker and step beyond which something goes round in circles.
const MOST: u64 = 10_000;

/// Workers that fail, and are replaced at once.
#[derive(Debug, Clone)]
pub struct Failures {
    /// Workers.
    pub workers: u32,
    /// Slots of a step.
    pub slots: u32,
    /// Steps of the run.
    pub steps: u64,
    /// What a step takes when nobody fails.
    pub step: Duration,
    /// Mean time between two failures of any worker.
    pub between: Duration,
    /// A process that replaces another one loads for this long before it can join.
    pub load: Duration,
    /// A group is built, and its states are brought together, in this time.
    pub form: Duration,
}

impl Failures {
    /// Thirty workers with ten slots each, steps of 12 s, and this ratio of step to time between failures.
    #[must_use]
    pub fn f10(ratio: f64, steps: u64) -> Self {
        let step = Duration::from_secs(12);
        Self {
            workers: 30,
            slots: 300,
            steps,
            step,
            between: step.div_f64(ratio),
            load: Duration::from_secs(5),
            form: Duration::from_millis(300),
        }
    }
}

/// What became of a run's time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// A step over the mean time between failures.
    pub ratio: f64,
    /// Committed steps times what a step takes, over the time that all of it took.
    pub share: f64,
    /// e^(-ratio).
    pub floor: f64,
    /// The share over the floor.
    pub of_floor: f64,
    /// Failures.
    pub failures: u32,
    /// Generations.
    pub generations: u64,
    /// Steps.
    pub steps: u64,
    /// Seconds in all.
    pub seconds: f64,
}

/// Trains under failures that a seed decides.
///
/// # Errors
/// [`Violation`] of the first invariant that does not hold.
pub fn useful_work(seed: u64, failures: &Failures) -> Result<Share, Violation> {
    let law = job::slow(failures.steps, failures.slots);
    let weather = Weather {
        workers: failures.workers as usize,
        coordinators: 1,
        lookahead: law.spec.sampling.lookahead,
        faults: vec![Fault::KillWorker],
        count: u32::MAX,
        gaps: Gaps::Poisson(failures.between),
        delay: Duration::from_millis(1),
        disk: Duration::from_millis(2),
        times: Times {
            slot: failures.step.mul_f64(f64::from(failures.workers) / f64::from(failures.slots)),
            load: failures.load,
            form: failures.form,
            broken: Duration::from_millis(1),
            away: Duration::from_millis(200),
            beat: Duration::from_secs(4),
        },
    };
    let most = MOST * failures.steps * u64::from(failures.workers);
    let trained = Sim::under(law, weather, ChaCha8Rng::seed_from_u64(seed)).train(most)?;
    let ratio = failures.step.as_secs_f64() / failures.between.as_secs_f64();
    let (seconds, floor) = (trained.took.as_secs_f64(), (-ratio).exp());
    let share = failures.steps as f64 * failures.step.as_secs_f64() / seconds;
    Ok(Share {
        ratio,
        share,
        floor,
        of_floor: share / floor,
        failures: trained.faults,
        generations: trained.generations,
        steps: failures.steps,
        seconds,
    })
}
