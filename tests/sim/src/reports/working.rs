//! Ranks that run every step in no time, and say so in disorder.

use std::collections::VecDeque;

use esta_engine::{
    law::Law,
    run::{Ready, Report, StepTimings},
    table::Outcome,
};
use esta_proto::{Fence, SessionId, SlotId, StitchId};
use esta_worker_engine::{Command, Event, Identity, Reply, Session, TrainerCommand, TrainerEvent};
use rand::{RngExt, seq::SliceRandom};

use super::{Heard, Reports, Sent, State};
use crate::{
    invariants::{Violation, st_1},
    job::{self, SAMPLES},
};

/// Doubles of a report are heard within this many steps.
const STALE: u64 = 100;
/// An overtaken report is heard within this many steps.
const LATE: u64 = 2;

/// The law of a new process of a worker.
pub(super) fn process(index: u32, incarnation: u64, law: &Law) -> Session {
    let (name, layout_digest) = (format!("w{index}"), law.layout_digest);
    Session::new(Identity { name, incarnation, layout_digest, samples: SAMPLES }, law.spec.train.save_steps, [])
}

impl Reports {
    /// Every worker says hello to the leader, in any order.
    pub(super) fn everybody_connects(&mut self) {
        let mut order: Vec<usize> = (0..self.workers.len()).collect();
        order.shuffle(&mut self.rng);
        for (session, index) in (1..).map(SessionId).zip(order) {
            self.workers[index].session = session;
            let commands = self.workers[index].law.handle(Event::Connected);
            self.obey(index, commands);
        }
    }

    /// A new process takes the place of one that is gone: its group does not stand any more.
    pub(super) fn replace_a_worker(&mut self) {
        let index = self.rng.random_range(0..self.workers.len());
        let worker = &mut self.workers[index];
        worker.law = process(index as u32, self.store.epoch.0, &self.law);
        worker.plans.clear();
    }

    /// Carries out what the law of a worker decides.
    pub(super) fn obey(&mut self, worker: usize, commands: Vec<Command>) {
        let mut commands: VecDeque<Command> = commands.into();
        while let Some(command) = commands.pop_front() {
            match command {
                Command::Send(_, Reply::Heartbeat(_)) | Command::Exit(..) => {}
                Command::Send(fence, reply @ Reply::Report(_)) => self.report(worker, fence, reply),
                Command::Send(fence, reply) => {
                    let moment = self.moment(0);
                    self.clock.at(moment, Heard::Said(worker, fence, Box::new(reply), None));
                }
                Command::Prepare(fence, _) => {
                    let prepared = Event::Trainer(TrainerEvent::Prepared(fence));
                    commands.extend(self.workers[worker].law.handle(prepared));
                }
                Command::Abandon(_) => self.workers[worker].plans.clear(),
                Command::Train(command) => commands.extend(self.train(worker, command)),
            }
        }
    }

    fn train(&mut self, worker: usize, command: TrainerCommand) -> Vec<Command> {
        let event = match command {
            TrainerCommand::Run(generation, plan) => {
                self.workers[worker].plans.push_back((generation, plan));
                return Vec::new();
            }
            TrainerCommand::Form(fence, _) | TrainerCommand::Enter(fence, _) => {
                TrainerEvent::Ready(fence.generation, Ready::at(self.state.applied))
            }
            TrainerCommand::Stage(step) => TrainerEvent::Staged(step),
            TrainerCommand::Publish(step) => TrainerEvent::Published(step),
            TrainerCommand::Finale(finish) => TrainerEvent::FinaleDone(finish.writer),
            TrainerCommand::Forget(_) => return Vec::new(),
        };
        self.workers[worker].law.handle(Event::Trainer(event))
    }

    /// A report is heard in its turn or late, and perhaps once more.
    fn report(&mut self, worker: usize, fence: Fence, reply: Reply) {
        self.sent += 1;
        let ranks = u64::from(self.load.ranks);
        let late = self.rng.random_bool(self.load.overtaken);
        let behind = if late { self.rng.random_range(1..=LATE * ranks) } else { 0 };
        let sent = Sent { number: self.sent, again: false };
        let moment = self.moment(behind);
        // Of n that are sent once, n d / (1 - d) more make a share d of all.
        if self.rng.random_bool(self.load.doubled / (1.0 - self.load.doubled)) {
            let behind = behind + self.rng.random_range(0..STALE * ranks);
            let moment = self.moment(behind);
            self.clock
                .at(moment, Heard::Said(worker, fence, Box::new(reply.clone()), Some(Sent { again: true, ..sent })));
        }
        self.clock.at(moment, Heard::Said(worker, fence, Box::new(reply), Some(sent)));
    }

    /// Once every rank holds the plan of the next step, all of them apply it.
    pub(super) fn reduce(&mut self) -> Result<(), Violation> {
        while self.workers.iter().all(|worker| !worker.plans.is_empty()) {
            let plans: Vec<_> = self.workers.iter_mut().filter_map(|worker| worker.plans.pop_front()).collect();
            let mut slots: Vec<(SlotId, StitchId)> = plans.iter().flat_map(|(_, plan)| plan.slots.clone()).collect();
            slots.sort_unstable();
            let (_, plan) = &plans[0];
            if plans.iter().any(|(_, other)| (other.step, other.digest) != (self.state.applied, plan.digest)) {
                let what = format!("ranks hold different plans where step {} is due", self.state.applied);
                return Err(Violation::new("RD-1", what));
            }
            st_1(plan.step, plan.slots_in_step, slots.iter().map(|(slot, _)| *slot).collect())?;
            let (law, order, chain) = (&self.law, &mut self.order, self.state.chain);
            let run = |(slot, stitch): &(SlotId, StitchId)| {
                let read = job::reads(law, order, plan.first_sample, *slot);
                job::slot(chain, plan.step, &read, *slot, *stitch)
            };
            let outcomes: Vec<Outcome> = slots.iter().map(run).collect();
            let chain = job::apply(self.state.chain, plan.step, &outcomes);
            self.state = State { applied: plan.step.next(), chain };
            for (worker, (_, plan)) in plans.into_iter().enumerate() {
                let outcomes = outcomes.clone();
                let timings = StepTimings::default();
                let report = Report { step: plan.step, plan: plan.digest, reduced: chain, outcomes, timings };
                let commands = self.workers[worker].law.handle(Event::Trainer(TrainerEvent::Stepped(report)));
                self.obey(worker, commands);
            }
        }
        Ok(())
    }
}
