//! Many ranks on few connections, in lockstep (HANDS).
//!
//! One task drives them all, as their all-reduce would: a step is over when every rank holds its plan and whoever drives
//! says so; then all of them report at once. Messages are stamped where they are read, before they wait for this task.
//! Where that is wanted, ranks whose session breaks come back as a worker's does.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use backon::{BackoffBuilder, ExponentialBuilder};
use esta_client::weigh;
use esta_engine::{law::Law, plan::RankPlan, spec::seconds};
use esta_proto::{
    Generation, PROTOCOL, SessionId, Step,
    v1::{CoordinatorMessage, JoinRequest, JoinResponse, WorkerMessage, coordinator_client::CoordinatorClient},
};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, transport::Channel};

use crate::{
    door::{Door, Wire},
    rank::{Rank, Told, Trade},
};

/// Sessions of a connection: fewer than the streams that servers allow on one.
const SESSIONS: u32 = 100;
/// Nothing that a crowd waits for takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two attempts to reach a coordinator: the shortest and the longest pause, as a worker makes them.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
/// Connections that are made at once where nobody is in a hurry.
const HANDSHAKES: usize = 64;
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
    /// What they speak with the coordinator.
    pub wire: Wire,
    /// Whether ranks whose session breaks open another one, as workers do; it is an error where they do not.
    pub returns: bool,
}

impl Cast {
    /// So many ranks of one speed.
    #[must_use]
    pub fn of(ranks: u32) -> Self {
        let (name, wire) = ("r".to_owned(), Wire::Plain);
        Self { ranks, sessions: SESSIONS, name, slow: 0, wire, returns: false }
    }
}

type Client = CoordinatorClient<Channel>;

/// Something that a session heard, and when.
struct Heard {
    rank: usize,
    at: Instant,
    said: Said,
}

enum Said {
    Word(CoordinatorMessage),
    /// The coordinator ended it.
    End,
    Broke(Status),
    /// Whether it may have another one.
    Welcome(anyhow::Result<JoinResponse>),
}

/// The ranks of one generation.
pub struct Crowd {
    /// The law of the job, as the coordinator resolved it.
    pub law: Arc<Law>,
    trade: Trade,
    ranks: Vec<Rank>,
    /// By rank: the way to the coordinator.
    clients: Vec<Client>,
    returns: bool,
    hears: mpsc::UnboundedSender<Heard>,
    heard: mpsc::UnboundedReceiver<Heard>,
    batch: Vec<Heard>,
    beat: Interval,
    /// Ranks whose trainer has a step to do.
    holding: usize,
    /// The newest generation that a rank heard of, and the ranks of that.
    group: (Generation, u32),
    /// Steps that the coordinator has said are durable.
    durable: Step,
    /// Ranks that the coordinator knows, and those that it has come to know again.
    known: [usize; 2],
    /// When the last of these was answered.
    answered: Instant,
    /// Sessions that the coordinator ended.
    ended: usize,
    /// Seconds from a report to the plan that waited for it, since they were taken last.
    waits: Vec<f64>,
    /// When the last of its plans came, of each step that is not done.
    arrived: BTreeMap<Step, Instant>,
    /// By rank, where somebody wants them: a token for every plan.
    taps: Vec<std::sync::mpsc::Sender<()>>,
}

impl Crowd {
    /// Joins with everybody at once and opens all sessions.
    ///
    /// # Errors
    /// When anybody is turned away.
    pub async fn enter(door: &Door, cast: &Cast) -> anyhow::Result<Self> {
        let joined = join_all(door, cast).await?;
        let (_, welcome) = joined.first().context("a crowd has ranks")?;
        let law = Arc::new(Law::new(serde_json::from_str(&welcome.spec_json)?)?);
        let mut beat = tokio::time::interval(seconds(law.spec.timeouts.heartbeat));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (hears, heard) = mpsc::unbounded_channel();
        let now = Instant::now();
        let mut crowd = Self {
            // Whoever comes back hands over what its coordinator may have lost.
            trade: Trade::of(&law, cast.returns),
            law,
            ranks: Vec::with_capacity(joined.len()),
            clients: Vec::with_capacity(joined.len()),
            returns: cast.returns,
            hears,
            heard,
            batch: Vec::with_capacity(BATCH),
            beat,
            holding: 0,
            group: (Generation(0), 0),
            durable: Step(0),
            known: [0; 2],
            answered: now,
            ended: 0,
            waits: Vec::new(),
            arrived: BTreeMap::new(),
            taps: Vec::new(),
        };
        crowd.open(joined, cast);
        Ok(crowd)
    }

    /// More ranks join; whoever was there goes on once the coordinator knows all of them.
    ///
    /// # Errors
    /// When anybody is turned away.
    pub async fn grow(&mut self, door: &Door, cast: &Cast) -> anyhow::Result<()> {
        let joined = self.listen_while(join_all(door, cast)).await??;
        self.open(joined, cast);
        self.listen_until("more ranks are known", |crowd| crowd.known[0] == crowd.ranks.len()).await?;
        // Those who wait are let in behind the steps that are given out, or before that. Who takes no time for its step must
        // not be ahead of its peers' reports then.
        while self.holding < self.ranks.len() {
            let whole = |crowd: &Self| crowd.holding == crowd.group.1 as usize;
            self.listen_until("a group holds a plan", whole).await?;
            if self.holding < self.ranks.len() {
                let (due, group) = (self.ranks.iter().find_map(Rank::due).map(|plan| plan.step), self.group);
                self.finish()?;
                let heard = |crowd: &Self| Some(crowd.durable) > due || crowd.group > group;
                self.listen_until("its step is durable", heard).await?;
            }
        }
        Ok(())
    }

    fn open(&mut self, joined: Vec<(Client, JoinResponse)>, cast: &Cast) {
        for (number, (client, welcome)) in (0..).zip(joined) {
            let (outbound, queue) = mpsc::unbounded_channel();
            let slowness = if cast.slow > 0 && number % cast.slow == cast.slow - 1 { 1.3 } else { 1.0 };
            let name = format!("{}{number}", cast.name);
            let (rank, session) = (self.ranks.len(), SessionId(welcome.session_id));
            self.ranks.push(Rank::enter(name, &self.trade, session, slowness, outbound));
            self.clients.push(client.clone());
            tokio::spawn(listen(client, queue, rank, self.hears.clone()));
        }
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
        let settled = |crowd: &Self| crowd.holding == crowd.ranks.len() || crowd.ended == crowd.ranks.len();
        self.listen_until("every rank holds a plan", settled).await?;
        if self.holding < self.ranks.len() {
            return Ok(None);
        }
        let step = self.ranks[0].due().map(|plan| plan.step).context("the first rank holds a plan")?;
        let arrived = self.arrived.get(&step).context("what is due has come")?;
        Ok(Some((step, *arrived)))
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

    /// Waits until every rank has lost its session and the coordinator has answered it on another; when the last one was.
    ///
    /// # Errors
    /// When anybody is turned away, or they do not come back.
    pub async fn returned(&mut self) -> anyhow::Result<Instant> {
        self.listen_until("every rank is back", |crowd| crowd.known[1] == crowd.ranks.len()).await?;
        Ok(self.answered)
    }

    /// Whoever takes part finishes the step that is due, and reports it.
    ///
    /// # Errors
    /// When that ends a rank.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let step = self.ranks.iter().find_map(Rank::due).map(|plan| plan.step);
        self.arrived = self.arrived.split_off(&step.unwrap_or_default().next());
        self.holding = 0;
        for rank in &mut self.ranks {
            let Some(due) = rank.due().map(|plan| plan.step) else { continue };
            ensure!(Some(due) == step, "ranks are out of step: one is to do {due} while others are to do {step:?}");
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
        let Self { ranks, hears, mut heard, .. } = self;
        drop((ranks, hears));
        // Every session ends once its stream has.
        while heard.recv().await.is_some() {}
    }

    /// Listens until something is so.
    async fn listen_until(&mut self, what: &str, so: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        let listened = async {
            while !so(self) {
                self.listen_once().await?;
            }
            Ok(())
        };
        match timeout(PATIENCE, listened).await {
            Ok(listened) => listened,
            Err(_) => bail!(
                "waited {PATIENCE:?} in vain until {what}: of {} ranks {:?} are known and known again, {} hold a plan, {} have \
                 ended; the last group has {}",
                self.ranks.len(),
                self.known,
                self.holding,
                self.ended,
                self.group.1
            ),
        }
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
            match said {
                Said::Word(message) => self.hear(rank, at, message)?,
                Said::End => self.ended += 1,
                Said::Broke(status) if !self.returns => {
                    return Err(status).with_context(|| format!("the session of rank {rank} broke"));
                }
                Said::Broke(_) => self.lose(rank)?,
                Said::Welcome(welcome) => {
                    let welcome = welcome.with_context(|| format!("rank {rank} joins again"))?;
                    let (outbound, queue) = mpsc::unbounded_channel();
                    self.ranks[rank].come_back(SessionId(welcome.session_id), outbound)?;
                    tokio::spawn(listen(self.clients[rank].clone(), queue, rank, self.hears.clone()));
                }
            }
        }
        Ok(())
    }

    fn hear(&mut self, number: usize, at: Instant, message: CoordinatorMessage) -> anyhow::Result<()> {
        let rank = &mut self.ranks[number];
        if let Some(count) = rank.answer().and_then(|times| self.known.get_mut(times as usize - 1)) {
            *count += 1;
            self.answered = at;
        }
        let held = rank.due().is_some();
        match rank.hear(message, &self.trade)? {
            Told::Nothing => {}
            Told::Durable(steps) => self.durable = self.durable.max(steps),
            Told::Plan(step, since) => {
                self.arrived.insert(step, at);
                self.waits.extend(since.map(|since| at.saturating_duration_since(since).as_secs_f64()));
                // A trainer that is gone wants no more plans.
                self.taps.get(number).map(|tap| tap.send(()).ok());
            }
        }
        self.group = self.group.max(rank.group());
        match (held, rank.due().is_some()) {
            (false, true) => self.holding += 1,
            (true, false) => self.holding -= 1,
            _ => {}
        }
        Ok(())
    }

    /// A worker keeps its plans and its trainer trains on while it looks for a coordinator.
    fn lose(&mut self, rank: usize) -> anyhow::Result<()> {
        self.ranks[rank].lose()?;
        let (client, name, hears) =
            (self.clients[rank].clone(), self.ranks[rank].name().to_owned(), self.hears.clone());
        tokio::spawn(async move {
            let said = Said::Welcome(join(client, name).await);
            hears.send(Heard { rank, at: Instant::now(), said }).ok();
        });
        Ok(())
    }
}

/// Joins with everybody of a cast, over as few connections as it says.
async fn join_all(door: &Door, cast: &Cast) -> anyhow::Result<Vec<(Client, JoinResponse)>> {
    let connections = cast.ranks.div_ceil(cast.sessions.max(1));
    let connected = stream::iter(0..connections).map(|_| door.connect()).buffered(HANDSHAKES);
    let clients: Vec<Client> = connected.try_collect().await?;
    let joins = (0..cast.ranks).map(|rank| {
        let (client, name) = (clients[(rank % connections) as usize].clone(), format!("{}{rank}", cast.name));
        tokio::spawn(async move { anyhow::Ok((client.clone(), join(client, name).await?)) })
    });
    try_join_all(joins).await?.into_iter().collect::<Result<_, _>>().context("joining")
}

async fn join(mut client: Client, name: String) -> anyhow::Result<JoinResponse> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let request = JoinRequest { protocol: PROTOCOL, name, incarnation: 1, version };
    let [shortest, longest] = PAUSES;
    let pauses = ExponentialBuilder::default().with_min_delay(shortest).with_max_delay(longest);
    let mut pauses = pauses.with_jitter().without_max_times().build();
    let joined = async {
        loop {
            match client.join(request.clone()).await {
                // It is not there yet, or it listens before it leads.
                Err(status) if weigh(&status).is_passing() => {
                    tokio::time::sleep(pauses.next().unwrap_or(longest)).await;
                }
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
    mut client: Client,
    queue: mpsc::UnboundedReceiver<WorkerMessage>,
    rank: usize,
    heard: mpsc::UnboundedSender<Heard>,
) {
    let hear = |said| heard.send(Heard { rank, at: Instant::now(), said }).is_ok();
    let mut inbound = match client.session(UnboundedReceiverStream::new(queue)).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => {
            hear(Said::Broke(status));
            return;
        }
    };
    loop {
        let said = match inbound.message().await {
            Ok(Some(message)) => Said::Word(message),
            Ok(None) => Said::End,
            Err(status) => Said::Broke(status),
        };
        let last = !matches!(said, Said::Word(_));
        if !hear(said) || last {
            return;
        }
    }
}
