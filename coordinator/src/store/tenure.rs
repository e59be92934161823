//! For how long a process may lead (HANDS): DESIGN.md section 4, a leader stops serving before its lease can have ended.
//!
//! The clock that moments are taken from stands still while a machine is suspended, and a lease does not: what was slept is
//! counted as well.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::Instant};

/// A machine that seems to have slept for less than this has not: clocks are not read in one moment.
const WINK: Duration = Duration::from_millis(100);

/// The right to lead, which ends unless it is renewed. Clones are the same right.
#[derive(Debug, Clone)]
pub struct Tenure(Option<watch::Receiver<Right>>);

/// The end that renews.
#[derive(Debug)]
pub struct Renewer(watch::Sender<Right>);

/// Until when, and on what clocks.
#[derive(Debug, Clone, Copy)]
struct Right {
    until: Instant,
    /// Before the last renewal was asked for: whatever was slept since is less of it.
    since: Clocks,
    /// When the last renewal was heard of.
    renewed: Clocks,
}

/// Clocks of one moment, of which one stands still while the machine sleeps.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    awake: std::time::Instant,
    wall: SystemTime,
    /// Since the machine started, where the system says so.
    up: Option<Duration>,
}

impl Tenure {
    /// For as long as the process lives: a file is locked, and nobody else can open it.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// Until this moment, and as long as it is renewed.
    #[must_use]
    pub fn until(moment: Instant) -> (Self, Renewer) {
        let now = Clocks::now();
        let (renewer, tenure) = watch::channel(Right { until: moment, since: now, renewed: now });
        (Self(Some(tenure)), Renewer(renewer))
    }

    /// Whether this process leads at this moment. One that was stopped for a while, or whose machine was, finds out here, before it
    /// does anything.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.0.as_ref().is_none_or(|right| right.borrow().holds())
    }

    /// Waits until it does not.
    pub async fn over(&self) {
        let Some(mut right) = self.0.clone() else { return std::future::pending().await };
        loop {
            let moment = right.borrow_and_update().until;
            let renewed = tokio::time::timeout_at(moment, right.changed()).await;
            // Whoever would renew it may be gone: then it ends when it ends.
            match renewed {
                Err(_) if right.borrow().until <= moment => return,
                Ok(Err(_)) => return tokio::time::sleep_until(moment).await,
                _ => {}
            }
        }
    }
}

impl Renewer {
    /// The right lasts until this moment, never shorter than before.
    pub fn renew(&self, until: Instant) {
        self.0.send_if_modified(|right| {
            let later = until > right.until;
            if later {
                *right = Right { until, since: right.renewed, renewed: Clocks::now() };
            }
            later
        });
    }

    /// It is over now.
    pub fn end(&self) {
        self.0.send_modify(|right| right.until = Instant::now());
    }

    /// When it ends unless it is renewed.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.0.borrow().until
    }

    /// How much of it is left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.until().saturating_duration_since(Instant::now())
    }
}

impl Right {
    fn holds(&self) -> bool {
        Instant::now() + self.since.slept() < self.until
    }
}

impl Clocks {
    fn now() -> Self {
        Self { awake: std::time::Instant::now(), wall: SystemTime::now(), up: up() }
    }

    /// How long the machine has slept since. A clock on the wall costs nothing to read; where it runs ahead, because of that or
    /// because somebody has set it, the system is asked. One that was set back meanwhile hides it.
    fn slept(&self) -> Duration {
        let ahead = self.wall.elapsed().unwrap_or_default().saturating_sub(self.awake.elapsed());
        if ahead < WINK {
            return Duration::ZERO;
        }
        let up = self.up.zip(up()).map(|(before, now)| now.saturating_sub(before));
        up.map_or(ahead, |up| up.saturating_sub(self.awake.elapsed()))
    }
}

/// Since the machine started, with what it has slept. Linux says so in hundredths.
fn up() -> Option<Duration> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
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

    const HOUR: Duration = Duration::from_secs(3600);

    /// As if the machine had slept for an hour since, and only the wall tells.
    fn sleep_since(clocks: &mut Clocks) {
        *clocks = Clocks { wall: clocks.wall - HOUR, up: None, ..*clocks };
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_machine_sleeps_is_less_of_it_whatever_was_heard_before() {
        let (tenure, renewer) = Tenure::until(Instant::now() + Duration::from_secs(10));
        renewer.0.send_modify(|right| {
            sleep_since(&mut right.since);
            sleep_since(&mut right.renewed);
        });
        assert!(!tenure.holds(), "its lease has ended long ago");
        // The answer to a renewal that was asked for before.
        renewer.renew(Instant::now() + Duration::from_secs(11));
        assert!(!tenure.holds(), "nobody knows when that was asked for");
        renewer.renew(Instant::now() + Duration::from_secs(12));
        assert!(tenure.holds(), "it was asked for since");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_on_the_wall_that_somebody_sets_ends_nothing() {
        let (tenure, renewer) = Tenure::until(Instant::now() + Duration::from_secs(10));
        if up().is_none() {
            return;
        }
        renewer.0.send_modify(|right| right.since.wall -= HOUR);
        assert!(tenure.holds());
        renewer.0.send_modify(|right| right.since.wall += 2 * HOUR);
        assert!(tenure.holds());
    }

    #[test]
    fn the_system_is_believed_about_what_was_slept() {
        let Some(up) = up() else { return };
        let before = Clocks { up: Some(Duration::ZERO), wall: SystemTime::now() - HOUR, ..Clocks::now() };
        let slept = before.slept();
        assert!(slept > up - WINK && slept < up + Duration::from_secs(60), "{slept:?} of {up:?}");
    }
}
