//! Requests that the process leave (HANDS).

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Requests that the process leave, from an orchestrator or from the keyboard.
pub struct Requests([Option<Signal>; 2]);

impl Requests {
    /// Listens from here on.
    pub fn listen() -> Self {
        let listen = |kind| signal(kind).map_err(|error| tracing::warn!(%error, "a signal cannot be heard")).ok();
        Self([listen(SignalKind::terminate()), listen(SignalKind::interrupt())])
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        let [terminate, interrupt] = &mut self.0;
        tokio::select! {
            Some(()) = heard(terminate) => {}
            Some(()) = heard(interrupt) => {}
            else => std::future::pending().await,
        }
    }
}

async fn heard(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => None,
    }
}
