//! What goes wrong and how often: drawn from the seed.

use std::time::Duration;

use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A worker is killed and started again.
    KillWorker,
    /// Every worker is killed at once.
    KillAllWorkers,
    /// A worker is stopped for a while.
    PauseWorker,
    /// A worker's connection is reset.
    ResetLine,
    /// A worker's connection carries nothing any more, and nobody is told.
    CutLine,
    /// A worker is asked to leave, and comes back later.
    DrainWorker,
    /// A worker becomes slower than others, or recovers.
    SlowWorker,
    /// A coordinator is killed and started again.
    KillCoordinator,
    /// A coordinator is stopped for a while, longer than its lease perhaps.
    PauseCoordinator,
    /// A group breaks and nobody dies.
    BreakGroup,
    /// A trainer hangs in the middle of a step.
    HangTrainer,
    /// A rank does not apply what the others apply.
    Lie,
    /// A report that was heard before is heard again, or one of another run.
    OldReport,
}

const FAULTS: [Fault; 13] = [
    Fault::KillWorker,
    Fault::KillAllWorkers,
    Fault::PauseWorker,
    Fault::ResetLine,
    Fault::CutLine,
    Fault::DrainWorker,
    Fault::SlowWorker,
    Fault::KillCoordinator,
    Fault::PauseCoordinator,
    Fault::BreakGroup,
    Fault::HangTrainer,
    Fault::Lie,
    Fault::OldReport,
];

/// How bad it is.
#[derive(Debug, Clone)]
pub struct Weather {
    /// Workers that take part.
    pub workers: usize,
    /// Coordinators; all but one stand by.
    pub coordinators: usize,
    /// Plans ahead.
    pub lookahead: u32,
    /// What may go wrong.
    pub faults: Vec<Fault>,
    /// Faults in all.
    pub count: u32,
    /// Mean time between two of them.
    pub between: Duration,
    /// The longest a message takes on a good connection.
    pub delay: Duration,
    /// The longest the record takes to write.
    pub disk: Duration,
}

impl Weather {
    /// The weather of a seed.
    pub fn drawn(rng: &mut ChaCha8Rng) -> Self {
        let faults: Vec<Fault> = FAULTS.into_iter().filter(|_| rng.random_bool(0.5)).collect();
        let millis = |choices: &[u64], rng: &mut ChaCha8Rng| {
            Duration::from_millis(*choices.choose(rng).expect("there are choices"))
        };
        Self {
            workers: rng.random_range(1..=5),
            coordinators: rng.random_range(1..=3),
            lookahead: *[0, 1, 1, 2, 5].choose(rng).expect("there are choices"),
            faults: if faults.is_empty() { FAULTS.to_vec() } else { faults },
            count: rng.random_range(3..=30),
            between: millis(&[50, 200, 1000, 3000], rng),
            delay: millis(&[1, 5, 40], rng),
            disk: millis(&[1, 10, 300], rng),
        }
    }
}
