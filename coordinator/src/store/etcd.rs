//! The record on etcd, and who leads (HANDS): DESIGN.md sections 3 and 4.
//!
//! MB-1: whoever leads holds a key under a lease, and every write is a transaction that succeeds only while that very key
//! stands: a leader that lost its lease cannot write, whatever it believes. It stops serving before the lease can have
//! ended ([`super::Tenure`]).

mod campaign;
mod keys;
mod record;
mod renewal;
mod tls;

use std::{
    error::Error as StdError,
    time::{Duration, Instant},
};

use esta_engine::spec::{TimeoutSpec, seconds};
use etcd_client::{Client, ConnectOptions, Error};
use tonic::Code;

use super::{StoreError, StoreTls};

pub use record::EtcdStore;

use keys::Keys;

/// The format this program writes. Readers refuse a later one.
const FORMAT: u32 = 1;
/// One question may take this long before it is asked again.
const ATTEMPT: Duration = Duration::from_secs(1);
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
        let options = ConnectOptions::new()
            .with_connect_timeout(ATTEMPT)
            .with_keep_alive(ATTEMPT, ATTEMPT)
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        let options = if secure { options.with_tls(tls::options(tls, &place)?) } else { options };
        let client = Client::connect(endpoints, Some(options)).await.map_err(failed)?;
        let times =
            Times { renew: seconds(timeouts.renew), fence: seconds(timeouts.fence), lease: seconds(timeouts.lease) };
        let etcd = Self { client, place, keys: Keys::under(prefix), times };
        let patience = Patience::Until(Instant::now() + FIRST_CONTACT);
        let look = |client: Client| {
            let key = etcd.keys.format();
            async move { client.kv_client().get(key, None).await }
        };
        etcd.ask("reach", patience, look).await?;
        Ok(etcd)
    }

    /// Puts a question until it is answered; nobody's answer is waited for longer than [`ATTEMPT`].
    async fn ask<T, F>(
        &self,
        action: &'static str,
        patience: Patience,
        question: impl Fn(Client) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut told = false;
        loop {
            let flaw: Box<dyn StdError + Send + Sync> =
                match tokio::time::timeout(ATTEMPT, question(self.client.clone())).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) => match weigh(&error) {
                        Weight::Passing => Box::new(error),
                        Weight::Full => return Err(StoreError::Full { place: self.place.clone() }),
                        Weight::Final => return Err(self.failed(action, error)),
                    },
                    Err(elapsed) => Box::new(elapsed),
                };
            match patience {
                Patience::Until(moment) if Instant::now() >= moment => {
                    return Err(StoreError::Unreachable { place: self.place.clone(), source: flaw });
                }
                Patience::Until(_) => {}
                Patience::Endless if !told => {
                    told = true;
                    tracing::warn!(place = self.place, error = %flaw, "the store does not answer; asking again");
                }
                Patience::Endless => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn failed(&self, action: &'static str, source: Error) -> StoreError {
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
