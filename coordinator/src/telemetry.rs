//! Logs and traces (HANDS): text for people, JSON lines for programs, OTLP where `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
//!
//! Whether a step is traced is decided by hash(run, step), so that all processes keep the same steps; the share is
//! `OTEL_TRACES_SAMPLER_ARG`, 1/20 by default.

use std::{
    cell::Cell,
    env,
    io::{self, IsTerminal},
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use esta_engine::run::StepRecord;
use esta_proto::Step;
use opentelemetry::{
    KeyValue, SpanId, TraceId, global,
    trace::{Span, Tracer, TracerProvider},
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    trace::{IdGenerator, RandomIdGenerator, SdkTracerProvider},
};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::progress;

const SERVICE: &str = "esta-coordinator";

/// Share of the steps that are traced; unset while nothing exports.
static SHARE: OnceLock<f64> = OnceLock::new();

/// Keeps the exporter; what it holds is sent when it is dropped.
#[derive(Debug, Default)]
pub struct Telemetry(Option<SdkTracerProvider>);

/// Starts logging and, where asked for, tracing. Call once, inside the tokio runtime.
#[must_use]
pub fn init() -> Telemetry {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,esta_coordinator=info"));
    let format = tracing_subscriber::fmt::layer().with_writer(progress::LogWriter::default);
    let format = if io::stderr().is_terminal() {
        format.with_target(false).without_time().boxed()
    } else {
        format.json().flatten_event(true).boxed()
    };
    tracing_subscriber::registry().with(format.with_filter(filter)).init();
    match exporter() {
        Some(Ok(provider)) => {
            global::set_tracer_provider(provider.clone());
            let share = env::var("OTEL_TRACES_SAMPLER_ARG").ok().and_then(|text| text.parse().ok());
            SHARE.set(share.unwrap_or(0.05)).ok();
            Telemetry(Some(provider))
        }
        Some(Err(error)) => {
            tracing::warn!(error = error.to_string(), "traces cannot be exported");
            Telemetry::default()
        }
        None => Telemetry::default(),
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take() {
            provider.shutdown().ok();
        }
    }
}

fn exporter() -> Option<Result<SdkTracerProvider, opentelemetry_otlp::ExporterBuildError>> {
    env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let provider = SpanExporter::builder().with_tonic().build().map(|exporter| {
        SdkTracerProvider::builder()
            .with_id_generator(StepIds)
            .with_resource(Resource::builder().with_service_name(SERVICE).build())
            .with_batch_exporter(exporter)
            .build()
    });
    Some(provider)
}

/// The W3C trace context of a step, if steps are exported and this one is among them.
#[must_use]
pub fn traceparent(run_id: &str, step: Step) -> Option<String> {
    let share = *SHARE.get()?;
    let ids = Ids::of(run_id, step).filter_by(share)?;
    Some(format!("00-{}-{}-01", ids.trace, ids.span))
}

/// Exports the span of a committed step that took `duration` and has just become durable, with its draws as events.
pub fn record_step(run_id: &str, record: &StepRecord, duration: Duration) {
    let ids = SHARE.get().and_then(|share| Ids::of(run_id, record.step).filter_by(*share));
    let Some(ids) = ids else { return };
    let tracer = global::tracer_provider().tracer(SERVICE);
    NEXT.set(Some(ids));
    let end = SystemTime::now();
    let mut span = tracer.span_builder("step").with_start_time(end - duration).start(&tracer);
    NEXT.set(None);
    let number = |key: &'static str, value: u64| KeyValue::new(key, i64::try_from(value).unwrap_or(i64::MAX));
    span.set_attribute(KeyValue::new("esta.run", run_id.to_owned()));
    span.set_attribute(number("esta.step", record.step.0));
    span.set_attribute(number("esta.table_version", record.table_version.0));
    for (slot, (draw, outcome)) in record.draws.iter().zip(&record.outcomes).enumerate() {
        let attributes = vec![
            number("esta.slot", slot as u64),
            number("esta.stitch", draw.stitch.0.into()),
            number("esta.budget", draw.budget.0.into()),
            KeyValue::new("esta.probability", draw.probability),
            KeyValue::new("esta.score", outcome.score),
            KeyValue::new("esta.loss", outcome.loss),
        ];
        span.add_event_with_timestamp("draw", end, attributes);
    }
    span.end_with_timestamp(end);
}

/// The ids of a step's trace, the same in every process.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ids {
    trace: TraceId,
    span: SpanId,
    /// Uniform in [0, 1): traced when below the share.
    chance: f64,
}

impl Ids {
    fn of(run_id: &str, step: Step) -> Self {
        let hash = blake3::hash(format!("{run_id}/{step}").as_bytes());
        let part = |at: usize| {
            let bytes = hash.as_bytes()[at..at + 8].try_into();
            u64::from_be_bytes(bytes.expect("a hash has 32 bytes"))
        };
        let trace = (u128::from(part(0)) << 64) | u128::from(part(8));
        let chance = (part(24) >> 11) as f64 / (1u64 << 53) as f64;
        Self { trace: TraceId::from(trace), span: SpanId::from(part(16)), chance }
    }

    fn filter_by(self, share: f64) -> Option<Self> {
        (self.chance < share).then_some(self)
    }
}

thread_local! {
    /// The ids that the next span of this thread gets.
    static NEXT: Cell<Option<Ids>> = const { Cell::new(None) };
}

/// Gives a step's span the ids that its plans already carried to the workers.
#[derive(Debug)]
struct StepIds;

impl IdGenerator for StepIds {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| RandomIdGenerator::default().new_trace_id(), |ids| ids.trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| RandomIdGenerator::default().new_span_id(), |ids| ids.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_traced_steps_is_met_and_every_process_picks_the_same() {
        let traced = |run: &str| (0..20_000).filter(|&t| Ids::of(run, Step(t)).filter_by(0.05).is_some()).collect();
        let (one, again, other): (Vec<u64>, Vec<u64>, Vec<u64>) = (traced("a"), traced("a"), traced("b"));
        assert!((900..1100).contains(&one.len()), "{} of 20000", one.len());
        assert_eq!(one, again);
        assert_ne!(one, other);
    }

    #[test]
    fn nothing_is_announced_while_nothing_exports() {
        assert_eq!(traceparent("a", Step(0)), None);
    }
}
