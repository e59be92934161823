//! Requests that the process leave (HANDS).

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

/// Requests that the process leave, from an orchestrator, from the keyboard, or from whoever holds its standard input.
pub struct Requests {
    signals: [Option<Signal>; 2],
    /// Ends with standard input; none where that says nothing, or was heard.
    let_go: Option<oneshot::Receiver<()>>,
}

impl Requests {
    /// Listens from here on; `on_leash` to standard input too, which ends however the parent does, by a kill as well.
    pub fn listen(on_leash: bool) -> Self {
        let listen = |kind| signal(kind).map_err(|error| tracing::warn!(%error, "a signal cannot be heard")).ok();
        let signals = [listen(SignalKind::terminate()), listen(SignalKind::interrupt())];
        Self { signals, let_go: on_leash.then(leash) }
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        let [terminate, interrupt] = &mut self.signals;
        tokio::select! {
            Some(()) = heard(terminate) => {}
            Some(()) = heard(interrupt) => {}
            Some(()) = cut(&mut self.let_go) => {}
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

/// It ends once; a thread that could not be started never tells.
async fn cut(leash: &mut Option<oneshot::Receiver<()>>) -> Option<()> {
    let cut = leash.as_mut()?.await;
    *leash = None;
    cut.ok()
}
