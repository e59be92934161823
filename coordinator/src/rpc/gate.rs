//! What stands before a service (HANDS): no call passes that the guard does not admit, whatever the service does.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use esta_proto::EXPIRED;
use futures::future::Either;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service, http},
    metadata::MetadataValue,
    server::NamedService,
};

use super::connection::Peer;
use crate::security::{Call, Denied, Guard};

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// A service behind a guard; what passes carries its [`crate::security::Caller`] with it.
#[derive(Debug, Clone)]
pub(super) struct Gated<S> {
    guard: Guard,
    service: S,
}

impl<S> Gated<S> {
    pub fn new(guard: Guard, service: S) -> Self {
        Self { guard, service }
    }
}

impl<S: NamedService> NamedService for Gated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request, Response = Response, Error = Infallible>> Service<Request> for Gated<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, Ready<Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let Some(call) = Call::of_path(request.uri().path()) else {
            return refuse(Status::unimplemented(format!("there is no call {}", request.uri().path())));
        };
        let peer = request.extensions().get::<Peer>();
        let authorization = request.headers().get(http::header::AUTHORIZATION);
        let certificate = peer.and_then(|peer| peer.certificate);
        match self.guard.admit(certificate, authorization.map(http::HeaderValue::as_bytes), call) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.service.call(request))
            }
            Err(denied) => {
                let peer = peer.map(|peer| peer.address.to_string());
                tracing::warn!(peer, reason = %denied, "a call is refused");
                refuse(denied.into())
            }
        }
    }
}

fn refuse<F>(status: Status) -> Either<F, Ready<Result<Response, Infallible>>> {
    Either::Right(ready(Ok(status.into_http())))
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let code = match denied {
            Denied::NoToken | Denied::Unknown | Denied::Invalid(_) | Denied::Expired { .. } => Code::Unauthenticated,
            Denied::Nobody { .. } | Denied::Role { .. } | Denied::Name { .. } | Denied::Stolen { .. } => {
                Code::PermissionDenied
            }
        };
        let mut status = Self::new(code, denied.to_string());
        if matches!(denied, Denied::Expired { .. }) {
            status.metadata_mut().insert(EXPIRED, MetadataValue::from_static("true"));
        }
        status
    }
}

/// A service that takes large messages on the stream of a session alone.
#[derive(Debug, Clone)]
pub(super) struct BySize<S> {
    /// For questions.
    pub small: S,
    /// For sessions.
    pub large: S,
}

impl<S: NamedService> NamedService for BySize<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request, Response = Response, Error = Infallible>> Service<Request> for BySize<S> {
    type Response = Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match self.small.poll_ready(context) {
            Poll::Ready(Ok(())) => self.large.poll_ready(context),
            other => other,
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match Call::of_path(request.uri().path()) {
            Some(Call::Session) => self.large.call(request),
            _ => self.small.call(request),
        }
    }
}
