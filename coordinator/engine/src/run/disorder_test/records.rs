//! A record in memory: what a leader wants written, in order, and how much of it is.

use std::collections::VecDeque;

use esta_proto::{Generation, Step};

use super::super::{Event, Record, Recovered, StepRecord};

/// Records that wait, and those that are durable.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub waiting: VecDeque<Record>,
    pub durable: Recovered,
    /// Every step that was ever durable.
    pub history: Vec<StepRecord>,
    trim: Step,
}

impl Records {
    /// The next record becomes durable; what the leader hears of that.
    pub fn write(&mut self) -> Option<Event> {
        match self.waiting.pop_front()? {
            Record::Step(record) => {
                let step = record.step;
                self.history.push(record.clone());
                self.durable.steps.push(record);
                Some(Event::Persisted(step))
            }
            Record::Generation(generation, members) => {
                (self.durable.generation, self.durable.members) = (generation, members);
                Some(Event::Recorded(generation))
            }
            Record::Complete => {
                self.durable.complete = true;
                Some(Event::Concluded)
            }
            Record::Samples(samples) => {
                self.durable.samples = Some(samples);
                None
            }
            Record::Checkpoint(step) => {
                self.durable.checkpoints.push(step);
                self.durable.checkpoints.sort_unstable();
                self.durable.checkpoints.dedup();
                None
            }
            Record::Snapshot(snapshot) => {
                self.durable.snapshot = Some(*snapshot);
                self.forget()
            }
            Record::Trim(step) => {
                self.trim = self.trim.max(step);
                self.forget()
            }
        }
    }

    /// What nobody can need again is not read again.
    fn forget(&mut self) -> Option<Event> {
        let first = self.durable.snapshot.as_ref().map(|snapshot| snapshot.committed.min(self.trim));
        self.durable.steps.retain(|record| first.is_none_or(|first| record.step >= first));
        None
    }

    /// Steps that are durable.
    pub fn committed(&self) -> Step {
        Step(self.history.len() as u64)
    }

    /// The last generation that is durable.
    pub fn generation(&self) -> Generation {
        self.durable.generation
    }
}
