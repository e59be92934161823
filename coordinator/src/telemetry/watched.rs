//! Everything that is measured and traced of a leader's work, in one hand (HANDS): the leader says what it does, and no more.

use std::time::{Duration, SystemTime};

use esta_engine::run::{Ledger, Notice, Run, StepRecord};
use esta_proto::{Generation, SlotId, Step};
use esta_telemetry::trace::Context;

use super::{
    meters::{FirstReports, Meters},
    tracks::Tracks,
};

/// What is measured and traced of the leader's work.
pub struct Watched {
    meters: Meters,
    tracks: Tracks,
    reports: FirstReports,
    /// No step from this one on was ever given out by this leader.
    given_out: Step,
    /// The step that was given out last, and the generation that it was given to.
    last: Option<(Step, Generation)>,
    duplicates: u64,
    /// The generation that was prepared last.
    prepared: Option<Generation>,
    formed: bool,
}

impl Watched {
    /// Of a run, as its leader found it.
    #[must_use]
    pub fn new(run: &Run, run_id: &str) -> Self {
        Self {
            meters: Meters::new(),
            tracks: Tracks::new(run, run_id),
            reports: FirstReports::default(),
            given_out: run.durable(),
            last: None,
            duplicates: 0,
            prepared: None,
            formed: false,
        }
    }

    /// A report came; of a step that nobody waits for it says nothing.
    pub fn reported(&mut self, run: &Run, step: Step, from: Option<Context>) {
        let due = |ledger: &Ledger| step >= run.durable() && ledger.drawn(step, SlotId(0)).is_some();
        if run.ledger().is_some_and(due) {
            self.reports.note(step);
            self.tracks.reported(step, from);
        }
    }

    /// The law has handled an event.
    pub fn handled(&mut self, run: &Run, began: SystemTime) {
        self.tracks.look(run, began);
        let duplicates = run.duplicates();
        if duplicates > self.duplicates {
            self.meters.duplicates(duplicates - self.duplicates);
            self.duplicates = duplicates;
        }
    }

    /// A rank of a generation is given a step; true for the first of them where another generation had been given it.
    pub fn gives_out_again(&mut self, step: Step, generation: Generation) -> bool {
        if self.last == Some((step, generation)) {
            return false;
        }
        self.last = Some((step, generation));
        self.tracks.stands();
        let again = step < self.given_out;
        self.given_out = self.given_out.max(step.next());
        if again {
            self.meters.lost();
        }
        again
    }

    /// The records of these steps are durable, by a write that took so long.
    pub fn durable(&mut self, steps: &[StepRecord], took: Duration) {
        if steps.is_empty() {
            return;
        }
        self.meters.written(took);
        for record in steps {
            if let Some(reported) = self.reports.take(record.step) {
                self.meters.durable(reported.elapsed());
            }
        }
        self.tracks.durable(steps);
    }

    /// Whatever went to the writer is durable: nobody says so any more where the leader ends.
    pub fn all_durable(&mut self) {
        self.tracks.all_durable();
    }

    /// Something happened to the run.
    pub fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Preparing(generation, _) => self.prepared = Some(*generation),
            Notice::Formed(generation, _) => {
                let planned = self.prepared == Some(*generation);
                self.meters.formed(match (planned, self.formed) {
                    (true, _) => "planned",
                    (false, true) => "loss",
                    (false, false) => "start",
                });
                self.formed = true;
            }
            _ => {}
        }
        self.tracks.note(notice);
        self.meters.note(notice);
    }

    /// Plans were drawn and handed out within this time.
    pub fn planned(&self, took: Duration) {
        self.meters.planned(took);
    }

    /// The trace of a step that is given out, for the messages that do so.
    pub fn hand_out(&mut self, step: Step) -> Option<Context> {
        self.tracks.hand_out(step)
    }

    /// The trace of a generation, for messages that are about it.
    #[must_use]
    pub fn of_generation(&self, generation: Generation) -> Option<Context> {
        self.tracks.of_generation(generation)
    }

    /// A step was committed by what the law handled since `began`.
    pub fn committed(&mut self, record: &StepRecord, ledger: Option<&Ledger>, began: SystemTime) {
        self.tracks.committed(record, ledger.map(Ledger::table), began);
    }
}
