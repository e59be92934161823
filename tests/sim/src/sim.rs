//! The simulation itself: happenings in order, until the run is complete or something does not hold.

mod connecting;
mod coordinating;
mod electing;
mod happening;
mod meeting;
mod misfortune;
mod training;
mod working;
mod writing;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use esta_engine::{
    law::Law,
    order::EpochCache,
    run::{Event, Report, StepRecord},
};
use esta_proto::Step;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::happening::Happening;
use crate::{
    clock::{Clock, OwnClock},
    coordinator::{Coordinator, StoreWay},
    faults::Weather,
    group::Groups,
    invariants::{Violation, dt_1, equals_the_serial_replay, equals_the_undisturbed_run},
    job::{self, Chain},
    network::{Network, Process},
    peers::Peers,
    record::Store,
    worker::Worker,
};

/// After the last fault the run has this long.
const CALM: Duration = Duration::from_secs(900);
/// Happenings in all: more means that something goes round in circles.
const MOST: u64 = 2_000_000;

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
    /// The record of a run that nothing disturbs.
    calm: Vec<StepRecord>,
    rng: ChaCha8Rng,
    clock: Clock<Happening>,
    weather: Weather,
    store: Store,
    /// Coordinators that are gone, and what was under way from them to the store with them.
    unsent: BTreeSet<Process>,
    network: Network,
    peers: Peers,
    groups: Groups,
    /// What the samples of a step are.
    order: EpochCache,
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
            store: StoreWay::default(),
            clock: OwnClock::default(),
            office: None,
        };
        let mut sim = Self {
            coordinators: (0..weather.coordinators).map(idle).collect(),
            workers: (0..weather.workers).map(|index| Worker::new(index, &law)).collect(),
            calm: job::calm(&law),
            order: job::order(&law),
            law,
            rng,
            clock: Clock::default(),
            store: Store::default(),
            unsent: BTreeSet::new(),
            network: Network::default(),
            peers: Peers::default(),
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
        let read = |record: &StepRecord| self.groups.read(record.step, record.reduced);
        dt_1(job::SAMPLES, self.store.history.iter().map(|record| (record.step, read(record))))?;
        // Whoever led last has the table of the record.
        let offices = self.coordinators.iter().filter_map(|coordinator| coordinator.office.as_ref());
        let ledgers =
            offices.filter(|office| office.epoch == self.store.epoch).filter_map(|office| office.run.ledger());
        for ledger in ledgers {
            equals_the_serial_replay(&self.law, &self.store.history, ledger.table())?;
        }
        equals_the_undisturbed_run(&self.law, &self.calm, &self.store.history)
    }

    /// A time from zero up to this one.
    fn upto(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.rng.random::<f64>())
    }

    fn delay(&mut self) -> Duration {
        let most = self.weather.delay;
        Duration::from_micros(50) + self.upto(most)
    }

    /// Whether some rank holds what the others do not. Who is right is told by the others, so they are left in peace.
    fn somebody_differs(&self) -> bool {
        let differs = |worker: &Worker| worker.trainer.lies || worker.trainer.state.is_some_and(|state| state.drifted);
        self.workers.iter().any(differs)
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
