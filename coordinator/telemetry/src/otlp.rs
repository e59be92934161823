//! Exports by OTLP over gRPC (HANDS), where `OTEL_EXPORTER_OTLP_ENDPOINT` says where to. Connections live on a runtime of
//! their own: a collector that is absent or slow is waited for there and nowhere else.

use std::{env, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use tokio::runtime::{Builder, Runtime};

use crate::{StartError, trace};

/// How long an export may take: a collector that hangs holds up the end of a program no longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whatever OTLP needs while the program runs.
#[derive(Debug)]
pub struct Otlp {
    runtime: Option<Runtime>,
    /// Until somebody exports metrics by it.
    pub metrics: Option<MetricExporter>,
}

/// What says which process a span or a metric is of.
pub fn resource(service: &'static str, version: &'static str) -> Resource {
    let named = env::var_os("OTEL_SERVICE_NAME").is_some();
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", version));
    let builder = if named { builder } else { builder.with_service_name(service) };
    builder.build()
}

impl Otlp {
    /// Begins to export spans; `None` where nobody asked for it.
    pub fn start(resource: &Resource) -> Result<Option<Self>, StartError> {
        if env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_none_or(|endpoint| endpoint.is_empty()) {
            return Ok(None);
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build();
        let runtime = runtime.map_err(StartError::Thread)?;
        let inside = runtime.enter();
        let spans = SpanExporter::builder().with_tonic().with_timeout(PATIENCE).build()?;
        let metrics = MetricExporter::builder().with_tonic().with_timeout(PATIENCE).build()?;
        trace::start(spans, resource);
        drop(inside);
        Ok(Some(Self { runtime: Some(runtime), metrics: Some(metrics) }))
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
