//! The record on etcd, and who leads (HANDS): DESIGN.md sections 3 and 4.
//!
//! MB-1: whoever leads holds a key under a lease, and every write is a transaction that succeeds only while that very key
//! stands: a leader that lost its lease cannot write, whatever it believes. It stops serving before the lease can have
//! ended ([`super::Tenure`]).

mod campaign;
mod keys;
mod pen;
mod record;
mod renewal;
mod room;
mod tls;
mod turn;
mod view;

use std::{error::Error as StdError, time::Duration};

use esta_engine::spec::{TimeoutSpec, seconds};
use etcd_client::{Client, ConnectOptions, Error};
use tokio::time::Instant;
use tonic::Code;

use super::{StoreError, StoreTls};

pub use record::EtcdStore;

use keys::Keys;

/// The format this program writes. Readers refuse a later one.
const FORMAT: u32 = 1;
/// A question may take this long before it is asked again, which may take twice as long, and so on.
const ATTEMPT: Duration = Duration::from_secs(1);
/// No attempt takes longer: etcd itself gives up a request after some seven seconds.
const LONGEST: Duration = Duration::from_secs(30);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// A cluster that never answered is given up after this long: the address is wrong, or there is no quorum.
const FIRST_CONTACT: Duration = Duration::from_secs(5);

/// A cluster that keeps a run's record.
#[derive(Clone)]
pub struct Etcd {
    client: Client,
    /// As a user would write it.
    place: String,
    keys: Keys,
    times: Times,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("place", &self.place).finish_non_exhaustive()
    }
}

/// How a lease is kept.
#[derive(Debug, Clone, Copy)]
struct Times {
    renew: Duration,
    fence: Duration,
    lease: Duration,
}

/// How long a question is asked again.
#[derive(Debug, Clone, Copy)]
enum Patience {
    /// Until then.
    Until(Instant),
    /// For as long as it takes.
    Endless,
}

impl Patience {
    /// What is left of it for an attempt, which is never cut short of the first one's time.
    fn allows(self, attempt: Duration) -> Duration {
        match self {
            Self::Until(moment) => attempt.min(moment.saturating_duration_since(Instant::now()).max(ATTEMPT)),
            Self::Endless => attempt,
        }
    }
}

impl Etcd {
    /// A cluster that answers.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when none of these addresses answers for a while; otherwise a file that TLS needs.
    pub async fn connect(
        endpoints: &[String],
        prefix: &str,
        tls: &StoreTls,
        timeouts: &TimeoutSpec,
    ) -> Result<Self, StoreError> {
        let hosts: Vec<&str> =
            endpoints.iter().map(|url| url.split_once("://").map_or(url.as_str(), |(_, host)| host)).collect();
        let secure = endpoints.iter().any(|url| url.starts_with("https:"));
        let place = format!("{}://{}/{prefix}", if secure { "etcds" } else { "etcd" }, hosts.join(","));
        let failed =
            |source: Error| StoreError::Failed { place: place.clone(), action: "connect to", source: Box::new(source) };
        let times =
            Times { renew: seconds(timeouts.renew), fence: seconds(timeouts.fence), lease: seconds(timeouts.lease) };
        // A leader that may go without an answer for long has a slow way to the cluster, and no broken one; half of that
        // leaves it time for another member.
        let silence = ATTEMPT.max(times.fence / 2);
        let options = ConnectOptions::new()
            .with_connect_timeout(silence)
            .with_keep_alive(ATTEMPT, silence)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        let options = if secure { options.with_tls(tls::options(tls, &place)?) } else { options };
        let client = Client::connect(endpoints, Some(options)).await.map_err(failed)?;
        let etcd = Self { client, place, keys: Keys::under(prefix), times };
        let patience = Patience::Until(Instant::now() + FIRST_CONTACT);
        let look = |client: Client| {
            let key = etcd.keys.format();
            async move { client.kv_client().get(key, None).await }
        };
        etcd.ask("reach", patience, look).await?;
        Ok(etcd)
    }

    /// Puts a question until it is answered. An attempt that got no answer in time is given up, and the next one is given
    /// twice as long: else a cluster slower than that would be asked for ever.
    async fn ask<T, F>(
        &self,
        action: &'static str,
        patience: Patience,
        question: impl Fn(Client) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (begun, mut attempt, mut told) = (Instant::now(), ATTEMPT, false);
        loop {
            let answer = tokio::time::timeout(patience.allows(attempt), question(self.client.clone())).await;
            let flaw: Box<dyn StdError + Send + Sync> = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => match weigh(&error) {
                    Weight::Passing => Box::new(error),
                    Weight::Full => return Err(StoreError::Full { place: self.place.clone() }),
                    Weight::Final => return Err(self.failed(action, error)),
                },
                Err(elapsed) => {
                    attempt = (attempt * 2).min(LONGEST);
                    Box::new(elapsed)
                }
            };
            match patience {
                Patience::Until(moment) if Instant::now() >= moment => {
                    return Err(StoreError::Unreachable { place: self.place.clone(), source: flaw });
                }
                Patience::Endless if !told => {
                    told = true;
                    let (waited_s, next_s) = (begun.elapsed().as_secs_f64(), attempt.as_secs_f64());
                    let place = &self.place;
                    tracing::warn!(place, action, error = %flaw, waited_s, next_s, "the store is slow; asking again");
                }
                Patience::Until(_) | Patience::Endless => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn failed(&self, action: &'static str, source: impl StdError + Send + Sync + 'static) -> StoreError {
        StoreError::Failed { place: self.place.clone(), action, source: Box::new(source) }
    }

    fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { place: self.place.clone(), what: what.into() }
    }
}

/// What an error of the cluster means.
enum Weight {
    /// It may answer next time: a member is gone, there is no quorum, a connection broke.
    Passing,
    /// It takes no more.
    Full,
    /// It will answer the same next time.
    Final,
}

fn weigh(error: &Error) -> Weight {
    match error {
        Error::TransportError(_) | Error::IoError(_) | Error::LeaseKeepAliveError(_) | Error::WatchError(_) => {
            Weight::Passing
        }
        Error::GRpcStatus(status) => match status.code() {
            Code::ResourceExhausted if status.message().contains("space exceeded") => Weight::Full,
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Aborted
            | Code::Internal
            | Code::ResourceExhausted => Weight::Passing,
            _ => Weight::Final,
        },
        _ => Weight::Final,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A cluster that nobody asks anything.
    async fn nobody() -> Etcd {
        let client = Client::connect(["http://127.0.0.1:1"], None).await.expect("it is asked nothing");
        let second = Duration::from_secs(1);
        let times = Times { renew: second, fence: second, lease: second };
        Etcd { client, place: "etcd://nobody/run".into(), keys: Keys::under("run"), times }
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_takes_long_is_given_twice_as_long_until_it_is_answered() {
        let (etcd, asked) = (nobody().await, Cell::new(0));
        let slow = |_| {
            asked.set(asked.get() + 1);
            async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                Ok(())
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(60), etcd.ask("ask", Patience::Endless, slow)).await;
        answer.expect("it is waited for").expect("it is answered");
        assert_eq!(asked.get(), 3, "for 1, 2 and 4 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_never_answers_is_given_up_on_time() {
        let (etcd, begun) = (nobody().await, Instant::now());
        let patience = Patience::Until(begun + FIRST_CONTACT);
        let error = etcd.ask("ask", patience, |_| std::future::pending::<Result<(), Error>>()).await;
        assert!(matches!(error, Err(StoreError::Unreachable { .. })), "{error:?}");
        assert!(begun.elapsed() <= FIRST_CONTACT + 2 * ATTEMPT, "{:?}", begun.elapsed());
    }
}
