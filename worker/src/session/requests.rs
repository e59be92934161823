//! Requests that the process leave (HANDS).

use std::{future::pending, io};

use esta_client::Leash;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Requests that the process leave, from an orchestrator or from the keyboard; or, on a leash, from whoever holds its standard
/// input, and from nobody else: a signal to all processes of a group asks the holder too, and is one request.
pub struct Requests {
    signals: [Option<Signal>; 2],
    leash: Option<Leash>,
}

impl Requests {
    /// Listens from here on; `on_leash` to standard input alone.
    ///
    /// # Errors
    /// When standard input cannot be heard: nobody could ask this worker to leave.
    pub fn listen(on_leash: bool) -> io::Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| tracing::warn!(%error, "a signal cannot be heard")).ok();
        let signals = [listen(SignalKind::terminate()), listen(SignalKind::interrupt())];
        Ok(Self { signals, leash: on_leash.then(Leash::hold).transpose()? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        if let Some(leash) = &mut self.leash {
            return leash.is_let_go().await;
        }
        let [terminate, interrupt] = &mut self.signals;
        tokio::select! {
            Some(()) = heard(terminate) => {}
            Some(()) = heard(interrupt) => {}
            else => pending().await,
        }
    }
}

async fn heard(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => None,
    }
}
