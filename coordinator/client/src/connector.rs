//! TCP and TLS to one coordinator (HANDS): a connection is made once the other end has said something.
//!
//! With TLS 1.3 a client is done before the server has looked at its certificate, and whoever goes on from there only sees
//! the connection end. A server of HTTP/2 speaks first: its first bytes, or the alert that comes instead, are waited for.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
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
        let host = bare(uri.host().unwrap_or_default());
        let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
        tcp.set_nodelay(true)?;
        let mut stream = BufReader::new(self.tls.connect(self.name, tcp).await?);
        if stream.fill_buf().await?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before a word was said"));
        }
        Ok(TokioIo::new(stream))
    }
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
