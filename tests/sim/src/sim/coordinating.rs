//! Coordinators: leadership, the record, and carrying out what the law of a run decides.

use std::time::Duration;

use esta_engine::run::{Command, Event, Notice, Record};
use esta_proto::{SessionId, Step};

use super::{Happening, Sim};
use crate::{
    coordinator::Office,
    invariants::{Violation, leads_alone, mb_2},
    network::{Process, Way},
};

impl Sim {
    pub(super) fn restart_coordinator(&mut self, index: usize) {
        let coordinator = &mut self.coordinators[index];
        if !coordinator.alive {
            coordinator.alive = true;
            coordinator.process.life += 1;
            self.clock.after(Duration::ZERO, Happening::Campaign(coordinator.process));
        }
    }

    /// A coordinator's process is gone, and its connections with it.
    pub(super) fn falls(&mut self, index: usize, restart: Duration) -> Result<(), Violation> {
        let process = self.coordinators[index].process;
        if !self.coordinators[index].alive {
            return Ok(());
        }
        self.coordinators[index].alive = false;
        self.coordinators[index].paused_until = Duration::ZERO;
        if let Some(office) = self.coordinators[index].office.take() {
            self.leaves_behind(process, office.pen.queue)?;
        }
        for line in self.network.of(|line| line.coordinator == process) {
            self.ends_at(line, Way::Down);
        }
        self.clock.after(restart, Happening::Restart(index));
        Ok(())
    }

    pub(super) fn left(&mut self, coordinator: Process, session: SessionId) -> Result<(), Violation> {
        let Some(office) = self.office(coordinator) else { return Ok(()) };
        if office.sessions.remove(&session).is_some() {
            office.events.push_back(Event::Left(session));
        }
        self.settle(coordinator)
    }

    pub(super) fn office(&mut self, process: Process) -> Option<&mut Office> {
        let coordinator = &mut self.coordinators[process.index];
        coordinator.office.as_mut().filter(|_| coordinator.process == process && coordinator.alive)
    }

    pub(super) fn tick(&mut self, process: Process, due: Duration) -> Result<(), Violation> {
        // Before its clock was meddled with it was to be later.
        let early = self.coordinators[process.index].clock.shows(self.clock.now()) < due;
        let Some(office) = self.office(process).filter(|office| office.tick == Some(due) && !early) else {
            return Ok(());
        };
        (office.tick, office.ticked) = (None, Some(due));
        office.events.push_back(Event::Tick);
        self.settle(process)
    }

    /// Lets the law decide about everything that happened, and about what follows from carrying its commands out.
    pub(super) fn settle(&mut self, process: Process) -> Result<(), Violation> {
        // One that slept through its lease finds out before it says a word.
        if self.office(process).is_some() && self.is_expired(process) {
            return self.falls(process.index, Duration::from_millis(300));
        }
        let own = self.coordinators[process.index].clock.clone();
        let now = own.shows(self.clock.now());
        loop {
            let Some(office) = self.office(process) else { return Ok(()) };
            let Some(event) = office.events.pop_front() else { break };
            for command in office.run.handle(event, now - office.since) {
                self.carry_out(process, command)?;
            }
        }
        self.write_on(process);
        let Some(office) = self.office(process) else { return Ok(()) };
        let due = office.run.poll_timeout().map(|due| office.since + due);
        if due.is_some() && office.tick != due && office.ticked != due {
            office.tick = due;
            let due = due.unwrap_or_default();
            self.clock.at(own.moment(due), Happening::Tick(process, due));
        }
        Ok(())
    }

    fn carry_out(&mut self, process: Process, command: Command) -> Result<(), Violation> {
        let Some(office) = self.office(process) else { return Ok(()) };
        match command {
            Command::Send(session, message) => {
                let (fence, sound) = (office.fence, office.sound);
                leads_alone(sound, fence.epoch, self.store.epoch)?;
                mb_2(&message, Step(self.store.history.len() as u64))?;
                let Some(office) = self.office(process) else { return Ok(()) };
                if let Some(line) = office.sessions.get(&session).copied() {
                    self.post(line, Way::Down, |line| Happening::Down(line, fence, message));
                }
            }
            Command::Close(session) => {
                // The stream ends after what was sent before.
                if let Some(line) = office.sessions.remove(&session) {
                    let worker = self.network.line(line).map(|line| line.worker);
                    if let Some(worker) = worker {
                        self.post(line, Way::Down, |line| Happening::Disconnected(worker, line));
                    }
                }
            }
            Command::Evict(session, _) => {
                if let Some(line) = office.sessions.remove(&session) {
                    office.events.push_back(Event::Left(session));
                    self.reset(line);
                }
            }
            Command::Persist(record) => {
                if let Record::Generation(generation, _) = &record {
                    office.fence.generation = *generation;
                }
                office.pending.push(record);
            }
            Command::Notice(Notice::Resumed(_)) => self.resumed += 1,
            Command::Notice(Notice::Failed(reason)) => self.failed = Some(reason),
            Command::Notice(Notice::RedoDiffers(step)) if !self.somebody_differs() => {
                return Err(Violation::new("SC-2", format!("step {step} done again gave other numbers")));
            }
            Command::Notice(Notice::TurnedAway(name, reason)) => {
                // A process that was started while its predecessor's session still stood, or that came after the end.
                if self.verbose {
                    eprintln!("turned away: {name}: {reason}");
                }
            }
            Command::Notice(_) => {}
            Command::Complete if self.failed.is_some() => {}
            Command::Complete if !self.concluded => {
                return Err(Violation::new("end", "the run is complete, and nobody wrote its results"));
            }
            Command::Complete => self.complete = true,
        }
        Ok(())
    }
}
