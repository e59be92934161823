//! What a worker counts and times (HANDS).

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use esta_engine::run::Report;
use esta_telemetry::metrics::{meter, seconds};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram},
};

use crate::{machine, trainer::DeviceKind};

/// The instruments of a worker process; clones record into the same.
#[derive(Debug, Clone)]
pub struct Meters {
    applied: Counter<u64>,
    phases: Counter<f64>,
    reduced: Counter<u64>,
    slots: Histogram<f64>,
}

/// Where a worker stands, for gauges and probes.
#[derive(Debug, Default)]
pub struct Place {
    /// Its rank, plus one; 0 outside any group.
    rank: AtomicU64,
    generation: AtomicU64,
    joined: AtomicBool,
    /// Bytes that the job was planned to take; 0 where nobody plans it.
    planned: AtomicU64,
}

impl Meters {
    /// The instruments of this process.
    #[must_use]
    pub fn new() -> Self {
        let meter = meter();
        let phases = meter.f64_counter("esta.worker.step.phase").with_unit("s");
        let applied = meter.u64_counter("esta.worker.steps.applied").with_description("Steps applied to the adapters");
        let reduced = meter.u64_counter("esta.worker.reduced").with_unit("By");
        Self {
            applied: applied.build(),
            phases: phases.with_description("Time of this rank by what it was at").build(),
            reduced: reduced.with_description("Bytes that went into all-reduces").build(),
            slots: seconds("esta.worker.slot.duration", "Forward and backward of a slot"),
        }
    }

    /// A step was applied that reduced so many bytes.
    pub fn stepped(&self, Report { timings, .. }: &Report, bytes: u64) {
        for (phase, time) in timings.phases().named() {
            self.phases.add(time.as_secs_f64(), &[KeyValue::new("phase", phase)]);
        }
        timings.slots.iter().for_each(|(_, took)| self.slots.record(took.as_secs_f64(), &[]));
        self.reduced.add(bytes, &[]);
        self.applied.add(1, &[]);
    }
}

/// Device memory in use: a process without a device asks for none.
fn held_by(device: DeviceKind) -> Option<u64> {
    (device == DeviceKind::Cuda).then(esta_c10d::used_cuda_memory).flatten()
}

impl Default for Meters {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// A place whose numbers are gauges of this process.
    #[must_use]
    pub fn watched(device: DeviceKind) -> Arc<Self> {
        let (place, meter) = (Arc::new(Self::default()), meter());
        let gauge = |name: &'static str, says: &'static str, read: fn(&Self) -> Option<u64>| {
            let place = place.clone();
            let gauge = meter.u64_observable_gauge(name).with_description(says);
            gauge
                .with_callback(move |out| read(&place).into_iter().for_each(|number| out.observe(number, &[])))
                .build();
        };
        gauge("esta.worker.rank", "Its rank, where it has one", |place| {
            place.rank.load(Ordering::Relaxed).checked_sub(1)
        });
        gauge("esta.worker.generation", "The generation it stands in, or stood in last", |place| {
            Some(place.generation.load(Ordering::Relaxed))
        });
        let bytes = |name: &'static str, says: &'static str| {
            meter.u64_observable_gauge(name).with_unit("By").with_description(says)
        };
        bytes("esta.worker.memory", "Memory in use")
            .with_callback(move |out| {
                let kind = |kind: &'static str| [KeyValue::new("kind", kind)];
                machine::resident_memory().into_iter().for_each(|held| out.observe(held, &kind("rss")));
                held_by(device).into_iter().for_each(|held| out.observe(held, &kind("device")));
            })
            .build();
        let planned = place.clone();
        bytes("esta.worker.memory.planned", "Memory the job was planned to take")
            .with_callback(move |out| {
                let bytes = planned.planned.load(Ordering::Relaxed);
                if bytes > 0 {
                    out.observe(bytes, &[]);
                }
            })
            .build();
        place
    }

    /// It takes part in a run.
    pub fn joined(&self, planned: Option<u64>) {
        self.planned.store(planned.unwrap_or_default(), Ordering::Relaxed);
        self.joined.store(true, Ordering::Relaxed);
    }

    /// It stands in a group.
    pub fn stands(&self, generation: u64, rank: u32) {
        self.generation.store(generation, Ordering::Relaxed);
        self.rank.store(u64::from(rank) + 1, Ordering::Relaxed);
    }

    /// It stands in none.
    pub fn left(&self) {
        self.rank.store(0, Ordering::Relaxed);
    }

    /// Whether it has joined a run.
    ///
    /// # Errors
    /// That it has not.
    pub fn is_ready(&self) -> Result<(), String> {
        let joined = self.joined.load(Ordering::Relaxed);
        joined.then_some(()).ok_or_else(|| "this worker has not joined a run yet".to_owned())
    }
}
