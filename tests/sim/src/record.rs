//! The record that coordinators share: what is durable, who may write, and how long writing takes.

use std::time::Duration;

use esta_engine::run::{Record, Recovered, StepRecord};
use esta_proto::{Generation, LeaderEpoch, Step};

use crate::{invariants::Violation, network::Process};

/// A record that outlives every process.
#[derive(Debug, Default)]
pub struct Store {
    /// The last term of office begun. A write of an earlier one is refused.
    pub epoch: LeaderEpoch,
    content: Recovered,
    /// Every step that was ever durable.
    pub history: Vec<StepRecord>,
    trim: Step,
    /// Transactions that were ever written.
    written: u64,
    /// Who holds the lease and until when by the store's clock; where one coordinator is alone with its file there is none.
    lease: Option<(Process, Duration)>,
}

/// A transaction in its turn. It may be sent any number of times, and arrive when nobody waits for it any more.
#[derive(Debug, Clone)]
pub struct Write {
    /// Of whose term of office it is.
    pub epoch: LeaderEpoch,
    /// Counted from the record's first, which is 1.
    pub number: u64,
    /// What it writes: all or nothing.
    pub records: Vec<Record>,
}

/// What became of a transaction that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is written, by this attempt or an earlier one.
    Written,
    /// Somebody else leads, or nobody does.
    Deposed,
    /// It is not its turn, though its writer leads.
    OutOfTurn,
}

impl Store {
    /// Gives the lease to whoever asks first once the last one is over, and begins its term of office.
    pub fn grant(&mut self, process: Process, now: Duration, lease: Duration) -> Option<(LeaderEpoch, Recovered)> {
        if self.lease.is_some_and(|(_, until)| until > now) {
            return None;
        }
        self.lease = Some((process, now + lease));
        Some(self.begin_term())
    }

    /// Prolongs the lease of whoever holds it still.
    pub fn renew(&mut self, process: Process, now: Duration, lease: Duration) -> bool {
        let held = self.lease.as_mut().filter(|(holder, until)| *holder == process && *until > now);
        held.map(|(_, until)| *until = now + lease).is_some()
    }

    /// Begins a term of office.
    pub fn begin_term(&mut self) -> (LeaderEpoch, Recovered) {
        self.epoch = LeaderEpoch(self.epoch.0 + 1);
        (self.epoch, self.content.clone())
    }

    /// What is durable.
    pub fn content(&self) -> &Recovered {
        &self.content
    }

    /// How many transactions were ever written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Makes the records of a transaction durable where its turn has come and its writer leads still.
    pub fn transact(&mut self, now: Duration, write: &Write) -> Result<Fate, Violation> {
        if write.epoch != self.epoch || self.lease.is_some_and(|(_, until)| until <= now) {
            return Ok(Fate::Deposed);
        }
        if write.number == self.written {
            return Ok(Fate::Written);
        }
        if write.number != self.written + 1 {
            return Ok(Fate::OutOfTurn);
        }
        for record in &write.records {
            self.put(record.clone())?;
        }
        self.written = write.number;
        Ok(Fate::Written)
    }

    /// Makes a group of records durable at once.
    pub fn append(&mut self, now: Duration, records: Vec<Record>) -> Result<Fate, Violation> {
        let write = Write { epoch: self.epoch, number: self.written + 1, records };
        self.transact(now, &write)
    }

    fn put(&mut self, record: Record) -> Result<(), Violation> {
        match record {
            Record::Step(record) => {
                let due = Step(self.history.len() as u64);
                if record.step != due {
                    return Err(Violation::new("SC-2", format!("step {} is recorded where {due} is due", record.step)));
                }
                self.history.push(record.clone());
                self.content.steps.push(record);
            }
            Record::Generation(generation, members) => {
                let last: Generation = self.content.generation;
                if generation <= last {
                    return Err(Violation::new("MB-1", format!("generation {generation} is recorded after {last}")));
                }
                (self.content.generation, self.content.members) = (generation, members);
            }
            Record::Checkpoint(step) => {
                if !self.content.checkpoints.contains(&step) {
                    self.content.checkpoints.push(step);
                    self.content.checkpoints.sort_unstable();
                }
            }
            Record::Samples(samples) => self.content.samples = Some(samples),
            Record::Snapshot(snapshot) => {
                if snapshot.committed != Step(self.history.len() as u64) {
                    let what = format!("a snapshot of {} steps follows {}", snapshot.committed, self.history.len());
                    return Err(Violation::new("SC-2", what));
                }
                self.content.snapshot = Some(*snapshot);
                self.compact();
            }
            Record::Complete => self.content.complete = true,
            Record::Trim(step) => {
                self.trim = self.trim.max(step);
                self.compact();
            }
        }
        Ok(())
    }

    /// What nobody can need again goes, as in a store that has little room.
    fn compact(&mut self) {
        let Some(snapshot) = &self.content.snapshot else { return };
        let first = snapshot.committed.min(self.trim);
        self.content.steps.retain(|record| record.step >= first);
    }
}
