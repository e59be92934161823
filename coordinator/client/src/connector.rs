//! TCP and TLS to one coordinator (HANDS): a connection is made once the other end has said something.
//!
//! With TLS 1.3 a client is done before the server has looked at its certificate, and whoever goes on from there only sees
//! the connection end. A server of HTTP/2 need not be asked anything: its first bytes, or the alert that comes instead, are
//! waited for. In plain text they tell whether it is one at all.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tonic::{codegen::Service, transport::Uri};

use crate::dial::bare;

/// Connects with TLS to whatever address it is given; the certificate has to be one of `name`.
#[derive(Clone)]
pub(crate) struct TlsConnector {
    tls: tokio_rustls::TlsConnector,
    name: ServerName<'static>,
}

type Stream = TokioIo<BufReader<TlsStream<TcpStream>>>;

impl TlsConnector {
    pub fn new(config: ClientConfig, name: ServerName<'static>) -> Self {
        Self { tls: Arc::new(config).into(), name }
    }

    async fn connect(self, uri: Uri) -> io::Result<Stream> {
        let mut stream = BufReader::new(self.tls.connect(self.name, reach(&uri, 443).await?).await?);
        if stream.fill_buf().await?.is_empty() {
            return Err(without_a_word());
        }
        Ok(TokioIo::new(stream))
    }
}

async fn reach(uri: &Uri, port: u16) -> io::Result<TcpStream> {
    let host = bare(uri.host().unwrap_or_default());
    let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or(port))).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn without_a_word() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "closed before a word was said")
}

impl Service<Uri> for TlsConnector {
    type Response = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// What answers in TLS where plain text was spoken.
#[derive(Debug, Error)]
#[error("it speaks TLS")]
pub(crate) struct SpeaksTls;

/// What every client of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first bytes of TLS: of an alert, and of a handshake.
const TLS: [u8; 2] = [0x15, 0x16];

/// Connects in plain text.
#[derive(Clone)]
pub(crate) struct PlainConnector;

impl PlainConnector {
    async fn connect(uri: Uri) -> io::Result<TokioIo<Greeted>> {
        let mut tcp = reach(&uri, 80).await?;
        tcp.write_all(PREFACE).await?;
        let mut first = [0];
        match tcp.peek(&mut first).await? {
            0 => Err(without_a_word()),
            // The length of the frame of settings, which is small.
            _ if first[0] == 0 => Ok(TokioIo::new(Greeted { tcp, said: PREFACE.len() })),
            _ if TLS.contains(&first[0]) => Err(io::Error::new(io::ErrorKind::InvalidData, SpeaksTls)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "what answers does not speak HTTP/2")),
        }
    }
}

impl Service<Uri> for PlainConnector {
    type Response = TokioIo<Greeted>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Greeted>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(Self::connect(uri))
    }
}

/// A connection on which the preface has been said: it is not said again.
pub(crate) struct Greeted {
    tcp: TcpStream,
    /// Bytes that are still to be written and have been.
    said: usize,
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.said > 0 {
            let again = self.said.min(bytes.len());
            self.said -= again;
            return Poll::Ready(Ok(again));
        }
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.said > 0 {
            let first = parts.iter().find(|part| !part.is_empty());
            return self.poll_write(context, first.map_or(&[][..], |part| &part[..]));
        }
        Pin::new(&mut self.tcp).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
