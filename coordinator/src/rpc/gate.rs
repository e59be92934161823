//! What stands before a service (HANDS): no call passes that the guard does not admit, whatever the service does.

use std::{
    convert::Infallible,
    mem,
    task::{Context, Poll},
};

use esta_proto::EXPIRED;
use futures::future::BoxFuture;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service, http},
    metadata::MetadataValue,
    server::NamedService,
};

use super::connection::Peer;
use crate::{
    security::{Call, Denied, Guard},
    telemetry::TurnedAway,
};

type Request = http::Request<Body>;
type Response = http::Response<Body>;

/// A service behind a guard; what passes carries its [`crate::security::Caller`] with it.
#[derive(Debug, Clone)]
pub(super) struct Gated<S> {
    guard: Guard,
    turned_away: TurnedAway,
    service: S,
}

impl<S> Gated<S> {
    pub fn new(guard: Guard, service: S) -> Self {
        Self { guard, turned_away: TurnedAway::new(), service }
    }
}

impl<S: NamedService> NamedService for Gated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request> for Gated<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // It is the one that was found ready that has to be called.
        let clone = self.service.clone();
        let mut service = mem::replace(&mut self.service, clone);
        let (guard, turned_away) = (self.guard.clone(), self.turned_away.clone());
        Box::pin(async move {
            match admitted(&guard, &turned_away, request).await {
                Ok(request) => service.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// The request with its caller, if it may call that.
async fn admitted(guard: &Guard, turned_away: &TurnedAway, mut request: Request) -> Result<Request, Status> {
    let path = request.uri().path();
    let call = Call::of_path(path).ok_or_else(|| Status::unimplemented(format!("there is no call {path}")))?;
    let peer = request.extensions().get::<Peer>().cloned();
    let authorization = request.headers().get(http::header::AUTHORIZATION).cloned();
    let certificate = peer.as_ref().and_then(|peer| peer.certificate);
    match guard.admit(certificate, authorization.as_ref().map(http::HeaderValue::as_bytes), call).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            Ok(request)
        }
        Err(denied) => {
            if call == Call::Join {
                turned_away.count("credentials");
            }
            let peer = peer.map(|peer| peer.address.to_string());
            tracing::warn!(peer, reason = %denied, "a call is refused");
            Err(denied.into())
        }
    }
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
