//! The way to a coordinator (HANDS): several may serve a run, and one of them leads.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::Instant;

use super::{
    SessionError, SessionOptions,
    link::{self, Joined},
};

/// Between two attempts to reach a coordinator: another one may lead within seconds.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

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
        tracing::debug!(%error, ?pause, "trying again");
        tokio::time::sleep(pause).await;
    }
}
