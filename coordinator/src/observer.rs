//! What the leader lets others see (HANDS): committed steps, notices, the choice at the end. Watching costs the leader
//! one send on a queue that drops what finds no room; a slow observer delays nobody.

mod queue;

use std::{sync::Arc, time::Duration};

use esta_engine::{
    palette::Choice,
    run::{Notice, Phases, StepRecord, StepTimings},
    spec::PaletteRule,
    table::Table,
};
use esta_proto::Step;
use esta_telemetry::trace::Context;

pub use self::queue::{Receiver, Sender, channel};

/// Something an observer may want to know.
#[derive(Debug, Clone)]
pub enum Observation {
    /// These steps became durable.
    Committed {
        /// In order.
        steps: Arc<[StepRecord]>,
        /// The table, at least as new as the last of them.
        table: Arc<Table>,
        /// Steps of the whole run.
        total: Step,
        /// Since this coordinator began.
        elapsed: Duration,
    },
    /// Where the time of the reports since the last one of these went.
    Timed(TimeSpent),
    /// This step is given out again: its generation ended before it was done.
    Again(Step),
    /// The training set has this many samples.
    Samples(u64),
    /// Something worth a line, and the trace of the generation it is about, where that is kept.
    Notice(Notice, Option<Context>),
    /// Every step is durable, and these stitches were chosen.
    Finished {
        /// What each rule chose.
        palettes: Vec<(PaletteRule, Vec<Choice>)>,
        /// The final table.
        table: Arc<Table>,
    },
    /// Here something is missing: this observer was too far behind.
    Missed,
}

/// Where the time of some reports went, in sum: what observers are told does not grow with the ranks.
#[derive(Debug, Clone, Default)]
pub struct TimeSpent {
    /// How many reports.
    pub reports: u32,
    /// The sums over their steps.
    pub phases: Phases<Duration>,
}

impl TimeSpent {
    /// Adds a report.
    pub fn add(&mut self, timings: &StepTimings) {
        self.sum(&Self { reports: 1, phases: timings.phases() });
    }

    /// Adds another sum.
    pub fn sum(&mut self, other: &Self) {
        self.reports += other.reports;
        self.phases += other.phases;
    }
}

/// Everybody who watches a run.
#[derive(Debug, Default)]
pub struct Observers(Vec<Sender>);

impl Observers {
    /// These observers; one that hangs up is no longer told.
    #[must_use]
    pub fn new(observers: Vec<Sender>) -> Self {
        Self(observers)
    }

    /// Tells everybody who still listens.
    pub(crate) fn tell(&mut self, observation: &Observation) {
        self.0.retain_mut(|observer| observer.send(observation));
    }
}
