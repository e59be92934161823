//! `serve` (HANDS): leads a run for workers that connect from anywhere, or stands by for whoever does.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;
use esta_config::JobArgs;

use super::{
    exposure::{ExposureArgs, Linger, reachable},
    law,
    protection::ProtectionArgs,
    say,
    sitting::{Interrupts, Sitting, answer_for},
    store::StoreTlsArgs,
};
use crate::{
    coordinator::{Front, Opened},
    failure::Failure,
    leader::Ending,
    store::{Site, StoreAddress, Whereabouts},
};

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// Workers the run waits for before its first step.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
    /// Where the record is kept: `redb:PATH`, by default the file `record.redb` in the run's folder, or
    /// `etcd://HOST,HOST,HOST[/PREFIX]` (`etcds` for TLS), from which any number of coordinators of one job stand by for one another.
    #[arg(long, value_name = "STORE", env = "ESTA_STORE")]
    store: Option<StoreAddress>,
    #[command(flatten)]
    store_tls: StoreTlsArgs,
    /// Where workers reach this coordinator, as other coordinators tell them; the address listened on when absent.
    #[arg(long, value_name = "URL", env = "ESTA_ADVERTISE")]
    advertise: Option<String>,
    /// Where other coordinators reach this one's page, to pass it on, and browsers beside them: such as `http://coordinator-0:7701`; the
    /// address of `--http` when absent.
    #[arg(long, value_name = "URL", env = "ESTA_ADVERTISE_HTTP", value_parser = page_url)]
    advertise_http: Option<String>,
    /// How long to go on after the run is over, with its page and status, and palette and pulls of one that is complete: such as 10m,
    /// or forever.
    #[arg(long, value_name = "TIME", env = "ESTA_LINGER", default_value_t = Linger::For(Duration::ZERO))]
    linger: Linger,
    #[command(flatten)]
    exposure: ExposureArgs,
    #[command(flatten)]
    protection: ProtectionArgs,
}

pub(super) async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    let entrance = args.protection.entrance(args.listen)?;
    let law = Arc::new(law(&args.job)?);
    let site = Site::open(args.store_tls.reach(args.store.as_ref()).as_ref(), &law).await?;
    let mut front = Front::open(entrance, law.clone()).await?;
    let shown = args.exposure.show(&front)?;
    let own = Whereabouts {
        address: args.advertise.unwrap_or_else(|| reachable(front.scheme(), front.address())),
        page: args.advertise_http.or_else(|| shown.reachable(&front)),
    };
    let listening = format!("listening on {}://{}", front.scheme(), front.address());
    if site.is_shared() {
        say(&listening)?;
        shown.announce()?;
    }
    loop {
        let told = |leader: Option<Whereabouts>| {
            match &leader {
                Some(Whereabouts { address, .. }) => tracing::info!(leader = address, "standing by"),
                None => tracing::info!("nobody leads"),
            }
            front.stand_by(leader);
        };
        let term = tokio::select! {
            term = site.lead(&law, &own, &told) => term?,
            () = interrupts.next() => {
                front.close().await;
                return Err(Failure::Interrupted);
            }
        };
        let opened = Opened::under(law.clone(), term)?;
        if opened.recovered().complete && (site.is_shared() || args.linger.is_any()) {
            let answered = tokio::task::block_in_place(|| answer_for(&law, &opened, &front));
            opened.resign().await;
            answered?;
            say("the run is complete, and its results are here")?;
            stay(args.linger, &mut interrupts).await;
            front.close().await;
            return Ok(());
        }
        let mut sitting = Sitting::begin(law.clone(), &front, opened, args.workers)?;
        if !site.is_shared() {
            say(&listening)?;
            shown.announce()?;
        }
        // What a run came to stays to be seen. Its lead is kept until everything is written, so whoever follows finds it.
        let ending = ended(&mut sitting, &mut interrupts).await;
        let Sitting { mut office, papers } = sitting;
        match ending {
            Ending::Deposed if site.is_shared() => papers.set_aside()?,
            // As long as a failure is shown nobody tries again, but for whoever leads because this process may not.
            ending @ Ending::Failed(_) => {
                let failed = tokio::task::block_in_place(|| papers.conclude(ending, &front));
                let deposed = tokio::select! {
                    () = stay(args.linger, &mut interrupts) => false,
                    () = office.deposed() => true,
                };
                office.resign().await;
                if !deposed {
                    front.close().await;
                    return failed;
                }
            }
            ending => {
                let concluded = tokio::task::block_in_place(|| papers.conclude(ending, &front));
                office.resign().await;
                if concluded.is_ok() {
                    stay(args.linger, &mut interrupts).await;
                }
                front.close().await;
                return concluded;
            }
        }
        tracing::warn!("this coordinator leads no more and stands by again");
        front.stand_by(None);
    }
}

/// Waits until a run ends, or ends it when that is asked for.
async fn ended(sitting: &mut Sitting, interrupts: &mut Interrupts) -> Ending {
    tokio::select! {
        ending = sitting.ended() => return ending,
        () = interrupts.next() => sitting.stop(),
    }
    sitting.ended().await
}

/// Answers for a run that is over as long as it is wanted.
async fn stay(linger: Linger, interrupts: &mut Interrupts) {
    tokio::select! {
        () = linger.wait() => {}
        () = interrupts.next() => {}
    }
}

/// An address that coordinators can ask: in plain HTTP, and nothing but host and port.
fn page_url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')).unwrap_or_default();
    match host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
        true => Err(format!("{text:?} is no address of plain HTTP, such as http://coordinator-0:7701")),
        false => Ok(format!("http://{host}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_advertised_by_host_and_port() {
        assert_eq!(page_url("http://c-0:7701/"), Ok("http://c-0:7701".to_owned()));
        for wrong in ["", "c-0:7701", "https://esta.example.org", "http://", "http://c-0/api", "http://u@c-0"] {
            assert!(page_url(wrong).is_err_and(|why| why.contains("plain HTTP")), "{wrong}");
        }
    }
}
