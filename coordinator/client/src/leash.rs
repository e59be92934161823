//! A request to end from whoever started a program (HANDS): the end of its standard input. It comes however the other ends, by a
//! kill as well.

use std::{future::pending, io, thread};

use tokio::sync::oneshot;

/// Standard input, as long as somebody holds its other end.
#[derive(Debug)]
pub struct Leash(Option<oneshot::Receiver<()>>);

impl Leash {
    /// Listens from here on, on a thread of its own that takes whatever is sent.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn hold() -> io::Result<Self> {
        let (let_go, heard) = oneshot::channel();
        let listen = move || {
            // An input that cannot be read is over as well.
            io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
            let_go.send(()).ok();
        };
        thread::Builder::new().name("leash".to_owned()).spawn(listen)?;
        Ok(Self(Some(heard)))
    }

    /// Waits until it is let go of, which it is once. May be given up and asked for again.
    pub async fn is_let_go(&mut self) {
        match &mut self.0 {
            // The thread ends in no other way.
            Some(heard) => drop(heard.await),
            None => pending().await,
        }
        self.0 = None;
    }
}
