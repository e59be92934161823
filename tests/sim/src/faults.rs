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
    /// A worker's connection is reset at one of its ends, and the other is not told.
    TearLine,
    /// What a worker and coordinators say to each other takes long for a while: longer than either waits.
    SlowWay,
    /// Some workers do not reach some others for a while, and all of them reach the coordinators.
    CutPeers,
    /// A worker is asked to leave, and comes back later.
    DrainWorker,
    /// A worker becomes slower than others, or recovers.
    SlowWorker,
    /// A coordinator is killed and started again.
    KillCoordinator,
    /// A coordinator is stopped for a while, longer than its lease perhaps.
    PauseCoordinator,
    /// A coordinator cannot reach the store for a while: what it asks is not done, or its answer is lost.
    CutStore,
    /// The store does what a coordinator asks for a while, and its answers are lost.
    LoseAnswers,
    /// What a coordinator asks of the store takes long to get there for a while: longer than it waits for an answer.
    SlowStore,
    /// A process's clock leaps ahead, as after its machine was suspended.
    LeapClock,
    /// A coordinator's clock runs at another pace than time.
    BendClock,
    /// A group breaks and nobody dies.
    BreakGroup,
    /// A trainer hangs in the middle of a step.
    HangTrainer,
    /// A rank does not apply what the others apply, and its digest of the step says so.
    Lie,
    /// What a rank holds changes where no slot looks, so that only a digest of all it holds says so.
    Drift,
    /// A report that was heard before is heard again, or one of another run.
    OldReport,
}

const FAULTS: [Fault; 22] = [
    Fault::KillWorker,
    Fault::KillAllWorkers,
    Fault::PauseWorker,
    Fault::ResetLine,
    Fault::CutLine,
    Fault::TearLine,
    Fault::SlowWay,
    Fault::CutPeers,
    Fault::DrainWorker,
    Fault::SlowWorker,
    Fault::KillCoordinator,
    Fault::PauseCoordinator,
    Fault::CutStore,
    Fault::LoseAnswers,
    Fault::SlowStore,
    Fault::LeapClock,
    Fault::BendClock,
    Fault::BreakGroup,
    Fault::HangTrainer,
    Fault::Lie,
    Fault::Drift,
    Fault::OldReport,
];

/// When the next thing goes wrong.
#[derive(Debug, Clone, Copy)]
pub enum Gaps {
    /// After any time up to twice this one.
    Even(Duration),
    /// A Poisson process of this mean: failures of many machines that know nothing of each other.
    Poisson(Duration),
}

impl Gaps {
    /// The time to the next one.
    pub fn drawn(self, rng: &mut ChaCha8Rng) -> Duration {
        match self {
            Self::Even(mean) => (2 * mean).mul_f64(rng.random::<f64>()),
            Self::Poisson(mean) => mean.mul_f64(-(1.0 - rng.random::<f64>()).ln()),
        }
    }
}

/// How long things take that nobody decides about.
#[derive(Debug, Clone)]
pub struct Times {
    /// Forward and backward of a slot.
    pub slot: Duration,
    /// From the start of a worker's process until it looks for a coordinator: it loads what it needs.
    pub load: Duration,
    /// The least it takes to build a group and bring states together, once every rank has come.
    pub form: Duration,
    /// The longest until a rank hears that its group is broken.
    pub broken: Duration,
    /// The longest until a process that was killed is started again.
    pub away: Duration,
    /// Between two heartbeats.
    pub beat: Duration,
}

impl Times {
    /// Steps of some fifty milliseconds, so that a whole run is over within seconds.
    pub fn short() -> Self {
        Self {
            slot: Duration::from_millis(12),
            load: Duration::from_millis(20),
            form: Duration::from_micros(100),
            broken: Duration::from_millis(50),
            away: Duration::from_secs(5),
            beat: Duration::from_millis(400),
        }
    }
}

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
    /// The time between two of them.
    pub gaps: Gaps,
    /// The longest a message takes on a good connection.
    pub delay: Duration,
    /// The longest the record takes to write.
    pub disk: Duration,
    /// What everything else takes.
    pub times: Times,
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
            gaps: Gaps::Even(millis(&[50, 200, 1000, 3000], rng)),
            delay: millis(&[1, 5, 40], rng),
            disk: millis(&[1, 10, 300], rng),
            times: Times::short(),
        }
    }
}
