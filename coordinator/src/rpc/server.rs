//! The listening socket and everything served on it (HANDS): the service, health and reflection.

use std::{io, net::SocketAddr, time::Duration};

use esta_engine::spec::JobSpec;
use esta_proto::{FILE_DESCRIPTOR_SET, v1::coordinator_server::CoordinatorServer};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::{
    Service,
    connection::{Door, accept},
    gate::{BySize, Gated},
    limits::{HEADERS, QUESTION, STREAMS, session_message},
    measured::Measured,
};
use crate::security::Guard;

/// A silent peer is pinged this often, and given up after as long again: how seconds, not minutes, find a dead host.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Where a coordinator listens and what has to be shown there.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// The address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What connections have to pass.
    pub door: Door,
    /// What calls have to pass.
    pub guard: Guard,
}

impl Entrance {
    /// Plain text, and no questions asked: for an address that only this machine reaches.
    #[must_use]
    pub fn open(listen: SocketAddr) -> Self {
        Self { listen, door: Door::open(), guard: Guard::default() }
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.door.tls.is_some()
    }

    /// Whether whoever can call is known, by a token or a certificate, or is on this machine.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        let certified = self.door.tls.as_ref().is_some_and(|tls| tls.is_mutual());
        certified || self.guard.asks_for_tokens() || self.listen.ip().is_loopback()
    }
}

/// An address that cannot be listened on.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error("{address} is in use; choose another with --listen")]
    InUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}")]
    Failed {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A bound socket that serves nothing yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    entrance: Entrance,
}

impl Listener {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`BindError`] naming the address.
    pub async fn bind(entrance: Entrance) -> Result<Self, BindError> {
        let address = entrance.listen;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address },
            _ => BindError::Failed { address, source },
        };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let listen = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, entrance: Entrance { listen, ..entrance } })
    }

    /// Where it is bound, and what has to be shown there.
    #[must_use]
    pub fn entrance(&self) -> &Entrance {
        &self.entrance
    }

    /// Serves a job until `stop` is cancelled and every session has ended.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve(
        self,
        service: Service,
        spec: &JobSpec,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let Self { socket, entrance } = self;
        let taking = |most| CoordinatorServer::new(service.clone()).max_decoding_message_size(most);
        let coordinator = BySize { small: taking(QUESTION), large: taking(session_message(spec)) };
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<CoordinatorServer<Service>>().await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("the descriptor sets were compiled into this program")
            .max_decoding_message_size(QUESTION);
        // Strangers are told whether the coordinator lives, and nothing of what can be asked of it.
        let reflection = entrance.is_guarded().then(|| Gated::new(entrance.guard.clone(), reflection));
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .http2_max_header_list_size(HEADERS)
            .max_concurrent_streams(STREAMS)
            .add_service(Measured::new(Gated::new(entrance.guard, coordinator)))
            .add_service(health.max_decoding_message_size(QUESTION))
            .add_optional_service(reflection)
            .serve_with_incoming_shutdown(accept(socket, entrance.door), stop.cancelled_owned())
            .await
    }
}
