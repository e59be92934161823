//! Who leads (HANDS): one key under a lease. Whoever puts it begins a term whose number was never used before (MB-1).

use esta_proto::LeaderEpoch;
use etcd_client::{Client, Compare, CompareOp, GetOptions, GetResponse, PutOptions, Txn, TxnOp, WatchOptions};

use tokio::time::Instant;

use super::{ATTEMPT, Etcd, EtcdStore, PAUSE, Patience, renewal};
use crate::store::{StoreError, Tenure, Term, Whereabouts};

/// A term that was won.
pub(super) struct Won {
    /// Its number.
    pub epoch: LeaderEpoch,
    /// When the leader's key was put: what every write is compared with.
    pub revision: i64,
    lease: i64,
    /// When the lease was asked for.
    since: Instant,
}

impl Etcd {
    /// Waits until this process leads, which is found at `own`; `told` hears who leads meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] when the record is of another job or a later format, or cannot be read.
    pub async fn campaign(
        &self,
        name: &str,
        spec_json: &str,
        own: &Whereabouts,
        told: &(dyn Fn(Option<Whereabouts>) + Sync),
    ) -> Result<Term, StoreError> {
        // A job that does not fit is refused now, not when its turn comes.
        self.fits(spec_json)?;
        self.check(spec_json).await?;
        let mut known = None;
        let mut tell = |leader: Option<Whereabouts>| {
            if known.as_ref() != Some(&leader) {
                known = Some(leader.clone());
                told(leader);
            }
        };
        loop {
            let answer = self.get("ask who leads on", self.keys.leader()).await?;
            if let Some(leader) = answer.kvs().first() {
                let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                let page = self.get("ask for the leader's page on", self.keys.page()).await?;
                let page = page.kvs().first().map(|page| text(page.value()));
                // A page of the next leader is set right when its key is seen.
                tell(Some(Whereabouts { address: text(leader.value()), page }));
                let revision = answer.header().map_or(0, |header| header.revision());
                self.until_vacant(revision).await;
                continue;
            }
            tell(None);
            let Some(won) = self.stand(own).await? else { continue };
            let (tenure, renewer) = Tenure::until(won.since + self.times.fence);
            let renewal = tokio::spawn(renewal::renew(self.client.clone(), won.lease, self.times, renewer));
            let (etcd, lease) = (self.clone(), won.lease);
            let resign = Box::pin(async move {
                renewal.abort();
                etcd.revoke(lease).await;
            });
            match EtcdStore::begin(self.clone(), &won, tenure.clone(), name, spec_json).await {
                Ok(store) => return Ok(Term { store: Box::new(store), tenure, resign }),
                // It took too long, and somebody else may lead by now.
                Err(StoreError::Deposed { .. }) => {
                    let (took_s, fence_s) = (won.since.elapsed().as_secs_f64(), self.times.fence.as_secs_f64());
                    let place = &self.place;
                    tracing::warn!(
                        place,
                        took_s,
                        fence_s,
                        "a term was over before it began (timeouts.fence); standing again"
                    );
                    resign.await;
                }
                Err(error) => {
                    resign.await;
                    return Err(error);
                }
            }
        }
    }

    /// Puts the leader's key, if nobody has; `None` when somebody else was faster.
    pub(super) async fn stand(&self, own: &Whereabouts) -> Result<Option<Won>, StoreError> {
        let last = self.get("read the last term on", self.keys.epoch()).await?;
        let (epoch, version) = match last.kvs().first() {
            Some(epoch) => (self.number(epoch.value(), "epoch")?, epoch.mod_revision()),
            None => (0, 0),
        };
        let ttl = i64::try_from(self.times.lease.as_secs()).unwrap_or(i64::MAX);
        let since = Instant::now();
        let grant = |client: Client| async move { client.lease_client().grant(ttl, None).await };
        let lease = self.ask("ask for a lease on", Patience::Endless, grant).await?.id();
        let (leader, next) = (self.keys.leader(), (epoch + 1).to_string());
        let leased = |key, value: &str| TxnOp::put(key, value, Some(PutOptions::new().with_lease(lease)));
        let mut puts = vec![leased(leader.clone(), &own.address), TxnOp::put(self.keys.epoch(), next, None)];
        puts.extend(own.page.as_deref().map(|page| leased(self.keys.page(), page)));
        let txn = Txn::new()
            .when([
                Compare::create_revision(leader.clone(), CompareOp::Equal, 0),
                Compare::mod_revision(self.keys.epoch(), CompareOp::Equal, version),
            ])
            .and_then(puts);
        let stand = |client: Client| {
            let txn = txn.clone();
            async move { client.kv_client().txn(txn).await }
        };
        // Later than that nobody could lead under this lease. The answer may be lost on the way: what counts is whose key
        // stands.
        let put = self.ask("stand for leader on", Patience::Endless, stand);
        let put = tokio::time::timeout_at(since + self.times.fence, put).await;
        let stands = self.get("ask who leads on", leader).await?;
        match stands.kvs().first().filter(|leader| leader.lease() == lease) {
            Some(leader) => {
                Ok(Some(Won { epoch: LeaderEpoch(epoch + 1), revision: leader.create_revision(), lease, since }))
            }
            None => {
                self.revoke(lease).await;
                match put {
                    // Nobody was faster: the next attempt would fare no better.
                    Ok(Err(error)) if stands.kvs().is_empty() => Err(error),
                    _ => Ok(None),
                }
            }
        }
    }

    /// Waits until the leader's key changes, or for as long as a lease lasts: a watch that broke is begun again by whoever
    /// looks next.
    async fn until_vacant(&self, revision: i64) {
        let options = WatchOptions::new().with_start_revision(revision + 1);
        let changed = async {
            let mut watch = self.client.watch_client().watch(self.keys.leader(), Some(options)).await?;
            while let Some(seen) = watch.message().await? {
                if seen.canceled() || !seen.events().is_empty() {
                    break;
                }
            }
            Ok::<_, etcd_client::Error>(())
        };
        if let Ok(Err(_)) = tokio::time::timeout(self.times.lease, changed).await {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Lets go of a lease, if the cluster answers: else it ends by itself.
    async fn revoke(&self, lease: i64) {
        drop(tokio::time::timeout(ATTEMPT, self.client.lease_client().revoke(lease)).await);
    }

    pub(super) async fn get(&self, action: &'static str, key: String) -> Result<GetResponse, StoreError> {
        self.get_with(action, key, None, Patience::Endless).await
    }

    pub(super) async fn get_with(
        &self,
        action: &'static str,
        key: impl Into<Vec<u8>> + Clone,
        options: Option<GetOptions>,
        patience: Patience,
    ) -> Result<GetResponse, StoreError> {
        let get = |client: Client| {
            let (key, options) = (key.clone(), options.clone());
            async move { client.kv_client().get(key, options).await }
        };
        self.ask(action, patience, get).await
    }

    pub(super) fn number(&self, value: &[u8], what: &str) -> Result<u64, StoreError> {
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.damaged(format!("{what} is no number")))
    }
}
