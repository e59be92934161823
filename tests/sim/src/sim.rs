//! The simulation itself: happenings in order, until the run is complete or something does not hold.

mod coordinating;
mod electing;
mod misfortune;
mod training;
mod working;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use esta_engine::{
    law::Law,
    run::{Event, Message, Recovered, Report},
};
use esta_proto::{Fence, Generation, LeaderEpoch, SessionId, Step};
use esta_worker_engine::{Event as WorkerEvent, Reply, TrainerEvent};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    clock::{Clock, OwnClock},
    coordinator::Coordinator,
    faults::Weather,
    group::{Groups, State},
    invariants::{Violation, equals_the_undisturbed_run},
    job::{self, Chain},
    network::{Network, Process},
    record::Store,
    worker::Worker,
};

/// After the last fault the run has this long.
const CALM: Duration = Duration::from_secs(900);
/// Happenings in all: more means that something goes round in circles.
const MOST: u64 = 2_000_000;

/// Something that happens.
#[derive(Debug)]
enum Happening {
    /// A worker's process is started.
    Start(usize),
    /// A worker looks for a coordinator.
    Connect(Process),
    /// A session opens.
    Opened(Process, Process),
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
    Reduced(Process, u64, Vec<esta_engine::table::Outcome>),
    /// A worker hears that a group to come stands.
    Prepared(Process, Fence),
    /// It hears that it cannot be built.
    NotPrepared(Process, Fence),
    /// A trainer hears that its group is broken.
    Broke(Process, Generation),
    /// A coordinator's record is written.
    Written(Process),
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

/// How a simulation ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Virtual time it took.
    pub took: Duration,
    /// Happenings.
    pub happenings: u64,
    /// Terms of office.
    pub epochs: u64,
    /// Generations on record.
    pub generations: u64,
    /// Generations that outlived their leader.
    pub resumed: u64,
    /// Faults.
    pub faults: u32,
    /// Steps that ranks applied, all of them together, over those of the run.
    pub redone: f64,
}

/// How long it took to train.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trained {
    /// Virtual time from the first group to the last step on record.
    pub took: Duration,
    /// Faults.
    pub faults: u32,
    /// Generations on record.
    pub generations: u64,
}

/// A simulated run.
pub struct Sim {
    law: Arc<Law>,
    rng: ChaCha8Rng,
    clock: Clock<Happening>,
    weather: Weather,
    store: Store,
    network: Network,
    groups: Groups,
    coordinators: Vec<Coordinator>,
    workers: Vec<Worker>,
    /// Complete checkpoints, which every worker reads.
    disk: BTreeMap<Step, Chain>,
    /// Reports heard, for those that are heard again.
    heard: Vec<(Process, Report)>,
    faults: u32,
    resumed: u64,
    applied: u64,
    fair: bool,
    /// When the first group stood.
    first_stood: Option<Duration>,
    complete: bool,
    /// Some writer has written the results.
    concluded: bool,
    failed: Option<String>,
    happenings: u64,
    /// Whether every happening is told.
    pub verbose: bool,
}

impl Sim {
    /// The simulation of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let weather = Weather::drawn(&mut rng);
        Self::under(job::law(weather.lookahead), weather, rng)
    }

    /// The simulation of a job under this weather.
    pub(crate) fn under(law: Arc<Law>, weather: Weather, rng: ChaCha8Rng) -> Self {
        let idle = |index| Coordinator {
            process: Process { index, life: 1 },
            alive: true,
            paused_until: Duration::ZERO,
            cut_until: Duration::ZERO,
            clock: OwnClock::default(),
            office: None,
        };
        let mut sim = Self {
            coordinators: (0..weather.coordinators).map(idle).collect(),
            workers: (0..weather.workers).map(|index| Worker::new(index, &law)).collect(),
            law,
            rng,
            clock: Clock::default(),
            store: Store::default(),
            network: Network::default(),
            groups: Groups::default(),
            disk: BTreeMap::new(),
            heard: Vec::new(),
            faults: 0,
            resumed: 0,
            applied: 0,
            fair: false,
            first_stood: None,
            complete: false,
            concluded: false,
            failed: None,
            happenings: 0,
            verbose: false,
            weather,
        };
        for coordinator in &sim.coordinators {
            sim.clock.after(Duration::ZERO, Happening::Campaign(coordinator.process));
        }
        for index in 0..sim.workers.len() {
            let delay = sim.upto(Duration::from_secs(1));
            sim.clock.after(delay, Happening::Start(index));
        }
        let first = sim.upto(Duration::from_secs(4));
        sim.clock.after(first, Happening::Misfortune);
        sim
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// [`Violation`] of the first invariant that does not hold.
    pub fn run(mut self) -> Result<Outcome, Violation> {
        self.run_until(MOST, |sim| sim.complete)?;
        let steps = self.store.history.len() as f64;
        Ok(Outcome {
            took: self.clock.now(),
            happenings: self.happenings,
            epochs: self.store.epoch.0,
            generations: self.store.content().generation.0,
            resumed: self.resumed,
            faults: self.faults,
            redone: self.applied as f64 / steps,
        })
    }

    /// Runs until every step is on record, and says how long that took since the first group stood.
    pub(crate) fn train(mut self, most: u64) -> Result<Trained, Violation> {
        let total = self.law.total_steps(job::SAMPLES) as usize;
        self.run_until(most, |sim| sim.store.history.len() == total)?;
        let took = self.clock.now() - self.first_stood.unwrap_or_default();
        Ok(Trained { took, faults: self.faults, generations: self.store.content().generation.0 })
    }

    fn run_until(&mut self, most: u64, done: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        let mut fair_since = None;
        while !done(self) {
            let Some(happening) = self.clock.next() else {
                return Err(Violation::new("progress", "nothing will ever happen again"));
            };
            self.happenings += 1;
            if self.verbose {
                eprintln!("{:>12.6} {happening:?}", self.clock.now().as_secs_f64());
            }
            self.happen(happening)?;
            if let Some(reason) = &self.failed {
                return Err(Violation::new("progress", format!("the run failed: {reason}")));
            }
            if self.fair && fair_since.is_none() {
                fair_since = Some(self.clock.now());
            }
            let patience = fair_since.map_or(Duration::MAX, |since| since + CALM);
            if self.clock.now() > patience || self.happenings > most {
                return Err(Violation::new(
                    "progress",
                    format!("after {CALM:?} of fair weather or {most} happenings: {}", self.describe()),
                ));
            }
        }
        equals_the_undisturbed_run(&self.law, &self.store.history)
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        let Some(happening) = self.unless_paused(happening) else { return Ok(()) };
        match happening {
            Happening::Start(index) => self.start_worker(index),
            Happening::Connect(worker) => self.connect(worker),
            Happening::Opened(worker, coordinator) => return self.opened(worker, coordinator),
            Happening::Up(line, fence, reply) => return self.up(line, fence, reply),
            Happening::Down(line, fence, message) => return self.down(line, fence, message),
            Happening::Left(coordinator, session) => return self.left(coordinator, session),
            Happening::Disconnected(worker, line) => return self.disconnected(worker, line),
            Happening::Beat(worker) => return self.beat(worker),
            Happening::Trained(worker, turn) => return self.trained(worker, turn),
            Happening::GaveUp(worker, turn) => return self.gave_up(worker, turn),
            Happening::Formed(worker, turn, state) => return self.formed(worker, turn, state),
            Happening::Reduced(worker, turn, outcomes) => return self.reduced(worker, turn, &outcomes),
            Happening::Prepared(worker, fence) => {
                return self.advise(worker, WorkerEvent::Trainer(TrainerEvent::Prepared(fence)));
            }
            Happening::NotPrepared(worker, fence) => {
                let reason = "a peer is gone".to_owned();
                return self.advise(worker, WorkerEvent::Trainer(TrainerEvent::NotPrepared(fence, reason)));
            }
            Happening::Broke(worker, generation) => return self.broke(worker, generation),
            Happening::Written(coordinator) => return self.written(coordinator),
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
            Happening::Connect(worker)
            | Happening::Opened(worker, _)
            | Happening::Disconnected(worker, _)
            | Happening::Beat(worker)
            | Happening::Trained(worker, _)
            | Happening::GaveUp(worker, _)
            | Happening::Formed(worker, ..)
            | Happening::Reduced(worker, ..)
            | Happening::Prepared(worker, _)
            | Happening::NotPrepared(worker, _)
            | Happening::Broke(worker, _) => self.paused_worker(*worker),
            Happening::Down(line, ..) => {
                self.network.line(*line).map_or(Duration::ZERO, |line| self.paused_worker(line.worker))
            }
            Happening::Up(line, ..) => {
                self.network.line(*line).map_or(Duration::ZERO, |line| self.paused_coordinator(line.coordinator))
            }
            Happening::Left(coordinator, _)
            | Happening::Written(coordinator)
            | Happening::Tick(coordinator, _)
            | Happening::Campaign(coordinator)
            | Happening::Granted(coordinator, ..)
            | Happening::Renew(coordinator, _)
            | Happening::Renewed(coordinator, ..)
            | Happening::Expiry(coordinator, _) => self.paused_coordinator(*coordinator),
            Happening::Start(_)
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

    /// A time from zero up to this one.
    fn upto(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.rng.random::<f64>())
    }

    fn delay(&mut self) -> Duration {
        let most = self.weather.delay;
        Duration::from_micros(50) + self.upto(most)
    }

    /// Where a run is that goes nowhere.
    fn describe(&self) -> String {
        let office = |coordinator: &Coordinator| {
            let run = &coordinator.office.as_ref()?.run;
            let provable = run.ledger().map(esta_engine::run::Ledger::provable);
            Some(format!(
                "epoch {} {}, {} live, provable {provable:?}",
                run.fence().epoch,
                run.phase_name(),
                run.members().live().len()
            ))
        };
        let offices: Vec<String> = self.coordinators.iter().filter_map(office).collect();
        format!("{} steps on record, {}", self.store.history.len(), offices.join("; "))
    }

    /// Events that reach the law of a coordinator without a session.
    fn tell(&mut self, coordinator: usize, event: Event) {
        if let Some(office) = &mut self.coordinators[coordinator].office {
            office.events.push_back(event);
        }
    }
}
