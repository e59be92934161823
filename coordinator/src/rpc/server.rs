//! The listening socket and everything served on it (HANDS): the service, health and reflection.

use std::{io, net::SocketAddr, time::Duration};

use esta_proto::{FILE_DESCRIPTOR_SET, v1::coordinator_server::CoordinatorServer};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};

use super::Service;

/// A silent peer is pinged this often, and given up after as long again: how seconds, not minutes, find a dead host.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// A worker that comes back may hand over many reports in its Hello.
const LARGEST_MESSAGE: usize = 64 << 20;

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
    incoming: TcpIncoming,
    address: SocketAddr,
}

impl Listener {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`BindError`] naming the address.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address },
            _ => BindError::Failed { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        // Plans are small and urgent.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Ok(Self { incoming, address })
    }

    /// The address bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` is cancelled and every session has ended.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve(self, service: Service, stop: CancellationToken) -> Result<(), tonic::transport::Error> {
        let coordinator = CoordinatorServer::new(service).max_decoding_message_size(LARGEST_MESSAGE);
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<CoordinatorServer<Service>>().await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .expect("the descriptor sets were compiled into this program");
        Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_service(coordinator)
            .add_service(health)
            .add_service(reflection)
            .serve_with_incoming_shutdown(self.incoming, stop.cancelled_owned())
            .await
    }
}
