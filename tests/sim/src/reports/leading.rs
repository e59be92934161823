//! Leaders one after another: what they hear, what they put on record, and what is lost with them.

use std::{sync::Arc, time::Duration};

use esta_engine::{
    law::Law,
    run::{Command, Event, Notice, Patience, Record, Run},
};
use esta_proto::{Fence, SessionId};
use esta_worker_engine::{Event as WorkerEvent, Reply};
use rand::RngExt;

use super::{Heard, Reports, Sent};
use crate::{
    invariants::Violation,
    record::{Fate, Store},
};

/// Recovers a run from the record under the next epoch.
pub(super) fn begin_term(law: &Arc<Law>, store: &mut Store, ranks: u32) -> Result<Run, Violation> {
    let (epoch, recovered) = store.begin_term();
    let patience = Patience { workers: ranks, grace: Duration::MAX };
    Run::new(law.clone(), epoch, patience, recovered).map_err(|error| Violation::new("SC-2", error.to_string()))
}

impl Reports {
    /// The leader is gone: what it was writing is durable or not, what waited to be written is not.
    pub(super) fn fail_over(&mut self) -> Result<(), Violation> {
        self.tally.failovers += 1;
        self.pending.clear();
        let writing = std::mem::take(&mut self.writing);
        if self.rng.random_bool(0.5) {
            self.store.append(Duration::ZERO, writing)?;
        }
        self.run = begin_term(&self.law, &mut self.store, self.load.ranks)?;
        self.fence = self.run.fence();
        self.sessions.clear();
        self.events.clear();
        for index in 0..self.workers.len() {
            self.workers[index].joined = false;
            let commands = self.workers[index].law.handle(WorkerEvent::Disconnected);
            self.obey(index, commands);
        }
        // The group outlives every other leader.
        if self.tally.failovers.is_multiple_of(2) {
            self.replace_a_worker();
        }
        self.everybody_connects();
        Ok(())
    }

    /// What a worker said is heard. What was said to another leader and comes to this one before its worker does is
    /// heard once that is back: nothing is lost here, only late.
    pub(super) fn said(
        &mut self,
        worker: usize,
        fence: Fence,
        reply: Reply,
        sent: Option<Sent>,
    ) -> Result<(), Violation> {
        self.hear_the_hostile(fence, &reply)?;
        let session = self.workers[worker].session;
        let event = match reply {
            Reply::Hello(hello) => {
                self.workers[worker].joined = true;
                self.sessions.insert(session, worker);
                Event::Joined(session, hello)
            }
            reply if !self.workers[worker].joined => {
                let later = self.moment(u64::from(self.load.ranks));
                self.clock.at(later, Heard::Said(worker, fence, Box::new(reply), sent));
                return Ok(());
            }
            Reply::GroupReady(ready) => Event::GroupReady(session, fence, ready),
            Reply::GroupFailed(reason) => Event::GroupFailed(session, fence, reason),
            Reply::GroupPrepared => Event::GroupPrepared(session, fence),
            Reply::Report(report) => {
                self.count(sent);
                Event::Reported(session, report)
            }
            Reply::CheckpointSaved(step) => Event::CheckpointSaved(session, step),
            Reply::FinaleDone(writer) => Event::FinaleDone(session, writer),
            Reply::Heartbeat(progress) => Event::Heard(session, progress),
            Reply::Draining => Event::Draining(session),
            Reply::Leaving(reason, code) => {
                return Err(Violation::new("exit", format!("worker {worker} left with code {code}: {reason}")));
            }
        };
        self.events.push_back(event);
        self.settle()
    }

    fn count(&mut self, sent: Option<Sent>) {
        let Some(sent) = sent else { return };
        self.tally.reports += 1;
        self.tally.doubled += u64::from(sent.again);
        self.tally.overtaken += u64::from(!sent.again && sent.number < self.newest);
        self.newest = self.newest.max(sent.number);
    }

    pub(super) fn written(&mut self, epoch: u64) -> Result<(), Violation> {
        if epoch != self.store.epoch.0 {
            return Ok(());
        }
        let records = std::mem::take(&mut self.writing);
        let (mut step, mut generation, mut complete) = (None, None, false);
        for record in &records {
            match record {
                Record::Step(record) => step = Some(record.step),
                Record::Generation(number, _) => generation = Some(*number),
                Record::Complete => complete = true,
                _ => {}
            }
        }
        if self.store.append(Duration::ZERO, records)? != Fate::Written {
            return Err(Violation::new("MB-1", "the only leader was fenced"));
        }
        self.events.extend(generation.map(Event::Recorded));
        self.events.extend(step.map(Event::Persisted));
        self.events.extend(complete.then_some(Event::Concluded));
        self.settle()
    }

    /// Lets the law decide about everything that happened, and carries out what follows.
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        while let Some(event) = self.events.pop_front() {
            for command in self.run.handle(event, Duration::ZERO) {
                self.carry_out(command)?;
            }
        }
        if self.writing.is_empty() && !self.pending.is_empty() {
            self.writing = std::mem::take(&mut self.pending);
            let behind = self.rng.random_range(0..2 * u64::from(self.load.ranks));
            let moment = self.moment(behind);
            self.clock.at(moment, Heard::Written(self.store.epoch.0));
        }
        while let Some((worker, fence, message)) = self.down.pop_front() {
            let commands = self.workers[worker].law.handle(WorkerEvent::Received(fence, message));
            self.obey(worker, commands);
        }
        Ok(())
    }

    fn carry_out(&mut self, command: Command) -> Result<(), Violation> {
        match command {
            Command::Send(session, message) => {
                if let Some(worker) = self.sessions.get(&session) {
                    self.down.push_back((*worker, self.fence, message));
                }
            }
            Command::Persist(record) => {
                if let Record::Generation(generation, _) = &record {
                    self.fence.generation = *generation;
                }
                self.pending.push(record);
            }
            Command::Notice(Notice::Resumed(_)) => self.tally.resumed += 1,
            Command::Notice(Notice::Failed(what)) => return Err(Violation::new("progress", what)),
            Command::Notice(Notice::RedoDiffers(step)) => {
                return Err(Violation::new("SC-2", format!("step {step} is said to have other scores")));
            }
            Command::Notice(Notice::ForeignReport(SessionId(session), step)) if session <= self.load.ranks.into() => {
                return Err(Violation::new("SC-2", format!("session {session} reports step {step} of another plan")));
            }
            Command::Close(session) | Command::Evict(session, _) if self.sessions.contains_key(&session) => {
                return Err(Violation::new("progress", format!("session {session} was ended")));
            }
            Command::Notice(_) | Command::Close(_) | Command::Evict(..) => {}
            Command::Complete => self.complete = true,
        }
        Ok(())
    }
}
