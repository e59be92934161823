//! Keeping a lease (HANDS): the stream that renews it is begun again whenever it breaks.

use etcd_client::{Client, LeaseKeepAliveStream, LeaseKeeper};

use tokio::time::Instant;

use super::{PAUSE, Times};
use crate::store::tenure::Renewer;

/// What one renewal came to.
enum Renewed {
    /// The lease stands.
    Stands,
    /// It is gone.
    Gone,
    /// Nobody can tell.
    Unknown,
}

/// Renews a lease until it is gone or could not be renewed in time.
pub(super) async fn renew(client: Client, lease: i64, times: Times, renewer: Renewer) {
    let mut stream = None;
    while !renewer.left().is_zero() {
        // The lease counts from when the cluster hears of it, which is later than now.
        let sent = Instant::now();
        match tokio::time::timeout(times.renew.min(renewer.left()), once(&client, lease, &mut stream)).await {
            Ok(Renewed::Stands) => {
                renewer.renew(sent + times.fence);
                tokio::time::sleep(times.renew).await;
            }
            Ok(Renewed::Gone) => return renewer.end(),
            Ok(Renewed::Unknown) | Err(_) => {
                stream = None;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn once(client: &Client, lease: i64, stream: &mut Option<(LeaseKeeper, LeaseKeepAliveStream)>) -> Renewed {
    if stream.is_none() {
        *stream = client.lease_client().keep_alive(lease).await.ok();
    }
    let Some((keeper, answers)) = stream else { return Renewed::Unknown };
    if keeper.keep_alive().await.is_err() {
        return Renewed::Unknown;
    }
    match answers.message().await {
        Ok(Some(answer)) if answer.ttl() > 0 => Renewed::Stands,
        Ok(Some(_)) => Renewed::Gone,
        Ok(None) | Err(_) => Renewed::Unknown,
    }
}
