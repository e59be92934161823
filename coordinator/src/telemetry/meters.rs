//! What a coordinator counts and times (HANDS).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use esta_engine::run::Notice;
use esta_proto::Step;
use esta_telemetry::metrics::{meter, seconds};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};

use crate::observer::TimeSpent;

/// The instruments of the leader; clones record into the same.
#[derive(Debug, Clone)]
pub struct Meters {
    plan: Histogram<f64>,
    commit: Histogram<f64>,
    record: Histogram<f64>,
    step: Histogram<f64>,
    committed: Counter<u64>,
    skipped: Counter<u64>,
    lost: Counter<u64>,
    duplicates: Counter<u64>,
    samples: Counter<u64>,
    phases: Counter<f64>,
    generations: Counter<u64>,
    workers_lost: Counter<u64>,
    turned_away: TurnedAway,
}

impl Meters {
    /// The instruments of this process.
    #[must_use]
    pub fn new() -> Self {
        let meter = meter();
        let counter = |name, says| counted(name, says, &[]);
        let phases = meter.f64_counter("esta.step.phase").with_unit("s");
        let phases = phases.with_description("Time of ranks by what they were at, summed over reports").build();
        Self {
            plan: seconds(
                "esta.plan.duration",
                "Time to draw the plans that may be given out and queue their messages",
            ),
            commit: seconds("esta.commit.duration", "Time from a step's first report to its durable record"),
            record: seconds("esta.record.write", "Time of a durable write"),
            step: seconds("esta.step.duration", "Time between the commits of two steps"),
            committed: counter("esta.steps.committed", "Steps committed"),
            skipped: counter("esta.steps.skipped", "Steps committed as skipped: a loss or gradient was not finite"),
            lost: counter("esta.steps.lost", "Steps given out again because their generation ended"),
            duplicates: counter("esta.reports.duplicate", "Score vectors of steps that were known already"),
            samples: counter("esta.samples", "Samples trained on in committed steps"),
            phases,
            generations: meter.u64_counter("esta.generations").with_description("Generations formed, by cause").build(),
            workers_lost: counted("esta.workers.lost", "Workers lost, by how", &["evicted", "gone"]),
            turned_away: TurnedAway::new(),
        }
    }

    /// A plan was drawn and handed out within this time.
    pub fn planned(&self, took: Duration) {
        self.plan.record(took.as_secs_f64(), &[]);
    }

    /// A step that had been given out was given out again.
    pub fn lost(&self) {
        self.lost.add(1, &[]);
    }

    /// So many score vectors were known already.
    pub fn duplicates(&self, count: u64) {
        self.duplicates.add(count, &[]);
    }

    /// A write took this long.
    pub fn written(&self, took: Duration) {
        self.record.record(took.as_secs_f64(), &[]);
    }

    /// A step is durable this long after its first report came.
    pub fn durable(&self, after: Duration) {
        self.commit.record(after.as_secs_f64(), &[]);
    }

    /// Steps were committed, so many of them skipped, of so many samples each, in this time each.
    pub fn committed(&self, steps: u64, skipped: u64, samples: u64, each: Duration) {
        self.committed.add(steps, &[]);
        self.skipped.add(skipped, &[]);
        self.samples.add(samples * steps, &[]);
        (0..steps).for_each(|_| self.step.record(each.as_secs_f64(), &[]));
    }

    /// Where the time of some reports went.
    pub fn spent(&self, spent: &TimeSpent) {
        for (phase, time) in spent.phases.named() {
            self.phases.add(time.as_secs_f64(), &[KeyValue::new("phase", phase)]);
        }
    }

    /// A generation was formed.
    pub fn formed(&self, cause: &'static str) {
        self.generations.add(1, &[KeyValue::new("cause", cause)]);
    }

    /// Something happened to a worker.
    pub fn note(&self, notice: &Notice) {
        match notice {
            Notice::Evicted(..) => self.workers_lost.add(1, &[because("evicted")]),
            Notice::Gone(..) => self.workers_lost.add(1, &[because("gone")]),
            Notice::TurnedAway(..) => self.turned_away.count("run"),
            _ => {}
        }
    }
}

/// Workers that were not let in: for what they show, for what they speak, or by the run, which they do not fit.
#[derive(Debug, Clone)]
pub struct TurnedAway(Counter<u64>);

impl TurnedAway {
    /// The instrument of this process.
    #[must_use]
    pub fn new() -> Self {
        let causes = ["credentials", "protocol", "run"];
        Self(counted("esta.workers.turned_away", "Workers that were not let in, by why", &causes))
    }

    /// One more.
    pub fn count(&self, cause: &'static str) {
        self.0.add(1, &[because(cause)]);
    }
}

impl Default for TurnedAway {
    fn default() -> Self {
        Self::new()
    }
}

/// A counter that nothing was added to is a series all the same, for each cause: rates begin with the first event.
fn counted(name: &'static str, says: &'static str, causes: &[&'static str]) -> Counter<u64> {
    let counter = meter().u64_counter(name).with_description(says).build();
    match causes {
        [] => counter.add(0, &[]),
        causes => causes.iter().for_each(|cause| counter.add(0, &[because(cause)])),
    }
    counter
}

fn because(cause: &'static str) -> KeyValue {
    KeyValue::new("cause", cause)
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

/// When the first report of each step that is not durable came.
#[derive(Debug, Default)]
pub struct FirstReports(BTreeMap<Step, Instant>);

impl FirstReports {
    /// A report of a step came.
    pub fn note(&mut self, step: Step) {
        self.0.entry(step).or_insert_with(Instant::now);
    }

    /// When the first one of this step came; it and earlier ones are forgotten.
    pub fn take(&mut self, step: Step) -> Option<Instant> {
        let later = self.0.split_off(&step.next());
        std::mem::replace(&mut self.0, later).remove(&step)
    }
}
