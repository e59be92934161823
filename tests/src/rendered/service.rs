//! A Service: an address that leads to whichever pods are ready, as a node's proxy does it.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context;

/// Addresses that are ready, and how many connections there were.
#[derive(Debug, Default)]
struct Endpoints {
    ready: Vec<SocketAddr>,
    connections: usize,
}

/// Listens until it is dropped.
pub(super) struct Service {
    address: SocketAddr,
    endpoints: Arc<Mutex<Endpoints>>,
    over: Arc<AtomicBool>,
}

impl Service {
    /// Listens at the first address of a network of this machine (127.x.y.0/24) that nobody else has taken.
    pub fn start(port: u16) -> anyhow::Result<Self> {
        let first = std::process::id() % 250;
        let networks = (0..250).map(|number| (first + number) % 250 + 1);
        let free = |network: u32| TcpListener::bind((Ipv4Addr::new(127, 77, network as u8, 1), port)).ok();
        let listener = networks.into_iter().find_map(free).context("every network of this machine is taken")?;
        let service =
            Self { address: listener.local_addr()?, endpoints: Arc::default(), over: Arc::new(AtomicBool::new(false)) };
        let (endpoints, over) = (service.endpoints.clone(), service.over.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::Acquire) {
                    return;
                }
                // Nobody is ready: the connection ends here.
                if let Some(pod) = next(&endpoints) {
                    thread::spawn(move || lead(&client, pod));
                }
            }
        });
        Ok(service)
    }

    /// An address of the same network.
    pub fn neighbour(&self, host: u8) -> Ipv4Addr {
        match self.address {
            SocketAddr::V4(address) => {
                let [a, b, c, _] = address.ip().octets();
                Ipv4Addr::new(a, b, c, host)
            }
            SocketAddr::V6(_) => unreachable!("it listens on an address of IPv4"),
        }
    }

    /// Leads new connections to these.
    pub fn set(&self, ready: Vec<SocketAddr>) {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).ready = ready;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        drop(TcpStream::connect(self.address));
    }
}

/// The pods take turns.
fn next(endpoints: &Mutex<Endpoints>) -> Option<SocketAddr> {
    let mut endpoints = endpoints.lock().unwrap_or_else(PoisonError::into_inner);
    endpoints.connections += 1;
    let turn = endpoints.connections.checked_rem(endpoints.ready.len())?;
    endpoints.ready.get(turn).copied()
}

/// Carries bytes both ways until both ends are done.
fn lead(client: &TcpStream, pod: SocketAddr) {
    let Ok(pod) = TcpStream::connect(pod) else { return };
    thread::scope(|scope| {
        scope.spawn(|| carry(client, &pod));
        carry(&pod, client);
    });
}

fn carry(mut from: &TcpStream, mut to: &TcpStream) {
    // However it ends, the other side learns that nothing more comes.
    drop(io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
    drop(from.shutdown(Shutdown::Read));
}
