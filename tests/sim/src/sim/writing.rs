//! The way to the record. A file is written by the coordinator that has it open, whole or not at all. What several share
//! is asked to write one transaction after another: a question may be lost, or its answer, or arrive when nobody waits for
//! it any more, its coordinator perhaps gone. So each is sent until it is answered, and written in its turn or never.

use std::{collections::VecDeque, time::Duration};

use esta_engine::run::{Event, Record};
use rand::RngExt;

use super::{Happening, Sim};
use crate::{
    coordinator::Pen,
    invariants::Violation,
    network::Process,
    record::{Fate, Write},
};

/// An answer is waited for so long, then twice as long, and so on up to the longest.
const ATTEMPT: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest that a question takes on a slow way.
const SLOW: Duration = Duration::from_secs(6);

impl Sim {
    /// Several coordinators need a lease; one is alone with its file.
    pub(super) fn leased(&self) -> bool {
        self.coordinators.len() > 1
    }

    /// How long a question takes to the store.
    pub(super) fn way_to_store(&mut self, process: Process) -> Duration {
        let slow = self.coordinators[process.index].store.slow_until > self.clock.now();
        self.delay() + if slow { self.upto(SLOW) } else { Duration::ZERO }
    }

    /// Whether the store hears this coordinator, and it the store.
    pub(super) fn reaches_store(&self, process: Process) -> bool {
        self.coordinators[process.index].store.cut_until <= self.clock.now()
    }

    /// Whether the store's answers find their way to this coordinator.
    pub(super) fn is_answered(&self, process: Process) -> bool {
        self.coordinators[process.index].store.mute_until <= self.clock.now()
    }

    /// Whatever waits is written as one group.
    pub(super) fn write_on(&mut self, process: Process) {
        let Some(office) = self.office(process) else { return };
        if office.pending.is_empty() || !office.pen.queue.is_empty() {
            return;
        }
        let group = std::mem::take(&mut office.pending);
        let queue = if self.leased() { self.parted(group) } else { VecDeque::from([group]) };
        if let Some(office) = self.office(process) {
            office.pen.queue = queue;
        }
        self.send_write(process, 1);
    }

    /// The transactions of a group: what is too large for one is parted, and before a snapshot the older ones go alone.
    fn parted(&mut self, group: Vec<Record>) -> VecDeque<Vec<Record>> {
        let mut parts: VecDeque<Vec<Record>> = VecDeque::new();
        let mut ends = true;
        for record in group {
            let goes_on = !ends && !self.rng.random_bool(0.1);
            ends = matches!(record, Record::Snapshot(_));
            match parts.back_mut().filter(|_| goes_on) {
                Some(part) => part.push(record),
                None => parts.push_back(vec![record]),
            }
        }
        parts
    }

    fn send_write(&mut self, process: Process, attempt: u32) {
        let (leased, disk) = (self.leased(), self.weather.disk);
        let took = Duration::from_micros(200) + self.upto(disk);
        let way = if leased { self.way_to_store(process) } else { Duration::ZERO };
        let Some(office) = self.office(process) else { return };
        let Some(records) = office.pen.queue.front().cloned() else { return };
        office.pen.attempt = attempt;
        let (number, epoch) = (office.pen.written + 1, office.epoch);
        let write = Box::new(Write { epoch, number, records });
        self.clock.after(way + took, Happening::Landed(process, write, attempt));
        if leased {
            let patience = (ATTEMPT * 2_u32.saturating_pow(attempt - 1)).min(LONGEST);
            self.clock.at(self.later(process, patience + PAUSE), Happening::Overdue(process, number, attempt));
        }
    }

    pub(super) fn landed(&mut self, process: Process, write: &Write, attempt: u32) -> Result<(), Violation> {
        let now = self.clock.now();
        if !self.leased() {
            let cut_until = self.coordinators[process.index].store.cut_until;
            if cut_until > now {
                self.clock.at(cut_until, Happening::Landed(process, Box::new(write.clone()), attempt));
                return Ok(());
            }
            // Nobody opens a file that another one writes.
            if self.office(process).is_none() {
                return Ok(());
            }
            let fate = self.store.transact(now, write)?;
            return self.answered(process, write.number, attempt, fate);
        }
        if self.unsent.contains(&process) || !self.reaches_store(process) {
            return Ok(());
        }
        let fate = self.store.transact(now, write)?;
        if self.is_answered(process) {
            let delay = self.delay();
            self.clock.after(delay, Happening::Answered(process, write.number, attempt, fate));
        }
        Ok(())
    }

    pub(super) fn answered(
        &mut self,
        process: Process,
        number: u64,
        attempt: u32,
        fate: Fate,
    ) -> Result<(), Violation> {
        let heard = !self.leased() || self.reaches_store(process);
        let Some(office) = self.office(process).filter(|_| heard) else { return Ok(()) };
        if (office.pen.written + 1, office.pen.attempt) != (number, attempt) {
            return Ok(());
        }
        match fate {
            // It stops serving and begins anew as a standby.
            Fate::Deposed => return self.falls(process.index, Duration::from_millis(300)),
            Fate::OutOfTurn => {
                let what = format!("transaction {number} of {process:?} is not in its turn, though it leads");
                return Err(Violation::new("MB-1", what));
            }
            Fate::Written => {}
        }
        office.pen.written = number;
        let written = office.pen.queue.pop_front().unwrap_or_default();
        office.pen.done.extend(written);
        if office.pen.queue.is_empty() {
            return self.written(process);
        }
        self.send_write(process, 1);
        Ok(())
    }

    /// The law hears of a group that is written.
    fn written(&mut self, process: Process) -> Result<(), Violation> {
        let Some(office) = self.office(process) else { return Ok(()) };
        let records = std::mem::take(&mut office.pen.done);
        let generation = records.iter().rev().find_map(|record| match record {
            Record::Generation(generation, _) => Some(*generation),
            _ => None,
        });
        let step = records.iter().rev().find_map(|record| match record {
            Record::Step(step) => Some(step.step),
            _ => None,
        });
        office.events.extend(generation.map(Event::Recorded));
        office.events.extend(step.map(Event::Persisted));
        office.events.extend(records.contains(&Record::Complete).then_some(Event::Concluded));
        self.settle(process)
    }

    /// An attempt that got no answer is given up, and the next one is given twice as long.
    pub(super) fn overdue(&mut self, process: Process, number: u64, attempt: u32) {
        let waits = |pen: &Pen| (pen.written + 1, pen.attempt) == (number, attempt) && !pen.queue.is_empty();
        if self.office(process).is_some_and(|office| waits(&office.pen)) {
            self.send_write(process, attempt + 1);
        }
    }

    /// What a leader that falls was writing is durable or is not. What it has asked of a store may yet be done.
    pub(super) fn leaves_behind(&mut self, process: Process, queue: VecDeque<Vec<Record>>) -> Result<(), Violation> {
        let lost = self.rng.random_bool(0.5);
        if self.leased() && lost {
            self.unsent.insert(process);
        } else if !self.leased() && !lost {
            let records: Vec<Record> = queue.into_iter().flatten().collect();
            self.store.append(self.clock.now(), records)?;
        }
        Ok(())
    }
}
