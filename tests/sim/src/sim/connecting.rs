//! Sessions: how a worker comes to have one, what is sent on it, and how it ends at either end.

use std::time::Duration;

use esta_proto::SessionId;
use esta_worker_engine::Event;
use rand::RngExt;

use super::{Happening, Sim};
use crate::{
    invariants::Violation,
    network::{Process, Way},
};

/// A connection that carries nothing is noticed by its keepalive.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// A coordinator that does not answer is given up after this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before the next attempt.
const RETRY: Duration = Duration::from_millis(500);
/// The longest that something takes on a slow way.
const SLOW: Duration = Duration::from_secs(15);

impl Sim {
    /// How long something takes between a worker and a coordinator.
    fn way(&mut self, worker: Process) -> Duration {
        let slow = self.workers[worker.index].slow_until > self.clock.now();
        self.delay() + if slow { self.upto(SLOW) } else { Duration::ZERO }
    }

    /// A worker asks the next coordinator to be let in.
    pub(super) fn connect(&mut self, process: Process, attempt: u64) {
        let worker = &mut self.workers[process.index];
        if !worker.runs(process) || worker.line.is_some() || worker.tries != attempt {
            return;
        }
        worker.tries += 1;
        let attempt = worker.tries;
        let target = attempt as usize % self.coordinators.len();
        let (to, way) = (self.coordinators[target].process, self.way(process));
        self.clock.after(way, Happening::Knock(process, to, attempt));
        self.clock.after(PATIENCE, Happening::Connect(process, attempt));
    }

    fn connect_again(&mut self, process: Process) {
        let (attempt, pause) = (self.workers[process.index].tries, self.upto(RETRY));
        self.clock.after(pause, Happening::Connect(process, attempt));
    }

    /// A coordinator that leads gives out the next session number, whether whoever asked still waits for it or not.
    pub(super) fn knock(&mut self, process: Process, coordinator: Process, attempt: u64) {
        let name = self.workers[process.index].name.clone();
        let Some(office) = self.office(coordinator) else {
            if self.workers[process.index].tries == attempt {
                self.connect_again(process);
            }
            return;
        };
        office.given_out += 1;
        let session = SessionId(office.given_out);
        office.expected.insert(name, session);
        let way = self.way(process);
        self.clock.after(way, Happening::Admitted(process, coordinator, session, attempt));
    }

    /// The worker says hello on a new session, if the coordinator is still there.
    pub(super) fn admitted(
        &mut self,
        process: Process,
        coordinator: Process,
        session: SessionId,
        attempt: u64,
    ) -> Result<(), Violation> {
        let worker = &self.workers[process.index];
        if !worker.runs(process) || worker.line.is_some() || worker.tries != attempt {
            return Ok(());
        }
        if self.office(coordinator).is_none() {
            self.connect_again(process);
            return Ok(());
        }
        let line = self.network.open(process, coordinator, session);
        let worker = &mut self.workers[process.index];
        (worker.line, worker.heard) = (Some(line), false);
        self.clock.after(KEEPALIVE, Happening::Unheard(process, line));
        self.advise(process, Event::Connected)
    }

    /// Sends a message, which arrives after those sent before it or not at all.
    pub(super) fn post(&mut self, line: u64, way: Way, message: impl FnOnce(u64) -> Happening) {
        let Some(worker) = self.network.line(line).map(|line| line.worker) else { return };
        let delay = self.way(worker);
        if let Some(moment) = self.network.send(line, way, self.clock.now(), delay) {
            self.clock.at(moment, message(line));
        }
    }

    /// A worker that heard nothing on its session gives it up. What it said there may yet arrive, and then its end.
    pub(super) fn unheard(&mut self, process: Process, line: u64) -> Result<(), Violation> {
        let worker = &self.workers[process.index];
        if worker.heard || !worker.runs(process) || worker.line != Some(line) {
            return Ok(());
        }
        self.network.lose(line, Way::Down);
        let last = self.network.stop(line, Way::Up);
        let way = self.way(process);
        self.hears_of_the_end(line, Way::Up, last.max(self.clock.now() + way));
        self.disconnected(process, line)
    }

    pub(super) fn disconnected(&mut self, process: Process, line: u64) -> Result<(), Violation> {
        if !self.workers[process.index].runs(process) || self.workers[process.index].line != Some(line) {
            return Ok(());
        }
        self.workers[process.index].line = None;
        self.connect_again(process);
        self.advise(process, Event::Disconnected)
    }

    /// A connection is reset: whoever of its ends lives hears of it.
    pub(super) fn reset(&mut self, line: u64) {
        self.ends_at(line, Way::Up);
        self.ends_at(line, Way::Down);
    }

    /// A connection is reset at one of its ends; the other finds out by its keepalive.
    pub(super) fn tear(&mut self, line: u64) {
        let (told, other) = if self.rng.random_bool(0.5) { (Way::Up, Way::Down) } else { (Way::Down, Way::Up) };
        self.ends_at(line, told);
        self.ends_within(line, other, KEEPALIVE);
    }

    /// A connection carries nothing any more, and both ends find out by their keepalives.
    pub(super) fn cut_off(&mut self, line: u64) {
        self.ends_within(line, Way::Up, KEEPALIVE);
        self.ends_within(line, Way::Down, KEEPALIVE);
    }

    /// The end to which this way leads is told at once that the connection is over. Nothing leaves the other one.
    pub(super) fn ends_at(&mut self, line: u64, way: Way) {
        let delay = self.delay();
        self.ends_within(line, way, delay);
    }

    /// What is under way to an end is lost, or comes before the end is heard of there.
    fn ends_within(&mut self, line: u64, way: Way, within: Duration) {
        if self.rng.random_bool(0.5) {
            self.network.lose(line, way);
        }
        let last = self.network.stop(line, way);
        self.hears_of_the_end(line, way, last.max(self.clock.now() + within));
    }

    fn hears_of_the_end(&mut self, line: u64, way: Way, moment: Duration) {
        let Some(known) = self.network.line(line) else { return };
        let heard = match way {
            Way::Up => Happening::Left(known.coordinator, known.session),
            Way::Down => Happening::Disconnected(known.worker, line),
        };
        self.clock.at(moment, heard);
    }
}
