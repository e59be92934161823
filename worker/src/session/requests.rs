//! Requests that the process leave (HANDS).

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

/// Requests that the process leave, from an orchestrator or from the keyboard; or, on a leash, from whoever holds its standard
/// input, and from nobody else: a signal to all processes of a group asks the holder too, and is one request.
pub struct Requests {
    signals: [Option<Signal>; 2],
    leash: Leash,
}

enum Leash {
    None,
    /// Ends with standard input.
    Held(oneshot::Receiver<()>),
    Cut,
}

impl Requests {
    /// Listens from here on; `on_leash` to standard input alone, which ends however the parent does, by a kill as well.
    pub fn listen(on_leash: bool) -> Self {
        let listen = |kind| signal(kind).map_err(|error| tracing::warn!(%error, "a signal cannot be heard")).ok();
        let signals = [listen(SignalKind::terminate()), listen(SignalKind::interrupt())];
        Self { signals, leash: if on_leash { Leash::Held(leash()) } else { Leash::None } }
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        let [terminate, interrupt] = &mut self.signals;
        if let Leash::Held(end) = &mut self.leash {
            // Of a thread that could not be started nothing is ever heard.
            let over = end.await.is_ok();
            self.leash = Leash::Cut;
            if over {
                return;
            }
        }
        if let Leash::Cut = self.leash {
            // It ends once.
            return std::future::pending().await;
        }
        tokio::select! {
            Some(()) = heard(terminate) => {}
            Some(()) = heard(interrupt) => {}
            else => std::future::pending().await,
        }
    }
}

/// Hears of the end of standard input.
fn leash() -> oneshot::Receiver<()> {
    let (let_go, heard) = oneshot::channel();
    let listen = move || {
        // An input that cannot be read is over as well.
        std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()).ok();
        let_go.send(()).ok();
    };
    if let Err(error) = std::thread::Builder::new().name("leash".to_owned()).spawn(listen) {
        tracing::warn!(%error, "the end of standard input cannot be heard");
    }
    heard
}

async fn heard(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => None,
    }
}
