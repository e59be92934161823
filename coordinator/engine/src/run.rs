//! A run as a state machine (LAW): `handle(event, now) -> commands`, no clock, no socket, no file.
//!
//! One enum, [`Command`], holds every effect: reading it is reading what a coordinator can do to the world.

mod activity;
mod admission;
mod agreement;
mod disputes;
mod finishing;
mod joining;
mod ledger;
mod liveness;
mod members;
mod message;
mod phases;
mod preparing;
mod resuming;
mod stepping;
mod tempo;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use esta_proto::{Fence, Generation, LeaderEpoch, SessionId, Step};

pub use activity::{Activity, Progress};
pub use ledger::{Ledger, ReplayError, Teller, Verdict};
pub use members::{Member, Members, Resumable};
pub use message::{
    Command, Event, Finish, Form, HeldShare, Hello, Message, Notice, Origin, Ready, Record, Report, Seat, Snapshot,
    Standing, StepRecord, StepTimings, Stop, exit,
};
pub use phases::Phases;
pub use tempo::{Normal, Tempo};

use self::{agreement::Agreement, preparing::Preparing, resuming::Predecessor};
use crate::{law::Law, pace::Pace};

/// How a run waits for its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Workers the first generation waits for.
    pub workers: u32,
    /// How long after the first of them the run begins with those that came.
    pub grace: Duration,
}

/// What the store remembers of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovered {
    /// Where the ledger was at some time; none in the first steps of a run.
    pub snapshot: Option<Snapshot>,
    /// Committed steps in order: from the first, or where there is a snapshot from the first that anybody may need.
    pub steps: Vec<StepRecord>,
    /// The last generation.
    pub generation: Generation,
    /// Names of its workers by rank; empty when there was none.
    pub members: Vec<String>,
    /// Samples of the training set, if a worker has said.
    pub samples: Option<u64>,
    /// Complete checkpoints, ascending.
    pub checkpoints: Vec<Step>,
    /// The results are written.
    pub complete: bool,
}

impl Recovered {
    /// The number of durable steps.
    #[must_use]
    pub fn durable(&self) -> Step {
        let snapshot = self.snapshot.as_ref().map_or(Step(0), |snapshot| snapshot.committed);
        self.steps.last().map_or(snapshot, |record| record.step.next().max(snapshot))
    }
}

/// Where the current generation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A leader waits for the workers of the generation on record: they may still train.
    Resuming,
    /// No generation stands.
    Waiting,
    /// A generation is being recorded, then its process group is built and states are brought together.
    Forming,
    /// Steps are given out.
    Running(Cursor),
    /// All steps are durable; the writer finishes the run.
    Finishing,
    /// The results are written; that the run is complete is being recorded.
    Concluding,
    /// Nothing is left to do.
    Over,
}

/// Progress of one generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    /// The next step to give out.
    next: Step,
    /// Steps that the generation has finished.
    reported: Step,
    /// Another group takes over: give out nothing more.
    closing: bool,
    /// When the step in flight began: every rank had done the one before it. Unknown where another leader saw it.
    began: Option<Duration>,
    /// The step in flight, and how many lived, when it was last weighed whether to let somebody in before its end.
    weighed: Option<(Step, usize)>,
}

/// The law of one run under one leader.
#[derive(Debug, Clone)]
pub struct Run {
    law: Arc<Law>,
    epoch: LeaderEpoch,
    patience: Patience,
    members: Members,
    /// Known once the size of the training set is.
    ledger: Option<Ledger>,
    samples: Option<u64>,
    durable: Step,
    phase: Phase,
    /// When the first worker of a run that has not begun came.
    first_join: Option<Duration>,
    /// Generations in a row that broke before they finished a step.
    barren: u32,
    /// Steps in a row that were committed as skipped under this leader.
    skipped: u32,
    /// Score vectors that this leader was sent of steps whose scores it knew.
    duplicates: u64,
    /// What slots were seen to take. A share is packed once, by the leader that gives the step out.
    pace: Pace,
    /// Since when the group of the current generation is built, and how long it took to build the last one.
    forming: (Duration, Duration),
    /// What is normal among the ranks' tempi, as of the last step that all of them did.
    normal: Option<Normal>,
    /// A generation has been formed under this leader.
    stood: bool,
    /// Nobody who is here holds a state from which the run can go on: only who comes next can change that.
    stranded: bool,
    /// What the ranks of the current generation say of each other's adapters.
    agreement: Agreement,
    /// Reports of steps from this one on are not believed before the next generation stands: a rank with other adapters
    /// took part in them.
    distrusted: Option<Step>,
    /// The generation that this leader found on record.
    predecessor: Predecessor,
    /// The group of the generation to come.
    preparing: Preparing,
    /// What the members of a generation are told once it is on record.
    forms: Vec<(SessionId, Form)>,
    /// When silent workers are looked for next.
    next_look: Option<Duration>,
    /// Complete checkpoints retained by the workers.
    checkpoints: BTreeSet<Step>,
    /// What the ledger is made of once the size of the training set is known.
    recovered: (Option<Snapshot>, Vec<StepRecord>),
}

impl Run {
    /// A run under the leader of this epoch, going on from what the store remembers.
    ///
    /// # Errors
    /// [`ReplayError`] when the record is not one that this run would have made.
    pub fn new(
        law: Arc<Law>,
        epoch: LeaderEpoch,
        patience: Patience,
        recovered: Recovered,
    ) -> Result<Self, ReplayError> {
        let mut run = Self {
            law,
            epoch,
            patience,
            durable: recovered.durable(),
            predecessor: Predecessor { generation: recovered.generation, names: recovered.members },
            members: Members::after(recovered.generation),
            ledger: None,
            samples: None,
            phase: Phase::Waiting,
            first_join: None,
            barren: 0,
            skipped: 0,
            duplicates: 0,
            pace: Pace::default(),
            forming: (Duration::ZERO, Duration::ZERO),
            normal: None,
            stood: false,
            stranded: false,
            agreement: Agreement::default(),
            distrusted: None,
            preparing: Preparing::default(),
            forms: Vec::new(),
            next_look: None,
            checkpoints: recovered.checkpoints.into_iter().collect(),
            recovered: (recovered.snapshot, recovered.steps),
        };
        run.drop_old_checkpoints();
        if let Some(samples) = recovered.samples {
            run.open_ledger(samples)?;
        }
        if run.ledger.is_some() && !run.predecessor.names.is_empty() {
            run.phase = Phase::Resuming;
            run.agreement = Agreement::awaiting(run.predecessor.names.len(), run.durable);
        }
        Ok(run)
    }

    /// The current fence.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { epoch: self.epoch, generation: self.members.generation() }
    }

    /// Plans and table, once the size of the training set is known.
    #[must_use]
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// The law of the run.
    #[must_use]
    pub fn law(&self) -> &Arc<Law> {
        &self.law
    }

    /// Who takes part.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The number of durable steps.
    #[must_use]
    pub fn durable(&self) -> Step {
        self.durable
    }

    /// Workers that the first generation waits for.
    #[must_use]
    pub fn expected_workers(&self) -> u32 {
        self.patience.workers
    }

    /// Score vectors that this leader was sent of steps whose scores it knew: they changed nothing.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// One word for where the run is.
    #[must_use]
    pub fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Resuming => "resuming",
            Phase::Waiting => "waiting",
            Phase::Forming => "forming",
            Phase::Running(_) => "running",
            Phase::Finishing | Phase::Concluding => "finishing",
            Phase::Over => "over",
        }
    }

    /// Whether all that is missing is the record of its end.
    #[must_use]
    pub fn is_concluding(&self) -> bool {
        self.phase == Phase::Concluding
    }

    /// When the run wants to be ticked if nothing happens, on the clock of `handle`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        let waits = self.phase == Phase::Waiting && !self.stood && !self.stranded;
        let company = self.first_join.filter(|_| waits).map(|since| since + self.patience.grace);
        let look = self.next_look.filter(|_| self.phase != Phase::Over);
        [company, look, self.resume_until()].into_iter().flatten().min()
    }

    /// Takes in what happened at `now` and answers what to do, in order.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Command> {
        let mut out = Vec::new();
        if let Some(session) = event.session() {
            self.hear(session, now);
        }
        match event {
            Event::Joined(session, hello) => self.joined(session, &hello, now, &mut out),
            Event::Left(session) => self.left(session, now, &mut out),
            Event::GroupReady(session, fence, ready) => self.group_ready(session, fence, ready, now, &mut out),
            Event::GroupFailed(session, fence, reason) => self.group_failed(session, fence, &reason, now, &mut out),
            Event::GroupPrepared(session, fence) => self.group_prepared(session, fence, now, &mut out),
            Event::Reported(session, report) => self.reported(session, &report, now, &mut out),
            Event::Persisted(step) => self.persisted(step, &mut out),
            Event::Recorded(generation) => self.announce(generation, now, &mut out),
            Event::CheckpointSaved(session, step) => self.checkpoint_saved(session, step, &mut out),
            Event::FinaleDone(session, writer) => self.finale_done(session, writer, &mut out),
            Event::Concluded => self.concluded(&mut out),
            Event::Heard(session, progress) => self.progressed(session, progress),
            Event::Draining(session) => self.draining(session, now, &mut out),
            Event::Tick => {
                self.look(now, &mut out);
                self.resume_if_due(now, &mut out);
                self.form_if_due(now, &mut out);
            }
        }
        out
    }
}

#[cfg(test)]
#[path = "run/absence_test.rs"]
mod absence_tests;
#[cfg(test)]
#[path = "run/admission_test.rs"]
mod admission_tests;
#[cfg(test)]
#[path = "run/disorder_test.rs"]
mod disorder_tests;
#[cfg(test)]
#[path = "run/facts_test.rs"]
mod facts_tests;
#[cfg(test)]
#[path = "run/finishing_test.rs"]
mod finishing_tests;
#[cfg(test)]
#[path = "run/groups_test.rs"]
mod groups_tests;
#[cfg(test)]
#[path = "run/preparing_test.rs"]
mod preparing_tests;
#[cfg(test)]
#[path = "run/run_test.rs"]
mod tests;
#[cfg(test)]
#[path = "run/world_test.rs"]
mod world;
