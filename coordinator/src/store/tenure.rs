//! For how long a process may lead (HANDS): DESIGN.md section 4, a leader stops serving before its lease can have ended.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

/// The right to lead, which ends unless it is renewed. Clones are the same right.
#[derive(Debug, Clone)]
pub struct Tenure(Option<watch::Receiver<Instant>>);

/// The end that renews.
#[derive(Debug)]
pub struct Renewer(watch::Sender<Instant>);

impl Tenure {
    /// For as long as the process lives: a file is locked, and nobody else can open it.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// Until this moment, and as long as it is renewed.
    #[must_use]
    pub fn until(moment: Instant) -> (Self, Renewer) {
        let (renewer, tenure) = watch::channel(moment);
        (Self(Some(tenure)), Renewer(renewer))
    }

    /// Whether this process leads at this moment. One that was stopped for a while finds out here, before it does anything.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|until| Instant::now() < *until.borrow())
    }

    /// Waits until it does not.
    pub async fn over(&self) {
        let Some(mut until) = self.0.clone() else { return std::future::pending().await };
        loop {
            let moment = *until.borrow_and_update();
            let renewed = tokio::time::timeout_at(moment, until.changed()).await;
            // Whoever would renew it may be gone: then it ends when it ends.
            match renewed {
                Err(_) if *until.borrow() <= moment => return,
                Ok(Err(_)) => return tokio::time::sleep_until(moment).await,
                _ => {}
            }
        }
    }
}

impl Renewer {
    /// The right lasts until this moment, never shorter than before.
    pub fn renew(&self, until: Instant) {
        self.0.send_if_modified(|moment| {
            let later = until > *moment;
            *moment = until.max(*moment);
            later
        });
    }

    /// It is over now.
    pub fn end(&self) {
        self.0.send_replace(Instant::now());
    }

    /// When it ends unless it is renewed.
    #[must_use]
    pub fn until(&self) -> Instant {
        *self.0.borrow()
    }

    /// How much of it is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.until().saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_lasts_as_long_as_it_is_renewed_and_ends_at_once_when_told() {
        let now = Instant::now();
        let (tenure, renewer) = Tenure::until(now + Duration::from_secs(10));
        assert!(tenure.holds());
        let over = Arc::new(AtomicBool::new(false));
        let (waiting, seen) = (tenure.clone(), over.clone());
        let waits = tokio::spawn(async move {
            waiting.over().await;
            seen.store(true, Ordering::SeqCst);
        });
        tokio::time::sleep(Duration::from_secs(6)).await;
        renewer.renew(now + Duration::from_secs(20));
        renewer.renew(now + Duration::from_secs(15));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(!over.load(Ordering::SeqCst), "it was renewed, and never shortened");
        renewer.end();
        waits.await.expect("it ends");
        assert!(!tenure.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn without_anybody_to_renew_it_it_ends_when_it_ends() {
        let now = Instant::now();
        let (tenure, renewer) = Tenure::until(now + Duration::from_secs(10));
        drop(renewer);
        tenure.over().await;
        assert!(now.elapsed() >= Duration::from_secs(10));
    }
}
