//! `serve` (HANDS): leads a run for workers that connect from anywhere, or stands by for whoever does.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;
use esta_config::JobArgs;
use esta_engine::law::Law;
use tokio::task::block_in_place;

use super::{
    exposure::{ExposureArgs, Linger, Shown, page_url, reachable},
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
    let mut candidate = Candidate::open(args).await?;
    let served = candidate.stand().await;
    candidate.front.close().await;
    served
}

/// A coordinator of a job that leads it for as many terms as it gets.
struct Candidate {
    law: Arc<Law>,
    site: Site,
    /// Where it is reached once it leads.
    own: Whereabouts,
    front: Front,
    shown: Shown,
    /// Workers that the first step of a term waits for.
    workers: u32,
    linger: Linger,
    interrupts: Interrupts,
}

/// How a term ended.
enum TermEnd {
    /// The run is over.
    Over,
    /// Another leads, or may: this one stands by again.
    Lost,
}

impl Candidate {
    async fn open(args: ServeArgs) -> Result<Self, Failure> {
        let interrupts = Interrupts::listen()?;
        let entrance = args.protection.entrance(args.listen)?;
        let law = Arc::new(law(&args.job)?);
        let site = Site::open(args.store_tls.reach(args.store.as_ref()).as_ref(), &law).await?;
        let front = Front::open(entrance, law.clone()).await?;
        let shown = args.exposure.show(&front)?;
        let own = Whereabouts {
            address: args.advertise.unwrap_or_else(|| reachable(front.scheme(), front.address())),
            page: args.advertise_http.or_else(|| shown.reachable(&front)),
        };
        Ok(Self { law, site, own, front, shown, workers: args.workers, linger: args.linger, interrupts })
    }

    /// Stands by and leads in turn, until a run is over.
    async fn stand(&mut self) -> Result<(), Failure> {
        if self.site.is_shared() {
            self.announce()?;
        }
        loop {
            let opened = self.elected().await?;
            let is_over = opened.recovered().complete && (self.site.is_shared() || self.linger.is_any());
            let term = if is_over { self.answer(opened).await } else { self.lead(opened).await };
            if let TermEnd::Over = term? {
                return Ok(());
            }
            tracing::warn!("this coordinator leads no more and stands by again");
            self.front.stand_by(None);
        }
    }

    fn announce(&self) -> Result<(), Failure> {
        say(&format!("listening on {}://{}", self.front.scheme(), self.front.address()))?;
        self.shown.announce()
    }

    /// Waits until the record is this coordinator's.
    async fn elected(&mut self) -> Result<Opened, Failure> {
        let told = |leader: Option<Whereabouts>| {
            match &leader {
                Some(Whereabouts { address, .. }) => tracing::info!(leader = address, "standing by"),
                None => tracing::info!("nobody leads"),
            }
            self.front.stand_by(leader);
        };
        let term = tokio::select! {
            term = self.site.lead(&self.law, &self.own, &told) => term?,
            () = self.interrupts.next() => return Err(Failure::Interrupted),
        };
        Ok(Opened::under(self.law.clone(), term)?)
    }

    /// Answers for a run that is on record as complete.
    async fn answer(&mut self, opened: Opened) -> Result<TermEnd, Failure> {
        let answered = block_in_place(|| answer_for(&self.law, &opened, &self.front));
        opened.resign().await;
        answered?;
        say("the run is complete, and its results are here")?;
        self.stay().await;
        Ok(TermEnd::Over)
    }

    /// Leads for a term. What a run came to stays to be seen. Its lead is kept until everything is written, so whoever follows
    /// finds it.
    async fn lead(&mut self, opened: Opened) -> Result<TermEnd, Failure> {
        let mut sitting = Sitting::begin(self.law.clone(), &self.front, opened, self.workers)?;
        if !self.site.is_shared() {
            self.announce()?;
        }
        let ending = ended(&mut sitting, &mut self.interrupts).await;
        let Sitting { mut office, papers } = sitting;
        if matches!(ending, Ending::Deposed) && self.site.is_shared() {
            papers.set_aside()?;
            return Ok(TermEnd::Lost);
        }
        let has_failed = matches!(ending, Ending::Failed(_));
        let concluded = block_in_place(|| papers.conclude(ending, &self.front));
        if has_failed {
            // As long as a failure is shown nobody tries again, but for whoever leads because this process may not.
            let deposed = tokio::select! {
                () = self.stay() => false,
                () = office.deposed() => true,
            };
            office.resign().await;
            return if deposed { Ok(TermEnd::Lost) } else { concluded.map(|()| TermEnd::Over) };
        }
        office.resign().await;
        concluded?;
        self.stay().await;
        Ok(TermEnd::Over)
    }

    /// Answers for a run that is over as long as it is wanted.
    async fn stay(&mut self) {
        tokio::select! {
            () = self.linger.wait() => {}
            () = self.interrupts.next() => {}
        }
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
