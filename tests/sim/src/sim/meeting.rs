//! Collectives: trainers that come together to build a group, to bring states together and to reduce a step. They meet
//! where no coordinator is, on ways of their own; whoever waits for too long gives up.

use std::time::Duration;

use esta_engine::{
    run::{Ready, Report, Seat, StepTimings},
    spec::seconds,
    table::Outcome,
};
use esta_proto::{Fence, Generation};
use esta_worker_engine::{Event, TrainerEvent};
use rand::RngExt;

use super::{Happening, Sim};
use crate::{
    group::{Built, Done, State},
    invariants::Violation,
    job,
    network::Process,
    trainer::Busy,
};

/// Exit code of a trainer whose state cannot be made.
const FAILED: i32 = 1;

impl Sim {
    /// How long a trainer waits for its peers.
    fn patience(&self) -> Duration {
        seconds(self.law.spec.timeouts.collective)
    }

    /// A group is built beside whatever the trainer is at.
    pub(super) fn prepare(&mut self, process: Process, fence: Fence, seat: Seat) -> Result<(), Violation> {
        self.clock.after(self.patience(), Happening::PrepareWeary(process, fence));
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

    /// A group to come stands as soon as all who build it reach each other.
    pub(super) fn prepared(&mut self, process: Process, fence: Fence) -> Result<(), Violation> {
        let apart = self.peers.among(&self.groups.builders(fence), self.clock.now());
        if let Some(until) = apart {
            let delay = self.upto(self.weather.times.broken);
            self.clock.at(until + delay, Happening::Prepared(process, fence));
            return Ok(());
        }
        let event = match self.groups.has_built(fence, process) {
            true => TrainerEvent::Prepared(fence),
            false => TrainerEvent::NotPrepared(fence, "a peer is gone".to_owned()),
        };
        self.advise(process, Event::Trainer(event))
    }

    /// Whoever has waited for a group to come for too long says that it cannot be built.
    pub(super) fn prepare_weary(&mut self, process: Process, fence: Fence) -> Result<(), Violation> {
        if !self.groups.gives_up_building(fence, process) {
            return Ok(());
        }
        let reason = format!("it took longer than {:?}", self.patience());
        self.advise(process, Event::Trainer(TrainerEvent::NotPrepared(fence, reason)))
    }

    /// What a process has a part in building will not stand; those who wait for it hear of that.
    pub(super) fn spoil(&mut self, process: Process) {
        for (fence, member) in self.groups.spoil(process) {
            let delay = self.upto(self.weather.times.broken);
            self.clock.after(delay, Happening::NotPrepared(member, fence));
        }
    }

    /// A peer of a group feels that another one is gone: soon, or once the way between them carries that.
    pub(super) fn feels(&mut self, gone: Process, peer: Process, generation: Generation) {
        let now = self.clock.now();
        let delay = self.upto(self.weather.times.broken);
        let whole = self.peers.between(gone, peer, now).unwrap_or(now);
        self.clock.at(whole + delay, Happening::Broke(peer, generation));
    }

    /// A trainer waits for its peers, though not for ever. Whoever comes to a broken group hears of it soon.
    pub(super) fn waits(&mut self, process: Process, generation: Generation) {
        if self.groups.get(generation).is_some_and(|group| group.broken) {
            let delay = self.upto(self.weather.times.broken);
            self.clock.after(delay, Happening::Broke(process, generation));
        }
        let turn = self.workers[process.index].trainer.turn;
        self.clock.after(self.patience(), Happening::Weary(process, turn));
    }

    /// A trainer has waited for too long: it gives the group up, and those who reach it feel that.
    pub(super) fn weary(&mut self, process: Process, turn: u64) -> Result<(), Violation> {
        let Some(generation) = self.workers[process.index].trainer.waits_in().filter(|_| self.is_at(process, turn))
        else {
            return Ok(());
        };
        for (generation, peer) in self.groups.give_up(generation) {
            if peer != process {
                self.feels(process, peer, generation);
            }
        }
        let reason = format!("a collective took longer than {:?}", self.patience());
        self.broke_here(process, generation, &reason)
    }

    /// Tells every rank that still waits for a collective that it is done, each in its own time, once all reach each other.
    pub(super) fn done(&mut self, generation: Generation, done: Option<Done>) {
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
        let now = self.clock.now();
        let from = self.peers.among(&processes, now).unwrap_or(now);
        for process in processes {
            if !self.runs(process) || self.workers[process.index].trainer.waits_in() != Some(generation) {
                continue;
            }
            let delay = least + self.upto(Duration::from_millis(8));
            let turn = self.workers[process.index].trainer.turn;
            self.clock.at(from + delay, tell(process, turn));
        }
    }

    /// Peers were parted in the middle of a collective: what a rank waits for has come to it before, or comes when they
    /// reach each other again.
    fn held_back(&mut self, generation: Generation) -> Option<Duration> {
        let members = self.groups.members(generation);
        let until = self.peers.among(&members, self.clock.now())?;
        self.rng.random_bool(0.5).then_some(until)
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
        if let Some(until) = self.held_back(generation) {
            self.clock.at(until, Happening::Formed(process, turn, state));
            return Ok(());
        }
        self.first_stood.get_or_insert(self.clock.now());
        let trainer = &mut self.workers[process.index].trainer;
        trainer.busy = None;
        let event = match state {
            Ok(state) => {
                // Nothing is handed over to whoever holds it already.
                let same = |own: &State| (own.applied, own.chain) == (state.applied, state.chain);
                let state = trainer.state.filter(same).unwrap_or(state);
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

    pub(super) fn reduced(&mut self, process: Process, turn: u64, outcomes: Vec<Outcome>) -> Result<(), Violation> {
        if !self.is_at(process, turn) {
            return Ok(());
        }
        let trainer = &mut self.workers[process.index].trainer;
        let Some(Busy::Reducing(generation, plan)) = trainer.busy.clone() else { return Ok(()) };
        if trainer.is_over(generation) || self.fails_late(generation) {
            return self.broke_here(process, generation, "a peer is gone");
        }
        if let Some(until) = self.held_back(generation) {
            self.clock.at(until, Happening::Reduced(process, turn, outcomes));
            return Ok(());
        }
        self.applied += 1;
        let each = self.weather.times.slot * self.workers[process.index].slowness;
        let trainer = &mut self.workers[process.index].trainer;
        trainer.busy = None;
        let Some(state) = trainer.state else { return Ok(()) };
        let (applied, mut chain) = (plan.step.next(), job::apply(state.chain, plan.step, &outcomes));
        chain.0[0] ^= u8::from(trainer.lies);
        // At checkpoints a digest covers all that a rank holds.
        let of_all = applied.0.is_multiple_of(self.law.spec.train.save_steps);
        chain.0[1] ^= u8::from(state.drifted && of_all);
        trainer.state = Some(State { applied, chain, ..state });
        let slots = plan.slots.iter().map(|(slot, _)| (*slot, each)).collect();
        let timings = StepTimings { slots, ..StepTimings::default() };
        let report = Report { step: plan.step, plan: plan.digest, reduced: chain, outcomes, timings };
        self.advise(process, Event::Trainer(TrainerEvent::Stepped(report)))?;
        self.work(process)
    }

    /// A peer that died in the very moment may have taken the result with it, for some ranks and not for others.
    fn fails_late(&mut self, generation: Generation) -> bool {
        self.groups.get(generation).is_some_and(|group| group.broken) && self.rng.random_bool(0.5)
    }

    pub(super) fn broke(&mut self, process: Process, generation: Generation) -> Result<(), Violation> {
        let waits = self.runs(process) && self.workers[process.index].trainer.waits_in() == Some(generation);
        if waits { self.broke_here(process, generation, "a peer is gone") } else { Ok(()) }
    }

    pub(super) fn broke_here(
        &mut self,
        process: Process,
        generation: Generation,
        reason: &str,
    ) -> Result<(), Violation> {
        let trainer = &mut self.workers[process.index].trainer;
        (trainer.busy, trainer.standing) = (None, None);
        trainer.turn += 1;
        self.advise(process, Event::Trainer(TrainerEvent::Broke(generation, reason.to_owned())))?;
        self.work(process)
    }
}
