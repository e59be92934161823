//! Trainers: what `esta-worker`'s trainer thread does, in virtual time and without a tensor.

use std::time::Duration;

use esta_engine::run::{Activity, Progress, Ready, Report, Seat, StepTimings};
use esta_proto::{Fence, Generation};
use esta_worker_engine::{Event, TrainerCommand, TrainerEvent};
use rand::RngExt;

use super::{Happening, Sim};
use crate::{
    group::{Built, Done, Share, State},
    invariants::{Violation, dt_1},
    job,
    network::Process,
    trainer::{Busy, Trainer},
    worker::Worker,
};

/// The longest it takes to write the results.
const FINALE: Duration = Duration::from_secs(20);
/// Exit code of a trainer whose state cannot be made.
const FAILED: i32 = 1;

impl Sim {
    /// Lets an idle trainer begin what it is told next.
    pub(super) fn work(&mut self, process: Process) -> Result<(), Violation> {
        while self.runs(process) && self.workers[process.index].trainer.busy.is_none() {
            let Some(command) = self.workers[process.index].trainer.queue.pop_front() else { return Ok(()) };
            self.begin(process, command)?;
        }
        Ok(())
    }

    fn begin(&mut self, process: Process, command: TrainerCommand) -> Result<(), Violation> {
        let trainer = &mut self.workers[process.index].trainer;
        trainer.turn += 1;
        trainer.began = self.clock.now();
        let turn = trainer.turn;
        match command {
            TrainerCommand::Form(Fence { generation, .. }, _) | TrainerCommand::Enter(Fence { generation, .. }, _)
                if trainer.is_over(generation) =>
            {
                trainer.standing = None;
            }
            TrainerCommand::Enter(fence, form) if !self.groups.enter(fence, &form, process)? => {
                self.broke_here(process, fence.generation, "a peer is gone")?;
            }
            TrainerCommand::Form(Fence { generation, .. }, form)
            | TrainerCommand::Enter(Fence { generation, .. }, form) => {
                trainer.standing = None;
                let state = trainer.state;
                trainer.busy = Some(Busy::Forming(generation, form));
                let disk = &self.disk;
                let done = self.groups.form(generation, &form, process, state, |step| disk.get(&step).copied())?;
                self.done(generation, done);
                self.come_too_late(process, generation);
            }
            TrainerCommand::Run(generation, plan) => {
                let stands = trainer.standing.is_some_and(|(standing, _)| standing == generation);
                let due = trainer.state.is_some_and(|state| state.applied == plan.step);
                if trainer.is_over(generation) || !stands || !due {
                    return Ok(());
                }
                dt_1(plan.step, plan.first_sample, u64::from(self.law.spec.train.batch_size))?;
                let slots = trainer.missing(&plan);
                trainer.busy = Some(Busy::Computing(generation, plan));
                let each = self.weather.times.slot * self.workers[process.index].slowness;
                let jitter = self.upto(Duration::from_millis(3));
                let took = each * slots + jitter;
                self.clock.after(took, Happening::Trained(process, turn));
            }
            command => {
                trainer.busy = Some(Busy::Writing(command));
                let writes =
                    matches!(&trainer.busy, Some(Busy::Writing(TrainerCommand::Finale(finale))) if finale.writer);
                let took = self.upto(if writes { FINALE } else { Duration::from_millis(20) });
                self.clock.after(took, Happening::Trained(process, turn));
            }
        }
        Ok(())
    }

    /// A group is built beside whatever the trainer is at.
    pub(super) fn prepare(&mut self, process: Process, fence: Fence, seat: Seat) -> Result<(), Violation> {
        match self.groups.prepare(fence, seat, process)? {
            Built::Waits => {}
            Built::Stands(processes) => {
                for process in processes {
                    let delay = self.weather.times.form + self.upto(Duration::from_millis(8));
                    self.clock.after(delay, Happening::Prepared(process, fence));
                }
            }
            Built::Broken => {
                let delay = self.upto(self.weather.times.broken);
                self.clock.after(delay, Happening::NotPrepared(process, fence));
            }
        }
        Ok(())
    }

    /// What a process has a part in building will not stand; those who wait for it hear of that.
    pub(super) fn spoil(&mut self, process: Process) {
        for (fence, member) in self.groups.spoil(process) {
            let delay = self.upto(self.weather.times.broken);
            self.clock.after(delay, Happening::NotPrepared(member, fence));
        }
    }

    fn is_at(&self, process: Process, turn: u64) -> bool {
        self.runs(process) && self.workers[process.index].trainer.turn == turn
    }

    pub(super) fn trained(&mut self, process: Process, turn: u64) -> Result<(), Violation> {
        if !self.is_at(process, turn) {
            return Ok(());
        }
        match self.workers[process.index].trainer.busy.take() {
            Some(Busy::Computing(generation, plan)) => {
                let trainer = &mut self.workers[process.index].trainer;
                let (Some((_, rank)), Some(state)) = (trainer.standing, trainer.state) else { return Ok(()) };
                if trainer.is_over(generation) {
                    trainer.keep(&plan, plan.slots.len());
                    return self.broke_here(process, generation, "the generation is over");
                }
                trainer.keep(&plan, plan.slots.len());
                let share = Share {
                    step: plan.step,
                    first_sample: plan.first_sample,
                    slots: plan.slots.clone(),
                    slots_in_step: plan.slots_in_step,
                    chain: state.chain,
                };
                trainer.busy = Some(Busy::Reducing(generation, plan));
                trainer.began = self.clock.now();
                let lies = self.workers.iter().any(|worker| worker.trainer.lies);
                let done = self.groups.reduce(generation, rank, share, lies)?;
                self.done(generation, done);
                self.come_too_late(process, generation);
                Ok(())
            }
            Some(Busy::Writing(command)) => self.wrote(process, command),
            other => {
                self.workers[process.index].trainer.busy = other;
                Ok(())
            }
        }
    }

    fn wrote(&mut self, process: Process, command: TrainerCommand) -> Result<(), Violation> {
        let trainer = &mut self.workers[process.index].trainer;
        let event = match command {
            TrainerCommand::Stage(step) => trainer.state.filter(|state| state.applied == step).map(|state| {
                trainer.staged.retain(|other| other.applied != step);
                trainer.staged.push(state);
                TrainerEvent::Staged(step)
            }),
            TrainerCommand::Publish(step) => {
                let staged = trainer.staged.iter().find(|state| state.applied == step).copied();
                if let Some(state) = staged {
                    self.disk.insert(step, state.chain);
                    while self.disk.len() > self.law.spec.train.save_total_limit as usize {
                        self.disk.pop_first();
                    }
                }
                staged.map(|_| TrainerEvent::Published(step))
            }
            TrainerCommand::Finale(finish) => {
                self.concluded |= finish.writer;
                Some(TrainerEvent::FinaleDone(finish.writer))
            }
            TrainerCommand::Forget(step) => {
                trainer.state = trainer.state.filter(|state| state.applied <= step);
                None
            }
            TrainerCommand::Form(..) | TrainerCommand::Enter(..) | TrainerCommand::Run(..) => None,
        };
        if let Some(event) = event {
            self.advise(process, Event::Trainer(event))?;
        }
        self.work(process)
    }

    /// Tells every rank that still waits for a collective that it is done, each in its own time.
    fn done(&mut self, generation: Generation, done: Option<Done>) {
        let (processes, least, tell): (_, _, Box<dyn Fn(Process, u64) -> Happening>) = match done {
            None => return,
            Some(Done::Formed(processes, state)) => {
                let tell = move |process, turn| Happening::Formed(process, turn, state.clone());
                (processes, self.weather.times.form, Box::new(tell))
            }
            Some(Done::Reduced(processes, outcomes)) => {
                let tell = move |process, turn| Happening::Reduced(process, turn, outcomes.clone());
                (processes, Duration::from_micros(100), Box::new(tell))
            }
        };
        for process in processes {
            if !self.runs(process) || self.workers[process.index].trainer.waits_in() != Some(generation) {
                continue;
            }
            let delay = least + self.upto(Duration::from_millis(8));
            let turn = self.workers[process.index].trainer.turn;
            self.clock.after(delay, tell(process, turn));
        }
    }

    pub(super) fn formed(
        &mut self,
        process: Process,
        turn: u64,
        state: Result<State, String>,
    ) -> Result<(), Violation> {
        if !self.is_at(process, turn) {
            return Ok(());
        }
        let trainer = &mut self.workers[process.index].trainer;
        let Some(Busy::Forming(generation, form)) = trainer.busy.clone() else { return Ok(()) };
        if trainer.is_over(generation) || self.fails_late(generation) {
            return self.broke_here(process, generation, "a peer is gone");
        }
        self.first_stood.get_or_insert(self.clock.now());
        let trainer = &mut self.workers[process.index].trainer;
        trainer.busy = None;
        let event = match state {
            Ok(state) => {
                trainer.state = Some(state);
                trainer.standing = Some((generation, form.rank));
                let (chain, computed) = (Some(state.chain), trainer.computed());
                TrainerEvent::Ready(generation, Ready { applied: state.applied, chain, computed })
            }
            Err(reason) => TrainerEvent::Failed(reason, FAILED),
        };
        self.advise(process, Event::Trainer(event))?;
        self.work(process)
    }

    pub(super) fn reduced(
        &mut self,
        process: Process,
        turn: u64,
        outcomes: &[esta_engine::table::Outcome],
    ) -> Result<(), Violation> {
        if !self.is_at(process, turn) {
            return Ok(());
        }
        let trainer = &mut self.workers[process.index].trainer;
        let Some(Busy::Reducing(generation, plan)) = trainer.busy.clone() else { return Ok(()) };
        if trainer.is_over(generation) || self.fails_late(generation) {
            return self.broke_here(process, generation, "a peer is gone");
        }
        self.applied += 1;
        let each = self.weather.times.slot * self.workers[process.index].slowness;
        let trainer = &mut self.workers[process.index].trainer;
        trainer.busy = None;
        let Some(state) = &mut trainer.state else { return Ok(()) };
        let mut chain = job::apply(state.chain, plan.step, outcomes);
        chain.0[0] ^= u8::from(trainer.lies);
        *state = State { applied: plan.step.next(), chain };
        let slots = plan.slots.iter().map(|(slot, _)| (*slot, each)).collect();
        let timings = StepTimings { slots, ..StepTimings::default() };
        let report =
            Report { step: plan.step, plan: plan.digest, reduced: chain, outcomes: outcomes.to_vec(), timings };
        self.advise(process, Event::Trainer(TrainerEvent::Stepped(report)))?;
        self.work(process)
    }

    /// Whoever comes to a broken group hears of it soon.
    fn come_too_late(&mut self, process: Process, generation: Generation) {
        if self.groups.get(generation).is_some_and(|group| group.broken) {
            let delay = self.upto(self.weather.times.broken);
            self.clock.after(delay, Happening::Broke(process, generation));
        }
    }

    /// A peer that died in the very moment may have taken the result with it, for some ranks and not for others.
    fn fails_late(&mut self, generation: Generation) -> bool {
        self.groups.get(generation).is_some_and(|group| group.broken) && self.rng.random_bool(0.5)
    }

    pub(super) fn broke(&mut self, process: Process, generation: Generation) -> Result<(), Violation> {
        let waits = self.runs(process) && self.workers[process.index].trainer.waits_in() == Some(generation);
        if waits { self.broke_here(process, generation, "a peer is gone") } else { Ok(()) }
    }

    fn broke_here(&mut self, process: Process, generation: Generation, reason: &str) -> Result<(), Violation> {
        let trainer = &mut self.workers[process.index].trainer;
        (trainer.busy, trainer.standing) = (None, None);
        trainer.turn += 1;
        self.advise(process, Event::Trainer(TrainerEvent::Broke(generation, reason.to_owned())))?;
        self.work(process)
    }

    /// A trainer that waits in a collective of this generation gives it up as soon as it looks; one that computes looks
    /// after every slot.
    pub(super) fn abandon(&mut self, process: Process, generation: Generation) {
        let now = self.clock.now();
        let Worker { trainer, slowness, .. } = &mut self.workers[process.index];
        trainer.abandoned = trainer.abandoned.max(generation.0 + 1);
        if trainer.waits_in().is_some_and(|waits| trainer.is_over(waits)) {
            let waits = trainer.waits_in().unwrap_or_default();
            self.clock.after(Duration::from_millis(1), Happening::Broke(process, waits));
        } else if let Some(Busy::Computing(computes, _)) = &trainer.busy
            && trainer.is_over(*computes)
        {
            let each = self.weather.times.slot * *slowness;
            let done = (now - trainer.began).div_duration_f64(each).ceil();
            self.clock.at(trainer.began + each.mul_f64(done), Happening::GaveUp(process, trainer.turn));
        }
    }

    pub(super) fn gave_up(&mut self, process: Process, turn: u64) -> Result<(), Violation> {
        let Some(Busy::Computing(generation, plan)) = self.workers[process.index].trainer.busy.clone() else {
            return Ok(());
        };
        if !self.is_at(process, turn) {
            return Ok(());
        }
        let each = self.weather.times.slot * self.workers[process.index].slowness;
        let trainer = &mut self.workers[process.index].trainer;
        let run = (self.clock.now() - trainer.began).div_duration_f64(each).round();
        trainer.keep(&plan, run as usize);
        self.broke_here(process, generation, "the generation is over")
    }
}

impl Trainer {
    /// What its heartbeat says.
    pub fn progress(&self, now: Duration) -> Progress {
        let activity = match &self.busy {
            None => Activity::Idle,
            Some(Busy::Forming(..)) => Activity::Forming,
            Some(Busy::Computing(_, plan)) => {
                plan.slots.first().map_or(Activity::Idle, |(slot, _)| Activity::Compute(plan.step, *slot))
            }
            Some(Busy::Reducing(_, plan)) => Activity::Reduce(plan.step),
            Some(Busy::Writing(_)) => Activity::Writing,
        };
        Progress { activity, since: now.saturating_sub(self.began) }
    }
}
