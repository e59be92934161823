//! Everything that happens, one value each, and whom it happens to.

use std::time::Duration;

use esta_engine::{
    run::{Message, Recovered},
    table::Outcome,
};
use esta_proto::{Fence, Generation, LeaderEpoch, SessionId};
use esta_worker_engine::{Event as WorkerEvent, Reply, TrainerEvent};

use super::Sim;
use crate::{
    group::State,
    invariants::Violation,
    network::Process,
    record::{Fate, Write},
};

/// Something that happens.
#[derive(Debug)]
pub(super) enum Happening {
    /// A worker's process is started.
    Start(usize),
    /// A worker looks for a coordinator, unless it has done so since this many attempts.
    Connect(Process, u64),
    /// It asks a coordinator to be let in.
    Knock(Process, Process, u64),
    /// It hears that it is, under this number.
    Admitted(Process, Process, SessionId, u64),
    /// It gives up a session on which it has heard nothing.
    Unheard(Process, u64),
    /// A message reaches a coordinator.
    Up(u64, Fence, Reply),
    /// A message reaches a worker.
    Down(u64, Fence, Message),
    /// A coordinator hears that a session ended.
    Left(Process, SessionId),
    /// A worker hears that its session ended.
    Disconnected(Process, u64),
    /// A heartbeat is due.
    Beat(Process),
    /// A trainer is done with what it was at.
    Trained(Process, u64),
    /// A trainer has done the slot in hand and sees that the rest of its share is in vain.
    GaveUp(Process, u64),
    /// A trainer hears that its group stands, in this state or not at all.
    Formed(Process, u64, Result<State, String>),
    /// A trainer hears what a step was reduced to.
    Reduced(Process, u64, Vec<Outcome>),
    /// A trainer has waited for its peers for as long as it does.
    Weary(Process, u64),
    /// A worker hears that a group to come stands.
    Prepared(Process, Fence),
    /// It hears that it cannot be built.
    NotPrepared(Process, Fence),
    /// It has waited for that for as long as it does.
    PrepareWeary(Process, Fence),
    /// A trainer hears that its group is broken.
    Broke(Process, Generation),
    /// A transaction reaches the store, by this attempt of its coordinator.
    Landed(Process, Box<Write>, u32),
    /// The store's answer to it reaches the coordinator.
    Answered(Process, u64, u32, Fate),
    /// No answer to it came in time.
    Overdue(Process, u64, u32),
    /// The law of a coordinator wants to be ticked.
    Tick(Process, Duration),
    /// A coordinator that does not lead asks for the lease.
    Campaign(Process),
    /// Its request reaches the store, which was sent when its own clock showed this.
    Asked(Process, Duration),
    /// The store's answer reaches the coordinator: its term, and what is on record.
    Granted(Process, Duration, LeaderEpoch, Box<Recovered>),
    /// A leader's lease is to be renewed.
    Renew(Process, LeaderEpoch),
    /// The request reaches the store.
    RenewalAsked(Process, LeaderEpoch, Duration),
    /// The answer reaches the leader.
    Renewed(Process, LeaderEpoch, Duration),
    /// A leader looks whether it has to stop serving.
    Expiry(Process, LeaderEpoch),
    /// A coordinator's process is started.
    Restart(usize),
    /// Something goes wrong.
    Misfortune,
    /// The last fault is over.
    Fair,
}

impl Sim {
    pub(super) fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        let Some(happening) = self.unless_paused(happening) else { return Ok(()) };
        match happening {
            Happening::Start(index) => self.start_worker(index),
            Happening::Connect(worker, attempt) => self.connect(worker, attempt),
            Happening::Knock(worker, coordinator, attempt) => self.knock(worker, coordinator, attempt),
            Happening::Admitted(worker, coordinator, session, attempt) => {
                return self.admitted(worker, coordinator, session, attempt);
            }
            Happening::Unheard(worker, line) => return self.unheard(worker, line),
            Happening::Up(line, fence, reply) => return self.up(line, fence, reply),
            Happening::Down(line, fence, message) => return self.down(line, fence, message),
            Happening::Left(coordinator, session) => return self.left(coordinator, session),
            Happening::Disconnected(worker, line) => return self.disconnected(worker, line),
            Happening::Beat(worker) => return self.beat(worker),
            Happening::Trained(worker, turn) => return self.trained(worker, turn),
            Happening::GaveUp(worker, turn) => return self.gave_up(worker, turn),
            Happening::Formed(worker, turn, state) => return self.formed(worker, turn, state),
            Happening::Reduced(worker, turn, outcomes) => return self.reduced(worker, turn, outcomes),
            Happening::Weary(worker, turn) => return self.weary(worker, turn),
            Happening::Prepared(worker, fence) => return self.prepared(worker, fence),
            Happening::NotPrepared(worker, fence) => {
                let reason = "a peer is gone".to_owned();
                return self.advise(worker, WorkerEvent::Trainer(TrainerEvent::NotPrepared(fence, reason)));
            }
            Happening::PrepareWeary(worker, fence) => return self.prepare_weary(worker, fence),
            Happening::Broke(worker, generation) => return self.broke(worker, generation),
            Happening::Landed(coordinator, write, attempt) => return self.landed(coordinator, &write, attempt),
            Happening::Answered(coordinator, number, attempt, fate) => {
                return self.answered(coordinator, number, attempt, fate);
            }
            Happening::Overdue(coordinator, number, attempt) => self.overdue(coordinator, number, attempt),
            Happening::Tick(coordinator, due) => return self.tick(coordinator, due),
            Happening::Campaign(process) => return self.campaign(process),
            Happening::Asked(process, sent) => self.asked(process, sent),
            Happening::Granted(process, sent, epoch, recovered) => {
                return self.granted(process, Some(sent), epoch, *recovered);
            }
            Happening::Renew(process, epoch) => self.renew(process, epoch),
            Happening::RenewalAsked(process, epoch, sent) => self.renewal_asked(process, epoch, sent),
            Happening::Renewed(process, epoch, sent) => self.renewed(process, epoch, sent),
            Happening::Expiry(process, epoch) => return self.expire(process, epoch),
            Happening::Restart(index) => self.restart_coordinator(index),
            Happening::Misfortune => return self.misfortune(),
            Happening::Fair => return self.fair_weather(),
        }
        Ok(())
    }

    /// What reaches a stopped process waits until it goes on, in order.
    fn unless_paused(&mut self, happening: Happening) -> Option<Happening> {
        let until = match &happening {
            Happening::Connect(worker, _)
            | Happening::Admitted(worker, ..)
            | Happening::Unheard(worker, _)
            | Happening::Disconnected(worker, _)
            | Happening::Beat(worker)
            | Happening::Trained(worker, _)
            | Happening::GaveUp(worker, _)
            | Happening::Formed(worker, ..)
            | Happening::Reduced(worker, ..)
            | Happening::Weary(worker, _)
            | Happening::Prepared(worker, _)
            | Happening::NotPrepared(worker, _)
            | Happening::PrepareWeary(worker, _)
            | Happening::Broke(worker, _) => self.paused_worker(*worker),
            Happening::Down(line, ..) => {
                self.network.line(*line).map_or(Duration::ZERO, |line| self.paused_worker(line.worker))
            }
            Happening::Up(line, ..) => {
                self.network.line(*line).map_or(Duration::ZERO, |line| self.paused_coordinator(line.coordinator))
            }
            // A file is written by the coordinator itself.
            Happening::Landed(coordinator, ..) if !self.leased() => self.paused_coordinator(*coordinator),
            Happening::Knock(_, coordinator, _)
            | Happening::Left(coordinator, _)
            | Happening::Answered(coordinator, ..)
            | Happening::Overdue(coordinator, ..)
            | Happening::Tick(coordinator, _)
            | Happening::Campaign(coordinator)
            | Happening::Granted(coordinator, ..)
            | Happening::Renew(coordinator, _)
            | Happening::Renewed(coordinator, ..)
            | Happening::Expiry(coordinator, _) => self.paused_coordinator(*coordinator),
            Happening::Start(_)
            | Happening::Landed(..)
            | Happening::Asked(..)
            | Happening::RenewalAsked(..)
            | Happening::Restart(_)
            | Happening::Misfortune
            | Happening::Fair => Duration::ZERO,
        };
        if until <= self.clock.now() {
            return Some(happening);
        }
        self.clock.at(until, happening);
        None
    }

    fn paused_worker(&self, process: Process) -> Duration {
        let worker = &self.workers[process.index];
        if worker.process == process { worker.paused_until } else { Duration::ZERO }
    }

    fn paused_coordinator(&self, process: Process) -> Duration {
        let coordinator = &self.coordinators[process.index];
        if coordinator.process == process { coordinator.paused_until } else { Duration::ZERO }
    }
}
