//! Connections before they are served (HANDS): how many, by whom, and with how much patience.
//!
//! Handshakes run beside the loop that accepts, so a peer that stalls costs nobody but itself.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use esta_proto::Digest;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::limits::{HANDSHAKE, MAX_CONNECTIONS};
use crate::security::ServerTls;

/// Connections that are ready and not yet taken by the server.
const READY: usize = 64;
/// Between two attempts to accept when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);
/// How long a refused peer may take to read why.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Bytes that every client of HTTP/2 begins with.
const PREFACE: usize = 24;

/// What connections have to pass.
#[derive(Debug, Clone)]
pub struct Door {
    /// The certificate to show, and whose to believe; plain text when absent.
    pub tls: Option<Arc<ServerTls>>,
    /// Connections that may stand at once.
    pub max_connections: usize,
    /// How long a peer may take for its handshake, and then to begin to speak HTTP/2.
    pub patience: Duration,
}

impl Door {
    /// Plain text and the usual limits.
    #[must_use]
    pub fn open() -> Self {
        Self { tls: None, max_connections: MAX_CONNECTIONS, patience: HANDSHAKE }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it calls from.
    pub address: SocketAddr,
    /// Digest of the certificate it has shown.
    pub certificate: Option<Digest>,
}

/// A connection that passed the door. It counts until it is dropped.
pub struct Connection {
    stream: Stream,
    peer: Peer,
    /// What is left of the preface, and until when it has to come.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    _place: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Accepts connections until the stream is dropped.
pub(super) fn accept(listener: TcpListener, door: Door) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(READY);
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(door.max_connections));
        // Told once for each time that they run out: whoever causes it must not fill the log as well.
        let mut full = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            let (tcp, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    sleep(NO_ROOM).await;
                    continue;
                }
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                if !std::mem::replace(&mut full, true) {
                    tracing::warn!(peer = %address, limit = door.max_connections, "too many connections: more are closed");
                }
                continue;
            };
            full = false;
            tokio::spawn(welcome(tcp, address, place, door.clone(), ready.clone()));
        }
    });
    ReceiverStream::new(connections)
}

/// Hands a connection over once it is ready.
async fn welcome(
    tcp: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
    Door { tls, patience, .. }: Door,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    // Plans are small and urgent.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(peer = %address, %error, "a connection is gone");
        return;
    }
    let stream = match tls {
        None => Stream::Plain(tcp),
        Some(tls) => match shake_hands(tcp, tls.current().await, patience).await {
            Ok(stream) => Stream::Tls(Box::new(stream)),
            Err(error) => {
                tracing::warn!(peer = %address, %error, "a handshake failed");
                return;
            }
        },
    };
    let peer = Peer { address, certificate: stream.certificate() };
    let preface = Some((PREFACE, Box::pin(sleep(patience))));
    // Whoever stops serving has dropped the other end.
    ready.send(Ok(Connection { stream, peer, preface, _place: place })).await.ok();
}

async fn shake_hands(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    patience: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    let handshake = TlsAcceptor::from(config).accept(tcp).into_fallible();
    let too_slow = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no handshake within {patience:?}"));
    match timeout(patience, handshake).await.map_err(too_slow)? {
        Ok(stream) => Ok(stream),
        Err((error, mut tcp)) => {
            // A connection that is closed with something unread is reset, and the peer would not hear why.
            let farewell = async {
                tcp.shutdown().await?;
                tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await
            };
            timeout(LAST_WORD, farewell).await.ok();
            Err(error)
        }
    }
}

impl Stream {
    fn certificate(&self) -> Option<Digest> {
        let Self::Tls(stream) = self else { return None };
        let chain = stream.get_ref().1.peer_certificates()?;
        Some(Digest(*blake3::hash(chain.first()?).as_bytes()))
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        if let Some((missing, until)) = &mut self.preface {
            match missing.checked_sub(buffer.filled().len() - before) {
                None | Some(0) => self.preface = None,
                Some(still) => {
                    *missing = still;
                    if polled.is_pending() {
                        ready!(until.as_mut().poll(context));
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no HTTP/2 in time")));
                    }
                }
            }
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
