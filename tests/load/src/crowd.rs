//! Many ranks on few connections, in lockstep (HANDS).
//!
//! One task drives them all, as their all-reduce would: a step is over when every rank holds its plan and whoever drives
//! says so; then all of them report at once. Messages are stamped where they are read, before they wait for this task.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use esta_engine::{law::Law, plan::RankPlan, spec::seconds};
use esta_proto::{
    PROTOCOL, SessionId, Step,
    v1::{CoordinatorMessage, JoinRequest, JoinResponse, WorkerMessage, coordinator_client::CoordinatorClient},
};
use futures::future::try_join_all;
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::{
    door::Door,
    rank::{Rank, Told, Trade},
};

/// Sessions of a connection: fewer than the streams that servers allow on one.
const SESSIONS: u32 = 100;
/// Nothing that a crowd waits for takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two attempts to join a coordinator that does not lead yet.
const PAUSE: Duration = Duration::from_millis(50);
/// Messages that are taken in between two looks at the clock.
const BATCH: usize = 4096;

/// Who takes part.
#[derive(Debug, Clone)]
pub struct Cast {
    /// Ranks.
    pub ranks: u32,
    /// Sessions of a connection.
    pub sessions: u32,
    /// The first letters of their names.
    pub name: String,
    /// One rank in so many takes 1.3 times as long as the others; 0 for none.
    pub slow: u32,
}

impl Cast {
    /// So many ranks of one speed.
    #[must_use]
    pub fn of(ranks: u32) -> Self {
        Self { ranks, sessions: SESSIONS, name: "r".to_owned(), slow: 0 }
    }
}

/// Something that a session heard, and when.
struct Heard {
    rank: usize,
    at: Instant,
    /// `None` when the coordinator ended it.
    said: Result<Option<CoordinatorMessage>, Status>,
}

/// The ranks of one generation.
pub struct Crowd {
    /// The law of the job, as the coordinator resolved it.
    pub law: Arc<Law>,
    trade: Trade,
    ranks: Vec<Rank>,
    heard: mpsc::UnboundedReceiver<Heard>,
    batch: Vec<Heard>,
    beat: Interval,
    /// Ranks whose trainer has a step to do.
    holding: usize,
    /// Sessions that the coordinator ended.
    ended: usize,
    /// Seconds from a report to the plan that waited for it, since they were taken last.
    waits: Vec<f64>,
    /// When the last of the plans of the steps that are due came.
    complete: Instant,
    /// By rank, where somebody wants them: a token for every plan.
    taps: Vec<std::sync::mpsc::Sender<()>>,
}

impl Crowd {
    /// Joins with everybody at once and opens all sessions.
    ///
    /// # Errors
    /// When anybody is turned away.
    pub async fn enter(door: &Door, cast: &Cast) -> anyhow::Result<Self> {
        let connections = cast.ranks.div_ceil(cast.sessions.max(1));
        let clients = try_join_all((0..connections).map(|_| door.connect())).await?;
        let client = |rank: u32| clients[(rank % connections) as usize].clone();
        let joins = (0..cast.ranks).map(|rank| tokio::spawn(join(client(rank), format!("{}{rank}", cast.name))));
        let joined = try_join_all(joins).await?.into_iter().collect::<Result<Vec<_>, _>>().context("joining")?;
        let spec = &joined.first().context("a crowd has ranks")?.spec_json;
        let law = Arc::new(Law::new(serde_json::from_str(spec)?)?);
        let trade = Trade::of(&law);
        let (hears, heard) = mpsc::unbounded_channel();
        let mut ranks = Vec::with_capacity(joined.len());
        for (number, welcome) in (0..).zip(&joined) {
            let (outbound, queue) = mpsc::unbounded_channel();
            let slowness = if cast.slow > 0 && number % cast.slow == cast.slow - 1 { 1.3 } else { 1.0 };
            let name = format!("{}{number}", cast.name);
            ranks.push(Rank::enter(name, &trade, SessionId(welcome.session_id), slowness, outbound));
            tokio::spawn(listen(client(number), queue, number as usize, hears.clone()));
        }
        let mut beat = tokio::time::interval(seconds(law.spec.timeouts.heartbeat));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (batch, waits) = (Vec::with_capacity(BATCH), Vec::new());
        let complete = Instant::now();
        let taps = Vec::new();
        Ok(Self { law, trade, ranks, heard, batch, beat, holding: 0, ended: 0, waits, complete, taps })
    }

    /// Ranks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    /// Whether nobody takes part.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// Waits until every rank holds the plan of the next step; which step that is, and when the last plan came. `None`
    /// when the run is over.
    ///
    /// # Errors
    /// When a session breaks, or nothing happens for long.
    pub async fn ready(&mut self) -> anyhow::Result<Option<(Step, Instant)>> {
        while self.holding < self.ranks.len() {
            if self.ended == self.ranks.len() {
                return Ok(None);
            }
            self.listen_on().await?;
        }
        let step = self.ranks[0].due().map(|plan| plan.step).context("the first rank holds a plan")?;
        Ok(Some((step, self.complete)))
    }

    /// What the ranks are to do in the step that is due, by rank: their shares and what these take.
    pub fn shares(&self) -> impl Iterator<Item = (&RankPlan, Duration)> {
        self.ranks.iter().filter_map(|rank| {
            let plan = rank.due()?;
            Some((plan, rank.busy(plan, &self.trade)))
        })
    }

    /// What the draws of the step that is due take, by slot, whoever runs them on ranks of one speed.
    #[must_use]
    pub fn slots(&self) -> Vec<Duration> {
        let mut slots: Vec<_> = self.ranks.iter().filter_map(Rank::due).flat_map(|plan| &plan.slots).collect();
        slots.sort_unstable_by_key(|(slot, _)| *slot);
        slots.into_iter().map(|(_, stitch)| self.trade.takes(*stitch)).collect()
    }

    /// Everybody finishes the step that is due, and reports it.
    ///
    /// # Errors
    /// When that ends a rank.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let step = self.ranks.first().and_then(Rank::due).map(|plan| plan.step);
        self.holding = 0;
        for rank in &mut self.ranks {
            let due = rank.due().map(|plan| plan.step);
            ensure!(due == step, "ranks are out of step: one is to do {due:?} while others are to do {step:?}");
            rank.finish(&self.trade)?;
            self.holding += usize::from(rank.due().is_some());
        }
        Ok(())
    }

    /// Seconds from a report to the plan that waited for it, of every rank and step since this was asked last.
    pub fn take_waits(&mut self) -> Vec<f64> {
        std::mem::take(&mut self.waits)
    }

    /// Queues of trainers, by rank: a token is put in for every plan that comes.
    pub fn tap(&mut self) -> Vec<std::sync::mpsc::Receiver<()>> {
        let (taps, queues) = self.ranks.iter().map(|_| std::sync::mpsc::channel()).unzip();
        self.taps = taps;
        queues
    }

    /// How many times as long as others a rank takes.
    #[must_use]
    pub fn slowness(&self, rank: usize) -> f64 {
        self.ranks[rank].slowness()
    }

    /// Goes on listening until something else is done.
    ///
    /// # Errors
    /// When a session breaks.
    pub async fn listen_while<T>(&mut self, work: impl Future<Output = T>) -> anyhow::Result<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                listened = self.listen_once() => listened?,
            }
        }
    }

    /// Everybody leaves without a word.
    pub async fn leave(self) {
        let Self { ranks, mut heard, .. } = self;
        drop(ranks);
        // Every session ends once its stream has.
        while heard.recv().await.is_some() {}
    }

    async fn listen_on(&mut self) -> anyhow::Result<()> {
        let (holding, ranks) = (self.holding, self.ranks.len());
        let listened = timeout(PATIENCE, self.listen_once()).await;
        listened.with_context(|| format!("{holding} of {ranks} ranks hold the next plan, and nothing happens"))?
    }

    /// Takes in what was heard, or lets everybody say that it lives.
    async fn listen_once(&mut self) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            _ = self.beat.tick() => {
                for rank in &mut self.ranks {
                    rank.beat()?;
                }
                return Ok(());
            }
            count = self.heard.recv_many(&mut self.batch, BATCH) => ensure!(count > 0, "no session listens"),
        }
        for Heard { rank, at, said } in std::mem::take(&mut self.batch) {
            let Some(message) = said.with_context(|| format!("the session of rank {rank} broke"))? else {
                self.ended += 1;
                continue;
            };
            let tap = self.taps.get(rank);
            let rank = &mut self.ranks[rank];
            let held = rank.due().is_some();
            if let Told::Plan(since) = rank.hear(message, &self.trade)? {
                self.waits.extend(since.map(|since| at.saturating_duration_since(since).as_secs_f64()));
                // A trainer that is gone wants no more plans.
                tap.map(|tap| tap.send(()).ok());
            }
            match (held, rank.due().is_some()) {
                (false, true) => {
                    self.holding += 1;
                    self.complete = at;
                }
                (true, false) => self.holding -= 1,
                _ => {}
            }
        }
        Ok(())
    }
}

async fn join(mut client: CoordinatorClient<Channel>, name: String) -> anyhow::Result<JoinResponse> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let request = JoinRequest { protocol: PROTOCOL, name, incarnation: 1, version };
    let joined = async {
        loop {
            match client.join(request.clone()).await {
                // On etcd it listens before it leads.
                Err(status) if status.code() == Code::Unavailable => tokio::time::sleep(PAUSE).await,
                answer => return answer,
            }
        }
    };
    match timeout(PATIENCE, joined).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => bail!("nobody may join within {PATIENCE:?}"),
    }
}

/// Passes on what a session hears until it ends.
async fn listen(
    mut client: CoordinatorClient<Channel>,
    queue: mpsc::UnboundedReceiver<WorkerMessage>,
    rank: usize,
    heard: mpsc::UnboundedSender<Heard>,
) {
    let hear = |said| heard.send(Heard { rank, at: Instant::now(), said }).is_ok();
    let mut inbound = match client.session(UnboundedReceiverStream::new(queue)).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => {
            hear(Err(status));
            return;
        }
    };
    loop {
        let said = inbound.message().await;
        let last = !matches!(said, Ok(Some(_)));
        if !hear(said) || last {
            return;
        }
    }
}
