//! Row D2: a million reports, some of them doubled, some overtaken by others, under one leader after another; the table
//! is that of a serial replay of the record, bit for bit (SC-2).
//!
//! Both laws are real. In between there is nothing but the order in which things are heard, which a seed decides: what
//! streams promise is not promised here.

mod hostile;
mod leading;
mod working;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use esta_engine::{
    law::Law,
    order::EpochCache,
    run::{Event, Message, Record, Run},
};
use esta_proto::{Fence, Generation, SessionId, Step};
use esta_worker_engine::{Reply, Session};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::{
    clock::Clock,
    invariants::{Violation, equals_the_serial_replay, equals_the_undisturbed_run},
    job::{self, Chain},
    record::Store,
};

/// How much there is to hear, and how disorderly.
#[derive(Debug, Clone)]
pub struct Load {
    /// Ranks that report every step.
    pub ranks: u32,
    /// Steps of the run.
    pub steps: u64,
    /// Slots of a step.
    pub slots: u32,
    /// Share of everything heard that was heard before.
    pub doubled: f64,
    /// Share of the reports that others overtake.
    pub overtaken: f64,
    /// Leaders that are gone without a word.
    pub failovers: u32,
    /// Messages of somebody who is no member, per message that is heard: bytes of anything, and of what workers said,
    /// spoilt.
    pub hostile: f64,
}

impl Load {
    /// The row as it stands: 10^6 reports, 20 % of them duplicates, 10 % out of order, three failovers.
    #[must_use]
    pub fn d2() -> Self {
        Self { ranks: 40, steps: 20_500, slots: 16, doubled: 0.21, overtaken: 0.14, failovers: 3, hostile: 0.0 }
    }
}

/// What was heard.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Reports that a leader heard.
    pub reports: u64,
    /// Those among them that had been heard before, from the same rank.
    pub doubled: u64,
    /// Those that were sent before others that were heard first.
    pub overtaken: u64,
    /// Leaders that went.
    pub failovers: u32,
    /// Generations that outlived their leader.
    pub resumed: u32,
    /// Committed steps.
    pub steps: u64,
    /// Messages of somebody who is no member.
    pub hostile: u64,
    /// Scores that entered the table: those of steps that were not skipped.
    pub scores: u64,
}

/// Something that is heard.
#[derive(Debug)]
enum Heard {
    /// A worker says something; a report carries the place it was sent at.
    Said(usize, Fence, Box<Reply>, Option<Sent>),
    /// The record of a term of office is written as far as it was queued.
    Written(u64),
}

/// A report on its way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    number: u64,
    again: bool,
}

/// A worker: its law, and what it has to run.
struct Worker {
    law: Session,
    session: SessionId,
    /// A leader knows the session.
    joined: bool,
    plans: VecDeque<(Generation, esta_engine::plan::RankPlan)>,
}

/// The adapters that every rank holds.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    applied: Step,
    chain: Chain,
}

struct Reports {
    law: Arc<Law>,
    load: Load,
    rng: ChaCha8Rng,
    clock: Clock<Heard>,
    store: Store,
    run: Run,
    fence: Fence,
    sessions: BTreeMap<SessionId, usize>,
    writing: Vec<Record>,
    pending: Vec<Record>,
    events: VecDeque<Event>,
    down: VecDeque<(usize, Fence, Message)>,
    workers: Vec<Worker>,
    state: State,
    order: EpochCache,
    hostile: hostile::Hostile,
    sent: u64,
    newest: u64,
    tally: Tally,
    complete: bool,
}

/// Runs a whole run under this load.
///
/// # Errors
/// [`Violation`] of the first invariant that does not hold.
pub fn hear_reports(seed: u64, load: &Load) -> Result<Tally, Violation> {
    Reports::new(seed, load.clone())?.run()
}

impl Reports {
    fn new(seed: u64, load: Load) -> Result<Self, Violation> {
        let law = job::long(load.steps, load.slots);
        let mut store = Store::default();
        let run = leading::begin_term(&law, &mut store, load.ranks)?;
        let worker = |index: u32| Worker {
            law: working::process(index, 1, &law),
            session: SessionId(0),
            joined: false,
            plans: VecDeque::new(),
        };
        let mut reports = Self {
            fence: run.fence(),
            run,
            store,
            rng: ChaCha8Rng::seed_from_u64(seed),
            clock: Clock::default(),
            sessions: BTreeMap::new(),
            writing: Vec::new(),
            pending: Vec::new(),
            events: VecDeque::new(),
            down: VecDeque::new(),
            workers: (0..load.ranks).map(worker).collect(),
            state: State::default(),
            order: job::order(&law),
            hostile: hostile::Hostile::new(seed),
            sent: 0,
            newest: 0,
            tally: Tally::default(),
            complete: false,
            law,
            load,
        };
        reports.everybody_connects();
        Ok(reports)
    }

    fn run(mut self) -> Result<Tally, Violation> {
        let reports = u64::from(self.load.ranks) * self.load.steps;
        let mut terms: VecDeque<u64> = (1..=u64::from(self.load.failovers))
            .map(|term| {
                reports * term / u64::from(self.load.failovers + 1) + self.rng.random_range(0..self.load.ranks as u64)
            })
            .collect();
        while !self.complete {
            if terms.front().is_some_and(|due| self.newest >= *due) {
                terms.pop_front();
                self.fail_over()?;
            }
            let Some(heard) = self.clock.next() else {
                let what = format!("nothing is left to hear after {} steps", self.store.history.len());
                return Err(Violation::new("progress", what));
            };
            match heard {
                Heard::Said(worker, fence, reply, sent) => self.said(worker, fence, *reply, sent)?,
                Heard::Written(epoch) => self.written(epoch)?,
            }
            self.reduce()?;
        }
        let table = self.run.ledger().expect("a run that is complete has a table").table();
        equals_the_serial_replay(&self.law, &self.store.history, table)?;
        equals_the_undisturbed_run(&self.law, &job::calm(&self.law), &self.store.history)?;
        self.tally.steps = self.store.history.len() as u64;
        self.tally.scores = table.rows().iter().map(|row| row.visits).sum();
        Ok(self.tally)
    }

    /// When something sent now is heard: behind what was sent before, or behind some of what is yet to be sent.
    fn moment(&mut self, behind: u64) -> Duration {
        self.clock.now() + Duration::from_nanos(1 + behind)
    }
}
