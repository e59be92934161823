//! Trainers: what `esta-worker`'s trainer thread does, in virtual time and without a tensor.

use std::time::Duration;

use esta_engine::run::{Activity, Progress};
use esta_proto::{Fence, Generation, SlotId};
use esta_worker_engine::{Event, TrainerCommand, TrainerEvent};

use super::{Happening, Sim};
use crate::{
    group::Share,
    invariants::{Violation, rd_3},
    job,
    network::Process,
    trainer::{Busy, Trainer},
    worker::Worker,
};

/// The longest it takes to write the results.
const FINALE: Duration = Duration::from_secs(20);

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
                self.waits(process, generation);
            }
            TrainerCommand::Run(generation, plan) => {
                let stands = trainer.standing.is_some_and(|(standing, _)| standing == generation);
                let due = trainer.state.is_some_and(|state| state.applied == plan.step);
                if trainer.is_over(generation) || !stands || !due {
                    return Ok(());
                }
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

    pub(super) fn is_at(&self, process: Process, turn: u64) -> bool {
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
                let (law, order) = (&self.law, &mut self.order);
                let mut reads = |slot: SlotId| job::reads(law, order, plan.first_sample, slot);
                let share = Share {
                    step: plan.step,
                    slots: plan.slots.iter().map(|(slot, stitch)| (*slot, *stitch, reads(*slot))).collect(),
                    slots_in_step: plan.slots_in_step,
                    chain: state.chain,
                };
                trainer.busy = Some(Busy::Reducing(generation, plan));
                trainer.began = self.clock.now();
                let differs = self.somebody_differs();
                let done = self.groups.reduce(generation, rank, share, differs)?;
                self.done(generation, done);
                self.waits(process, generation);
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
                    rd_3::of_a_checkpoint(&state, &self.calm)?;
                    self.disk.insert(step, state.chain);
                    while self.disk.len() > self.law.spec.train.save_total_limit as usize {
                        self.disk.pop_first();
                    }
                }
                staged.map(|_| TrainerEvent::Published(step))
            }
            TrainerCommand::Finale(finish) => {
                if let Some(state) = trainer.state.filter(|_| finish.writer) {
                    rd_3::of_a_checkpoint(&state, &self.calm)?;
                }
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
