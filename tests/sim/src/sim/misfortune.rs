//! Carrying out what goes wrong.

use std::time::Duration;

use esta_engine::{
    run::{Event as RunEvent, Report, Run},
    spec::seconds,
};
use esta_proto::{Digest, Generation};
use esta_worker_engine::Event;
use rand::{RngExt, seq::IndexedRandom};

use super::{Happening, Sim};
use crate::{
    clock::Pace,
    coordinator::{Coordinator, StoreWay},
    faults::Fault,
    group::State,
    invariants::Violation,
    trainer::Busy,
    worker::Worker,
};

/// The longest leap of a clock.
const LEAP: Duration = Duration::from_secs(100);

impl Sim {
    pub(super) fn misfortune(&mut self) -> Result<(), Violation> {
        if self.faults >= self.weather.count {
            self.clock.after(Duration::from_secs(1), Happening::Fair);
            return Ok(());
        }
        let pause = self.weather.gaps.drawn(&mut self.rng);
        self.clock.after(pause, Happening::Misfortune);
        if self.somebody_differs() {
            // One thing at a time: who is right is told by the others, so they stay.
            return Ok(());
        }
        self.faults += 1;
        let fault = *self.weather.faults.choose(&mut self.rng).expect("something may go wrong");
        if self.verbose {
            eprintln!("             {fault:?}");
        }
        self.befall(fault)
    }

    fn befall(&mut self, fault: Fault) -> Result<(), Violation> {
        let while_away = self.upto(self.weather.times.away);
        let until = self.clock.now() + while_away;
        match fault {
            Fault::KillWorker => {
                if let Some(worker) = self.some_worker() {
                    self.dies(worker);
                    self.clock.after(while_away, Happening::Start(worker.index));
                }
            }
            Fault::KillAllWorkers => {
                for index in 0..self.workers.len() {
                    self.dies(self.workers[index].process);
                    let pause = self.upto(self.weather.times.away);
                    self.clock.after(pause, Happening::Start(index));
                }
            }
            Fault::PauseWorker => {
                if let Some(worker) = self.some_worker() {
                    prolong(&mut self.workers[worker.index].paused_until, until);
                }
            }
            Fault::ResetLine => self.some_line().into_iter().for_each(|line| self.reset(line)),
            Fault::CutLine => self.some_line().into_iter().for_each(|line| self.cut_off(line)),
            Fault::TearLine => self.some_line().into_iter().for_each(|line| self.tear(line)),
            Fault::SlowWay => {
                if let Some(worker) = self.some_worker() {
                    prolong(&mut self.workers[worker.index].slow_until, until);
                }
            }
            Fault::CutPeers => self.cut_peers(while_away),
            Fault::DrainWorker => {
                if let Some(worker) = self.some_worker() {
                    self.workers[worker.index].leaving = true;
                    return self.advise(worker, Event::Drain);
                }
            }
            Fault::SlowWorker => {
                if let Some(worker) = self.some_worker() {
                    self.workers[worker.index].slowness = *[1, 2, 8].choose(&mut self.rng).expect("there are choices");
                }
            }
            Fault::KillCoordinator => {
                let index = self.rng.random_range(0..self.coordinators.len());
                return self.falls(index, while_away);
            }
            Fault::PauseCoordinator => {
                let index = self.rng.random_range(0..self.coordinators.len());
                prolong(&mut self.coordinators[index].paused_until, until);
            }
            Fault::CutStore => prolong(&mut self.some_way_to_the_store().cut_until, until),
            Fault::LoseAnswers => prolong(&mut self.some_way_to_the_store().mute_until, until),
            Fault::SlowStore => prolong(&mut self.some_way_to_the_store().slow_until, until),
            Fault::LeapClock => return self.leap_clock(),
            Fault::BendClock => {
                let index = self.rng.random_range(0..self.coordinators.len());
                let pace = *[Pace::Slow, Pace::Even, Pace::Fast].choose(&mut self.rng).expect("there are choices");
                return self.bend_clock(index, pace);
            }
            Fault::BreakGroup => self.break_group(),
            Fault::HangTrainer => self.hang_trainer(),
            Fault::Lie => {
                if let Some(index) = self.some_rank_among_the_well() {
                    self.workers[index].trainer.lies = true;
                }
            }
            Fault::Drift => self.drift(),
            Fault::OldReport => return self.old_report(),
        }
        Ok(())
    }

    fn some_line(&mut self) -> Option<u64> {
        self.some_worker().and_then(|worker| self.workers[worker.index].line)
    }

    fn some_way_to_the_store(&mut self) -> &mut StoreWay {
        let index = self.rng.random_range(0..self.coordinators.len());
        &mut self.coordinators[index].store
    }

    /// What a rank holds changes where no slot looks.
    fn drift(&mut self) {
        let index = self.some_rank_among_the_well();
        let state = index.and_then(|index| self.workers[index].trainer.state.as_mut());
        // What has just been digested may be on its way to the disk, and that of the last step is the last.
        let tells = |state: &&mut State| !state.applied.0.is_multiple_of(self.law.spec.train.save_steps);
        if let Some(state) = state.filter(tells) {
            state.drifted = true;
        }
    }

    /// The groups of a worker break for all of their ranks.
    fn break_group(&mut self) {
        let Some(worker) = self.some_worker() else { return };
        for (generation, member) in self.groups.break_with(worker) {
            let delay = self.upto(self.weather.times.broken);
            self.clock.after(delay, Happening::Broke(member, generation));
        }
        self.spoil(worker);
    }

    /// A trainer that computes will never be done: the end of what it is at is the end of something else.
    fn hang_trainer(&mut self) {
        let Some(worker) = self.some_worker() else { return };
        let trainer = &mut self.workers[worker.index].trainer;
        if matches!(&trainer.busy, Some(Busy::Computing(_, plan)) if !plan.slots.is_empty()) {
            trainer.turn += 1;
            trainer.hangs = true;
        }
    }

    /// The ways between some workers and some others are cut, for a moment or for longer than anybody waits there.
    fn cut_peers(&mut self, while_away: Duration) {
        let patience = seconds(self.law.spec.timeouts.collective);
        let long = self.upto(2 * patience);
        let until = self.clock.now() + if self.rng.random_bool(0.5) { while_away } else { long };
        let sides: Vec<bool> = self.workers.iter().map(|_| self.rng.random_bool(0.5)).collect();
        for one in 0..sides.len() {
            for other in (0..one).filter(|other| sides[*other] != sides[one]) {
                self.peers.cut(one, other, until);
            }
        }
    }

    /// A rank that may come to differ from the others, where there are others to tell: all of them well, and at least two.
    fn some_rank_among_the_well(&mut self) -> Option<usize> {
        let now = self.clock.now();
        let serves = |coordinator: &Coordinator| coordinator.alive && coordinator.paused_until <= now;
        let well = self.coordinators.iter().all(serves) && !self.peers.are_apart(now);
        // As whoever leads has it: all in one group, which stands.
        let leads = self.coordinators.iter().filter_map(|coordinator| coordinator.office.as_ref());
        let whole = |run: &Run| {
            let all = run.members().ranks().len() == self.workers.len();
            (all && run.phase_name() == "running").then(|| run.members().generation())
        };
        let generation = leads.filter_map(|office| whole(&office.run)).next();
        // In a group that breaks a rank may apply a step that no other does, and its word is all there is.
        let stands = |generation: &Generation| self.groups.get(*generation).is_some_and(|group| !group.broken);
        let generation = generation.filter(stands);
        let trains = |worker: &Worker| {
            let line = worker.line.and_then(|line| self.network.line(line));
            let hears = line.is_some_and(|line| line.is_well(now + self.weather.delay)) && worker.slow_until <= now;
            let (trainer, group) = (&worker.trainer, worker.trainer.standing.map(|(generation, _)| generation));
            let well = worker.alive && hears && worker.paused_until <= now && !worker.leaving && !trainer.hangs;
            well && trainer.state.is_some() && group.is_some() && group == generation
        };
        if !well || self.workers.len() < 3 || !self.workers.iter().all(trains) {
            return None;
        }
        Some(self.rng.random_range(0..self.workers.len()))
    }

    /// The clock of a coordinator, or of a worker, leaps ahead.
    fn leap_clock(&mut self) -> Result<(), Violation> {
        let (now, by) = (self.clock.now(), self.upto(LEAP));
        if self.rng.random_bool(0.5) {
            let index = self.rng.random_range(0..self.coordinators.len());
            self.coordinators[index].clock.leap(now, by);
            return self.wakes(index);
        }
        // To a worker it is as if its trainer had been at it for longer.
        if let Some(worker) = self.some_worker() {
            let began = &mut self.workers[worker.index].trainer.began;
            *began = began.saturating_sub(by);
        }
        Ok(())
    }

    fn bend_clock(&mut self, index: usize, pace: Pace) -> Result<(), Violation> {
        let now = self.clock.now();
        self.coordinators[index].clock.run(now, pace);
        if let Some(office) = &mut self.coordinators[index].office {
            office.sound &= pace != Pace::Slow;
        }
        self.wakes(index)
    }

    /// A report is heard a second time from the worker that sent it, or one of another run.
    fn old_report(&mut self) -> Result<(), Violation> {
        let Some((worker, report)) = self.heard.choose(&mut self.rng).cloned() else { return Ok(()) };
        let plan = if self.rng.random_bool(0.3) { Digest([7; 32]) } else { report.plan };
        let line = self.workers[worker.index].line.filter(|_| self.runs(worker));
        let Some(line) = line.and_then(|line| self.network.line(line)).cloned() else { return Ok(()) };
        self.tell(line.coordinator.index, RunEvent::Reported(line.session, Report { plan, ..report }));
        self.settle(line.coordinator)
    }

    /// Nothing goes wrong any more, and whatever was away comes back.
    pub(super) fn fair_weather(&mut self) -> Result<(), Violation> {
        self.fair = true;
        for index in 0..self.coordinators.len() {
            self.bend_clock(index, Pace::Even)?;
        }
        for index in 0..self.workers.len() {
            self.workers[index].slowness = 1;
            self.clock.after(Duration::from_secs(5), Happening::Start(index));
        }
        Ok(())
    }
}

/// Never shorter than before: what waits must not be overtaken.
fn prolong(until: &mut Duration, to: Duration) {
    *until = (*until).max(to);
}
