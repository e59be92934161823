//! A call at its client's end (HANDS), by OpenTelemetry's conventions for RPC: `rpc.client.call.duration` of every call, and a
//! span where its trace is kept.

use std::{sync::LazyLock, time::Instant};

use esta_telemetry::{
    metrics,
    rpc::{self, End, Over},
    trace::{Context, Span},
};
use opentelemetry::{KeyValue, metrics::Histogram, trace::SpanKind};
use tonic::{Code, Status};

static DURATION: LazyLock<Histogram<f64>> =
    LazyLock::new(|| metrics::seconds("rpc.client.call.duration", "Time from a call to the end of its answer"));

/// A call under way. Dropped, it is over, by this worker's own will where no end of it was told.
#[derive(Debug)]
pub struct Call {
    method: &'static str,
    server: Vec<KeyValue>,
    began: Instant,
    span: Option<Span>,
    code: Code,
    refusal: Option<String>,
}

impl Call {
    /// A call of a method of this server, with a span at this place.
    pub fn begin(method: &'static str, address: &str, place: Option<Context>) -> Self {
        let span = place.map(|place| Span::at(method, place).of_kind(SpanKind::Client));
        Self { method, server: rpc::server(address), began: Instant::now(), span, code: Code::Cancelled, refusal: None }
    }

    /// What tells the server of the trace.
    pub fn traceparent(&self) -> Option<String> {
        self.span.as_ref().map(|span| span.context().to_string())
    }

    /// The server ended it.
    pub fn ended(&mut self, status: &Status) {
        self.code = status.code();
        self.refusal = (self.code != Code::Ok).then(|| status.message().to_owned());
    }

    /// What the server answered is all it had to say.
    pub fn answered<T>(mut self, answer: &Result<T, Status>) {
        match answer {
            Ok(_) => self.code = Code::Ok,
            Err(status) => self.ended(status),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Over { mut attributes, .. } = rpc::over(End::Client, self.method, self.code as i32);
        attributes.append(&mut self.server);
        DURATION.record(self.began.elapsed().as_secs_f64(), &attributes);
        if let Some(span) = self.span.take() {
            span.with(attributes).failed(self.refusal.take()).end();
        }
    }
}
