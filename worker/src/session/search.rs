//! The way to a coordinator (HANDS): several may serve a run, and one of them leads.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::Instant;

use super::{
    SessionError, SessionOptions,
    link::{self, Joined, LinkError},
};

/// Between two attempts to reach a coordinator: another one may lead within seconds.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Between two warnings that none is reached.
const SILENCE: Duration = Duration::from_secs(30);

/// Looks for a coordinator, address by address, with growing jittered pauses, until the budget is spent.
pub async fn connect(options: SessionOptions, budget: Duration) -> Result<Joined, SessionError> {
    let deadline = Instant::now() + budget;
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build();
    let mut addresses = options.coordinators.iter().cycle();
    let mut told: Option<String> = None;
    let mut complaints = Complaints::of(options.coordinators.len());
    loop {
        let hearsay = told.is_some();
        let address = told.take().or_else(|| addresses.next().cloned()).expect("the command line demands an address");
        let error = match link::join(&address, &options.caller, &options.credentials).await {
            Ok(joined) => return Ok(joined),
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(SessionError::Refused(error)),
        };
        // One that stands by knows who leads; but it may know of one that has just died.
        told = error.leader().filter(|_| !hearsay);
        if told.is_some() {
            continue;
        }
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        if Instant::now() + pause > deadline {
            return Err(SessionError::Unreachable { budget, source: error });
        }
        if complaints.is_due(Instant::now()) {
            tracing::warn!(%address, reason = %with_causes(&error), ?budget, "no coordinator is reached yet: still trying");
        }
        tracing::debug!(%error, ?pause, "trying again");
        tokio::time::sleep(pause).await;
    }
}

/// When whoever watches is told: once every address has failed, and then now and again.
struct Complaints {
    /// Addresses of the first round that have not failed.
    untried: usize,
    last: Option<Instant>,
}

impl Complaints {
    fn of(addresses: usize) -> Self {
        Self { untried: addresses, last: None }
    }

    /// Notes a failed attempt, and answers whether to speak of it.
    fn is_due(&mut self, now: Instant) -> bool {
        self.untried = self.untried.saturating_sub(1);
        let due = self.untried == 0 && self.last.is_none_or(|last| now.duration_since(last) >= SILENCE);
        if due {
            self.last = Some(now);
        }
        due
    }
}

/// An error with what it comes of: "refused" alone names no reason.
fn with_causes(error: &LinkError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |&cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failed_round_is_told_and_then_one_attempt_in_half_a_minute() {
        let (begun, mut complaints) = (Instant::now(), Complaints::of(2));
        let mut due = |seconds| complaints.is_due(begun + Duration::from_secs(seconds));
        assert_eq!([0, 1, 2, 30, 31, 32, 60, 61].map(&mut due), [false, true, false, false, true, false, false, true]);
    }
}
