//! What ESTA's programs let others see (HANDS): logs, traces and metrics, and the address where the latter are read.
//!
//! Watching costs the watched nothing it would notice: spans and metrics are handed over without waiting, from queues that
//! drop what finds no room, and everything that speaks to the outside runs on a thread of its own.

pub mod http;
mod logs;
pub mod metrics;
mod otlp;
pub mod rpc;
pub mod trace;

use opentelemetry::InstrumentationScope;
use tracing_subscriber::fmt::MakeWriter;

pub use self::http::Exposure;

/// A program that is watched.
#[derive(Debug, Clone, Copy)]
pub struct Program<W> {
    /// Its name as a service; `OTEL_SERVICE_NAME` overrides it.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it logs unless `RUST_LOG` says otherwise.
    pub filter: &'static str,
    /// Where log lines go.
    pub logs: W,
}

/// Keeps what watches a program; what waits to be exported is sent when it is dropped.
#[derive(Debug)]
pub struct Telemetry {
    otlp: Option<otlp::Otlp>,
}

/// Starts logging, and exporting where `OTEL_EXPORTER_OTLP_ENDPOINT` is set. To be called once, before anything is measured.
pub fn start<W>(program: Program<W>) -> Telemetry
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    logs::start(program.filter, program.logs);
    let resource = otlp::resource(program.service, program.version);
    let mut otlp = match otlp::Otlp::start(&resource) {
        Ok(otlp) => otlp,
        Err(error) => {
            tracing::warn!(error = %chain(&error), "neither traces nor metrics are exported by OTLP");
            None
        }
    };
    metrics::start(resource, otlp.as_mut());
    Telemetry { otlp }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        trace::stop();
        metrics::stop();
        drop(self.otlp.take());
    }
}

/// Who measures and traces, and by which conventions.
fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("esta").with_version(env!("CARGO_PKG_VERSION")).with_schema_url(rpc::SCHEMA).build()
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}
