//! Exports by OTLP over gRPC (HANDS), where OpenTelemetry's variables say where to. Connections live on a runtime of
//! their own: a collector that is absent or slow is waited for there and nowhere else.

use std::{env, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    resource::EnvResourceDetector,
    trace::{IdGenerator, RandomIdGenerator},
};
use tokio::runtime::{Builder, Runtime};

use crate::{StartError, trace};

/// How long an export may take: a collector that hangs holds up the end of a program no longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whatever OTLP needs while the program runs.
#[derive(Debug)]
pub struct Otlp {
    runtime: Option<Runtime>,
    /// Until somebody exports metrics by it; `None` where nobody asked for them.
    pub metrics: Option<MetricExporter>,
}

/// What says which process a span or a metric is of. What `OTEL_RESOURCE_ATTRIBUTES` says of it stands.
pub fn resource(service: &'static str, version: &'static str) -> Resource {
    let named = env::var_os("OTEL_SERVICE_NAME").is_some();
    let builder = Resource::builder();
    let builder = if named { builder } else { builder.with_service_name(service) };
    let ours = [KeyValue::new("service.version", version), KeyValue::new("service.instance.id", instance())];
    builder.with_attributes(ours).with_detector(Box::new(EnvResourceDetector::new())).build()
}

/// Tells this process from every other: a random UUID.
fn instance() -> String {
    let random = u128::from_be_bytes(RandomIdGenerator::default().new_trace_id().to_bytes());
    let (version, variant) = (0x4 << 76, 0x2 << 62);
    let hex = format!("{:032x}", random & !(0xf << 76) & !(0x3 << 62) | version | variant);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Whether somebody asked for a signal, `TRACES` or `METRICS`, to be exported, as OpenTelemetry's variables say it.
fn is_wanted(signal: &str, variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let exporter = variable(&format!("OTEL_{signal}_EXPORTER"));
    let endpoint = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
    (is_set("OTEL_EXPORTER_OTLP_ENDPOINT") || is_set(&endpoint)) && exporter.as_deref() != Some("none")
}

impl Otlp {
    /// Begins to export spans; `None` where nobody asked for anything.
    pub fn start(resource: &Resource) -> Result<Option<Self>, StartError> {
        let wanted = |signal| is_wanted(signal, |name| env::var(name).ok());
        let (traces, metrics) = (wanted("TRACES"), wanted("METRICS"));
        if !traces && !metrics {
            return Ok(None);
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build();
        let runtime = runtime.map_err(StartError::Thread)?;
        let inside = runtime.enter();
        let spans = || SpanExporter::builder().with_tonic().with_timeout(PATIENCE).build();
        let numbers = || MetricExporter::builder().with_tonic().with_timeout(PATIENCE).build();
        let (spans, metrics) = (traces.then(spans).transpose()?, metrics.then(numbers).transpose()?);
        if let Some(spans) = spans {
            trace::start(spans, resource);
        }
        drop(inside);
        Ok(Some(Self { runtime: Some(runtime), metrics }))
    }
}

impl Drop for Otlp {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_has_a_number_of_its_own() {
        let (one, other) = (instance(), instance());
        assert_ne!(one, other);
        let parts: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{one}");
        assert!(one[14..15] == *"4" && "89ab".contains(&one[19..20]), "{one} is no random UUID");
    }

    #[test]
    fn a_signal_goes_where_it_is_asked_for_and_nowhere_else() {
        let wanted = |signal: &str, set: &[(&str, &str)]| {
            is_wanted(signal, |name| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
        };
        let both = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4317");
        assert!(wanted("TRACES", &[both]) && wanted("METRICS", &[both]));
        let traces = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://x:4317")];
        assert!(wanted("TRACES", &traces) && !wanted("METRICS", &traces));
        assert!(!wanted("METRICS", &[both, ("OTEL_METRICS_EXPORTER", "none")]));
        assert!(!wanted("TRACES", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]) && !wanted("TRACES", &[]));
    }
}
