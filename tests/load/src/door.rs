//! The way into a coordinator (HANDS): connections that count what passes, HTTP/2 frames and what TLS adds included.

use std::{
    fs, io,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum;
use esta_proto::v1::coordinator_client::CoordinatorClient;
use esta_tests::Certificates;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tonic::{
    codegen::http::Uri,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

/// Bytes that passed through a door.
#[derive(Debug, Default)]
pub struct Traffic {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Traffic {
    /// Bytes both ways so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sent.load(Ordering::Relaxed) + self.received.load(Ordering::Relaxed)
    }

    /// Bytes to the coordinator and from it.
    #[must_use]
    pub fn each_way(&self) -> [u64; 2] {
        [self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed)]
    }
}

/// What is spoken between ranks and coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wire {
    /// Everybody can read it.
    Plain,
    /// Mutual TLS.
    Tls,
}

/// Where a coordinator is reached, and how.
#[derive(Debug, Clone)]
pub struct Door {
    url: String,
    tls: Option<ClientTlsConfig>,
    traffic: Arc<Traffic>,
}

impl Door {
    /// The door at this address, with what to show there where TLS is spoken.
    ///
    /// # Errors
    /// When a file of the certificates cannot be read.
    pub fn new(url: String, certificates: Option<&Certificates>) -> anyhow::Result<Self> {
        Ok(Self { url, tls: certificates.map(client).transpose()?, traffic: Arc::default() })
    }

    /// What has passed through it and its clones.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// How it is reached. TLS is spoken above the connection: what is counted is what is encrypted.
    fn endpoint(&self) -> anyhow::Result<Endpoint> {
        let mut endpoint =
            Endpoint::from_shared(self.url.clone()).with_context(|| format!("{} is no address", self.url))?;
        if let Some(tls) = &self.tls {
            endpoint = endpoint.tls_config(tls.clone()).context("the certificates cannot be used")?;
        }
        Ok(endpoint.connect_timeout(Duration::from_secs(30)))
    }

    /// A connection of its own.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(&self) -> anyhow::Result<CoordinatorClient<Channel>> {
        let traffic = self.traffic.clone();
        let connector = tower::service_fn(move |uri: Uri| {
            let traffic = traffic.clone();
            async move {
                let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
                let stream = TcpStream::connect(authority).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(Counted { stream, traffic }))
            }
        });
        let channel = self.endpoint()?.connect_with_connector(connector).await;
        Ok(CoordinatorClient::new(channel.with_context(|| format!("connecting to {}", self.url))?))
    }
}

fn client(certificates: &Certificates) -> anyhow::Result<ClientTlsConfig> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
    let (ca, cert, key) = (read(&certificates.ca)?, read(&certificates.cert)?, read(&certificates.key)?);
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).identity(Identity::from_pem(cert, key)))
}

/// A connection whose bytes are counted.
struct Counted {
    stream: TcpStream,
    traffic: Arc<Traffic>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(context, into);
        self.traffic.received.fetch_add((into.filled().len() - before) as u64, Ordering::Relaxed);
        poll
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(context, from);
        self.count(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(context, from);
        self.count(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Counted {
    fn count(&self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &poll {
            self.traffic.sent.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
        poll
    }
}
