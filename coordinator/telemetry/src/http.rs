//! The address where a program is looked at (HANDS): plain HTTP, answers and no orders, on a thread of its own.
//!
//! Whoever reads slowly or asks for too much waits, or is hung up on; nothing that trains or coordinates runs here.

mod ask;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_io_timeout::TimeoutStream;

pub use self::ask::{AskError, ask};
use crate::metrics;

/// Connections that may stand at once: browsers, probes, scrapers.
const CONNECTIONS: usize = 256;

/// Of these, as many as one peer may have: no browser keeps the probes out.
const OF_A_PEER: usize = CONNECTIONS / 2;

/// How long nothing of an answer may be taken before its reader is hung up on.
const READ_WITHIN: Duration = Duration::from_secs(20);

/// How long a request's head may take to arrive.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// Between two attempts to accept where the process has no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a program may be looked at, as `--http` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Nowhere.
    Off,
    /// At this address; port 0 takes a free one.
    At(SocketAddr),
}

impl FromStr for Exposure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse().map(Self::At).map_err(|_| format!("{text:?} is no address, such as 0.0.0.0:7701, and not `off`"))
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// Nothing is served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address cannot be had.
    #[error("cannot listen on {address} (--http)")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("no thread for --http")]
    Thread(#[source] io::Error),
}

/// A program that is looked at, until this is dropped.
#[derive(Debug)]
pub struct Served {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Served {
    /// Where.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The thread's runtime, for what keeps an answer up to date.
    #[must_use]
    pub fn handle(&self) -> tokio::runtime::Handle {
        self.runtime.as_ref().expect("it is there until this is dropped").handle().clone()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Answers at an address from here on.
///
/// # Errors
/// [`ServeError`] where the address is taken.
pub fn serve(address: SocketAddr, router: Router) -> Result<Served, ServeError> {
    serve_within(address, router, READ_WITHIN)
}

fn serve_within(address: SocketAddr, router: Router, read_within: Duration) -> Result<Served, ServeError> {
    let bind = |source| ServeError::Bind { address, source };
    let socket = StdListener::bind(address).map_err(bind)?;
    socket.set_nonblocking(true).map_err(bind)?;
    let address = socket.local_addr().map_err(bind)?;
    let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("http").enable_all().build();
    let runtime = runtime.map_err(ServeError::Thread)?;
    let socket = {
        let _inside = runtime.enter();
        TcpListener::from_std(socket).map_err(bind)?
    };
    let router = if address.ip().is_loopback() { router.layer(from_fn(only_here)) } else { router };
    runtime.spawn(accept(socket, router, read_within));
    Ok(Served { address, runtime: Some(runtime) })
}

async fn accept(socket: TcpListener, router: Router, read_within: Duration) {
    let (room, peers) = (Arc::new(Semaphore::new(CONNECTIONS)), Peers::default());
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        let Ok((stream, from)) = socket.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some(place) = peers.admit(from.ip(), place) else { continue };
        stream.set_nodelay(true).ok();
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(read_within));
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
            // Whoever hangs up is of no interest to anybody.
            server.serve_connection(TokioIo::new(Box::pin(stream)), service).await.ok();
            drop(place);
        });
    }
}

/// How many connections each peer has.
#[derive(Debug, Clone, Default)]
struct Peers(Arc<Mutex<BTreeMap<IpAddr, usize>>>);

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
struct Place {
    peers: Peers,
    peer: IpAddr,
    _room: OwnedSemaphorePermit,
}

impl Peers {
    /// A place for one more connection of a peer, unless it has its share.
    fn admit(&self, peer: IpAddr, room: OwnedSemaphorePermit) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(peer).or_default();
        (*count < OF_A_PEER).then(|| {
            *count += 1;
            Place { peers: self.clone(), peer, _room: room }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

/// A page of elsewhere may have its name lead here, and would read what it gets under that name: what listens on loopback
/// answers to loopback's own names.
async fn only_here(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_loopback(host) {
        return next.run(request).await;
    }
    (StatusCode::MISDIRECTED_REQUEST, "this address answers to localhost\n").into_response()
}

/// Whether a `Host` header names this machine: `localhost`, or an address of loopback, with a port or without.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Probes and `/metrics`.
pub fn watched(ready: impl Fn() -> Result<(), String> + Clone + Send + Sync + 'static) -> Router {
    probes(ready).route("/metrics", get(exposition))
}

/// What every program answers: `/healthz` while it works, `/readyz` while `ready` gives no reason against it.
pub fn probes(ready: impl Fn() -> Result<(), String> + Clone + Send + Sync + 'static) -> Router {
    let readiness = move || {
        let answer = match ready() {
            Ok(()) => (StatusCode::OK, "ready\n".to_owned()).into_response(),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
        };
        std::future::ready(answer)
    };
    Router::new().route("/healthz", get(async || "works\n")).route("/readyz", get(readiness))
}

/// The metrics as they are now.
pub async fn exposition() -> Response {
    ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], metrics::exposition()).into_response()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Ipv4Addr, TcpStream},
    };

    use tokio::net::TcpSocket;

    use super::*;

    fn ask(address: SocketAddr, path: &str) -> String {
        ask_as(address, path, &address.to_string())
    }

    fn ask_as(address: SocketAddr, path: &str, host: &str) -> String {
        ask_on(TcpStream::connect(address).expect("connected"), path, host)
    }

    fn ask_on(mut stream: TcpStream, path: &str, host: &str) -> String {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    /// From another address of loopback: another peer.
    fn connect_from(own: [u8; 4], address: SocketAddr) -> TcpStream {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connected = runtime.block_on(async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((own, 0)))?;
            socket.connect(address).await?.into_std()
        });
        let stream = connected.expect("connected");
        stream.set_nonblocking(false).expect("a socket that waits");
        // Sooner than others are hung up on for their silence.
        stream.set_read_timeout(Some(HEAD_WITHIN / 2)).expect("a socket that does not wait for ever");
        stream
    }

    #[test]
    fn probes_are_answered_and_a_reason_against_readiness_is_told() {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let served = serve(loopback, watched(|| Err("nobody leads".to_owned()))).expect("served");
        assert!(ask(served.address(), "/healthz").starts_with("HTTP/1.1 200"));
        let answer = ask(served.address(), "/readyz");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("nobody leads\n"), "{answer}");
        assert!(ask(served.address(), "/nothing").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn whoever_connects_and_says_nothing_does_not_keep_others_from_being_answered() {
        let served = serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), watched(|| Ok(()))).expect("served");
        let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(served.address()).expect("connected")).collect();
        assert!(ask(served.address(), "/readyz").starts_with("HTTP/1.1 200"));
        drop(silent);
    }

    #[test]
    fn one_peer_takes_its_share_of_the_connections_and_leaves_the_others_theirs() {
        let served = serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), watched(|| Ok(()))).expect("served");
        let connect = |_| TcpStream::connect(served.address()).expect("connected");
        let greedy: Vec<_> = (0..2 * CONNECTIONS).map(connect).collect();
        let answer = ask_on(connect_from([127, 0, 0, 2], served.address()), "/healthz", "localhost");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(greedy);
    }

    #[test]
    fn whoever_takes_nothing_of_an_answer_is_hung_up_on() {
        let endless = Router::new().route("/", get(async || vec![b'x'; 64 << 20]));
        let socket = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let served = serve_within(socket, endless, Duration::from_millis(200)).expect("served");
        let mut reader = TcpStream::connect(served.address()).expect("connected");
        write!(reader, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("asked");
        // A connection that was closed with something unread on it takes nothing more.
        let began = std::time::Instant::now();
        while reader.write_all(b"x").is_ok() {
            assert!(began.elapsed() < Duration::from_secs(20), "it is still connected");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_name_of_elsewhere_that_leads_to_loopback_is_not_answered() {
        let served = serve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), watched(|| Ok(()))).expect("served");
        for host in ["localhost", "LOCALHOST:7701", "127.0.0.1:7701", "[::1]:80", "[::1]"] {
            assert!(ask_as(served.address(), "/healthz", host).starts_with("HTTP/1.1 200"), "{host}");
        }
        for host in
            ["evil.example", "evil.example:7701", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example"]
        {
            assert!(ask_as(served.address(), "/healthz", host).starts_with("HTTP/1.1 421"), "{host}");
        }
    }

    #[test]
    fn an_address_that_is_taken_is_named() {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let first = serve(loopback, watched(|| Ok(()))).expect("served");
        let why = serve(first.address(), watched(|| Ok(()))).expect_err("it is taken").to_string();
        assert_eq!(why, format!("cannot listen on {} (--http)", first.address()));
    }

    #[test]
    fn an_exposure_is_an_address_or_off() {
        assert_eq!("off".parse(), Ok(Exposure::Off));
        assert_eq!("0.0.0.0:7701".parse::<Exposure>().map(|at| at.to_string()), Ok("0.0.0.0:7701".to_owned()));
        assert!("7701".parse::<Exposure>().is_err_and(|why| why.contains("\"7701\"")));
    }
}
