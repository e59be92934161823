//! What the leader lets others see (HANDS): committed steps, notices, the choice at the end. Watching costs the leader
//! one send on an unbounded queue; a slow observer delays nobody.

use std::{
    sync::{Arc, mpsc::Sender},
    time::Duration,
};

use esta_engine::{
    palette::Choice,
    run::{Notice, StepRecord, StepTimings},
    spec::PaletteRule,
    table::Table,
};
use esta_proto::Step;

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
    /// A rank has finished a step and says where its time went.
    Timed(StepTimings),
    /// The training set has this many samples.
    Samples(u64),
    /// Something worth a line.
    Notice(Notice),
    /// Every step is durable, and these stitches were chosen.
    Finished {
        /// What each rule chose.
        palettes: Vec<(PaletteRule, Vec<Choice>)>,
        /// The final table.
        table: Arc<Table>,
    },
}

/// Everybody who watches a run.
#[derive(Debug, Default)]
pub struct Observers(Vec<Sender<Observation>>);

impl Observers {
    /// These observers; one that hangs up is no longer told.
    #[must_use]
    pub fn new(observers: Vec<Sender<Observation>>) -> Self {
        Self(observers)
    }

    /// Tells everybody who still listens.
    pub(crate) fn tell(&mut self, observation: &Observation) {
        self.0.retain(|observer| observer.send(observation.clone()).is_ok());
    }
}
