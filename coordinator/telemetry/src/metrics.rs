//! Metrics (HANDS): OpenTelemetry instruments, read as Prometheus text by whoever asks and pushed by OTLP where a collector is
//! named. Recording is a few atomic operations, whoever reads.

use std::{sync::OnceLock, time::Duration};

use opentelemetry::{
    global,
    metrics::{Histogram, Meter},
};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
};
use prometheus::{Registry, TextEncoder};

use crate::otlp::Otlp;

/// How long the end of a program waits for its last metrics.
const FAREWELL: Duration = Duration::from_secs(3);

/// The media type of [`exposition`].
pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

/// Bounds of histograms of durations, in seconds: 20 us to two minutes, about three to a decade.
const SECONDS: [f64; 21] = [
    2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
    120.0,
];

static SEEN: OnceLock<Seen> = OnceLock::new();

struct Seen {
    registry: Registry,
    provider: SdkMeterProvider,
    exported: bool,
}

pub(crate) fn start(resource: Resource, otlp: Option<&mut Otlp>) {
    let registry = Registry::new();
    let reader = opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false).build();
    let mut builder = SdkMeterProvider::builder().with_resource(resource);
    match reader {
        Ok(reader) => builder = builder.with_reader(reader),
        Err(error) => tracing::warn!(%error, "metrics cannot be read"),
    }
    let exporter = otlp.and_then(|otlp| otlp.metrics.take());
    let exported = exporter.is_some();
    if let Some(exporter) = exporter {
        builder = builder.with_reader(PeriodicReader::builder(exporter).build());
    }
    let provider = builder.build();
    global::set_meter_provider(provider.clone());
    SEEN.set(Seen { registry, provider, exported }).ok();
}

pub(crate) fn stop() {
    if let Some(seen) = SEEN.get() {
        seen.provider.shutdown_with_timeout(FAREWELL).ok();
    }
}

/// Whether metrics are sent to a collector.
#[must_use]
pub fn are_exported() -> bool {
    SEEN.get().is_some_and(|seen| seen.exported)
}

/// Where this program's instruments are made.
#[must_use]
pub fn meter() -> Meter {
    global::meter_provider().meter_with_scope(crate::scope())
}

/// A histogram of durations.
#[must_use]
pub fn seconds(name: &'static str, description: &'static str) -> Histogram<f64> {
    let bounds = SECONDS.to_vec();
    meter().f64_histogram(name).with_unit("s").with_description(description).with_boundaries(bounds).build()
}

/// Every metric as Prometheus reads it.
#[must_use]
pub fn exposition() -> String {
    let families = SEEN.get().map(|seen| seen.registry.gather()).unwrap_or_default();
    TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| format!("# {error}\n"))
}
