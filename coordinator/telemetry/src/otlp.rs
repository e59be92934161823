//! Exports by OTLP over gRPC (HANDS), where OpenTelemetry's variables say where to. Connections live on a runtime of
//! their own: a collector that is absent or slow is waited for there and nowhere else.

use std::{env, fs, io, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, MetricExporter, SpanExporter, WithExportConfig, WithTonicConfig,
    tonic_types::transport::{Certificate, ClientTlsConfig, Identity},
};
use opentelemetry_sdk::{
    Resource,
    resource::EnvResourceDetector,
    trace::{IdGenerator, RandomIdGenerator},
};
use tokio::runtime::{Builder, Runtime};

use crate::trace;

/// How long an export may take where `OTEL_EXPORTER_OTLP_TIMEOUT` does not say it: a collector that hangs holds up the end of a
/// program no longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Nothing is exported.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system gives no thread.
    #[error("no thread for exports")]
    Thread(#[source] io::Error),
    /// The exporter does not take what it is told.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT cannot be used")]
    Exporter(#[from] ExporterBuildError),
    /// A certificate or a key is not there.
    #[error("{variable} names {path}, which cannot be read")]
    File {
        /// The variable.
        variable: String,
        /// What it names.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Half of what a program shows of itself.
    #[error("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY belong together: one is not set")]
    Half,
    /// There is no such share of the steps.
    #[error("{0}")]
    Share(String),
}

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

/// What OpenTelemetry's variables say of the export of a signal.
struct Said<V> {
    /// `TRACES` or `METRICS`.
    signal: &'static str,
    variable: V,
}

impl<V: Fn(&str) -> Option<String>> Said<V> {
    fn set(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// A variable's name and value: the signal's own, or that of all signals.
    fn of(&self, what: &str) -> Option<(String, String)> {
        let names = [format!("OTEL_EXPORTER_OTLP_{}_{what}", self.signal), format!("OTEL_EXPORTER_OTLP_{what}")];
        names.into_iter().find_map(|name| Some((name.clone(), self.set(&name)?)))
    }

    /// Whether somebody asked for it.
    fn is_wanted(&self) -> bool {
        let exporter = self.set(&format!("OTEL_{}_EXPORTER", self.signal));
        self.of("ENDPOINT").is_some() && exporter.as_deref() != Some("none")
    }

    /// Whether its collector is spoken to by TLS: an endpoint without a scheme is, unless it is said to be insecure.
    fn is_secure(&self) -> bool {
        let (_, endpoint) = self.of("ENDPOINT").unwrap_or_default();
        match endpoint.split_once("://") {
            Some((scheme, _)) => scheme.eq_ignore_ascii_case("https"),
            None => !self.of("INSECURE").is_some_and(|(_, insecure)| insecure.eq_ignore_ascii_case("true")),
        }
    }

    fn file(&self, what: &str) -> Result<Option<Vec<u8>>, StartError> {
        let Some((variable, path)) = self.of(what) else { return Ok(None) };
        fs::read(&path).map(Some).map_err(|source| StartError::File { variable, path, source })
    }

    /// Whom it believes, the system's authorities unless one is named, and what it shows of itself.
    fn tls(&self) -> Result<ClientTlsConfig, StartError> {
        let config = match self.file("CERTIFICATE")? {
            Some(authority) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)),
            None => ClientTlsConfig::new().with_enabled_roots(),
        };
        match (self.file("CLIENT_CERTIFICATE")?, self.file("CLIENT_KEY")?) {
            (Some(certificate), Some(key)) => Ok(config.identity(Identity::from_pem(certificate, key))),
            (None, None) => Ok(config),
            _ => Err(StartError::Half),
        }
    }

    /// What is said, to an exporter.
    fn tell<B: WithExportConfig + WithTonicConfig>(&self, builder: B) -> Result<B, StartError> {
        let builder = if self.is_secure() { builder.with_tls_config(self.tls()?) } else { builder };
        Ok(if self.of("TIMEOUT").is_some() { builder } else { builder.with_timeout(PATIENCE) })
    }
}

impl Otlp {
    /// Begins to export spans; `None` where nobody asked for anything.
    pub fn start(resource: &Resource) -> Result<Option<Self>, StartError> {
        let variable = |name: &str| env::var(name).ok();
        let [traces, metrics] = ["TRACES", "METRICS"].map(|signal| Said { signal, variable });
        if !traces.is_wanted() && !metrics.is_wanted() {
            return Ok(None);
        }
        let share = if traces.is_wanted() { trace::share(variable).map_err(StartError::Share)? } else { None };
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build();
        let runtime = runtime.map_err(StartError::Thread)?;
        let handle = runtime.handle().clone();
        // From here on it is ended as programs need it that are asynchronous themselves, whatever comes.
        let mut otlp = Self { runtime: Some(runtime), metrics: None };
        let _inside = handle.enter();
        let spans = |share| Ok::<_, StartError>((traces.tell(SpanExporter::builder().with_tonic())?.build()?, share));
        let spans = share.map(spans).transpose()?;
        if metrics.is_wanted() {
            otlp.metrics = Some(metrics.tell(MetricExporter::builder().with_tonic())?.build()?);
        }
        if let Some((exporter, share)) = spans {
            trace::start(exporter, resource, share);
        }
        Ok(Some(otlp))
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

    fn said<'a>(
        signal: &'static str,
        set: &'a [(&'a str, &'a str)],
    ) -> Said<impl Fn(&str) -> Option<String> + use<'a>> {
        let find = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Said { signal, variable: find }
    }

    #[test]
    fn a_signal_goes_where_it_is_asked_for_and_nowhere_else() {
        let wanted = |signal, set: &[(&str, &str)]| said(signal, set).is_wanted();
        let both = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4317");
        assert!(wanted("TRACES", &[both]) && wanted("METRICS", &[both]));
        let traces = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://x:4317")];
        assert!(wanted("TRACES", &traces) && !wanted("METRICS", &traces));
        assert!(!wanted("METRICS", &[both, ("OTEL_METRICS_EXPORTER", "none")]));
        assert!(!wanted("TRACES", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]) && !wanted("TRACES", &[]));
    }

    #[test]
    fn a_collector_is_spoken_to_by_tls_where_its_endpoint_says_so_or_says_nothing() {
        let secure = |endpoint: &str, insecure: &str| {
            let set = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_EXPORTER_OTLP_INSECURE", insecure)];
            said("TRACES", &set).is_secure()
        };
        assert!(secure("https://x:4317", "true") && secure("HTTPS://x", "") && secure("x:4317", "false"));
        assert!(!secure("http://x:4317", "false") && !secure("x:4317", "TRUE"));
    }

    #[test]
    fn a_certificate_that_is_not_there_is_named_with_its_variable() {
        let set =
            [("OTEL_EXPORTER_OTLP_CERTIFICATE", "of-all"), ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "own/ca.pem")];
        let why = said("TRACES", &set).tls().expect_err("no such file").to_string();
        assert_eq!(why, "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE names own/ca.pem, which cannot be read");
        let why = said("METRICS", &set).tls().expect_err("no such file").to_string();
        assert_eq!(why, "OTEL_EXPORTER_OTLP_CERTIFICATE names of-all, which cannot be read");
        let set = [("OTEL_EXPORTER_OTLP_CLIENT_KEY", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))];
        assert!(said("TRACES", &set).tls().is_err_and(|why| why.to_string().contains("belong together")));
    }
}
