//! How long calls take and how they end (HANDS), by OpenTelemetry's conventions for RPC: `rpc.server.call.duration` of every call, and
//! a span of those whose caller keeps one, or that chance keeps.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context as Waker, Poll},
    time::{Instant, SystemTime},
};

use esta_telemetry::{
    metrics,
    rpc::{self, End, Over},
    trace::{Context, Span},
};
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use opentelemetry::{KeyValue, metrics::Histogram, trace::SpanKind};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Bytes, Service, http},
    server::NamedService,
};

use crate::security::Call;

/// As much as is told of a call that does not exist, in letters.
const CALLED: usize = 200;

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// A service whose calls are measured.
#[derive(Debug, Clone)]
pub(super) struct Measured<S> {
    duration: Histogram<f64>,
    service: S,
}

impl<S> Measured<S> {
    pub fn new(service: S) -> Self {
        let duration =
            metrics::seconds("rpc.server.call.duration", "Time from a call's arrival to the end of its answer");
        Self { duration, service }
    }
}

impl<S: NamedService> NamedService for Measured<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request> for Measured<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Waker<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let ending = Ending::of(self.duration.clone(), &request);
        let answer = self.service.call(request);
        Box::pin(async move {
            let response = answer.await?;
            // A refusal has no body: its status stands in the head.
            let refused = response.headers().contains_key("grpc-status");
            let mut ending = ending;
            if refused {
                ending.status = Status::from_header_map(response.headers()).map(|status| status.code());
            }
            Ok(response.map(|body| Body::new(Watched { body, ending })))
        })
    }
}

/// A call under way; dropped, it is over.
struct Ending {
    duration: Histogram<f64>,
    method: String,
    began: Instant,
    span: Option<Span>,
    /// None where the client left before it was known.
    status: Option<Code>,
}

impl Ending {
    fn of(duration: Histogram<f64>, request: &Request) -> Self {
        let path = request.uri().path();
        let call = Call::of_path(path);
        // Whatever strangers call does not become a label.
        let method = call.map_or(rpc::OTHER, |_| path.trim_start_matches('/')).to_owned();
        let caller = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
        let caller = caller.and_then(Context::of_message);
        // A session takes as long as a run: its steps have traces of their own.
        let lasts = call == Some(Call::Session);
        let place = (!lasts).then(|| caller.map(Context::child).or_else(Context::of_call)).flatten();
        let span = place.map(|place| {
            let span = Span::at(rpc::span_name(&method), place).of_kind(SpanKind::Server).since(SystemTime::now());
            let span = span.with(called(request)).with(original(&method, path));
            caller.map_or(span.clone(), |caller| span.under(caller))
        });
        Self { duration, method, began: Instant::now(), span, status: None }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let code = self.status.unwrap_or(Code::Cancelled);
        let Over { attributes, error } = rpc::over(End::Server, &self.method, code as i32);
        self.duration.record(self.began.elapsed().as_secs_f64(), &attributes);
        if let Some(span) = self.span.take() {
            span.with(attributes).failed(error.map(str::to_owned)).end();
        }
    }
}

/// Where the caller reached this server, in its own words.
fn called(request: &Request) -> Vec<KeyValue> {
    request.uri().authority().map(|authority| rpc::server(authority.as_str())).unwrap_or_default()
}

/// What was called, where that is no method.
fn original(method: &str, path: &str) -> Option<KeyValue> {
    let called = || path.trim_start_matches('/').chars().take(CALLED).collect::<String>();
    (method == rpc::OTHER).then(|| KeyValue::new("rpc.method_original", called()))
}

/// An answer whose end is noticed.
struct Watched {
    body: Body,
    ending: Ending,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, waker: &mut Waker<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(waker);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    this.ending.status = Status::from_header_map(trailers).map(|status| status.code());
                }
            }
            Poll::Ready(Some(Err(status))) => this.ending.status = Some(status.code()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
