//! A worker's session with the coordinator (HANDS): carries out what `esta_worker_engine::Session` decides.
//!
//! One task owns the law. It hears the coordinator, the trainer and the rendezvous store, and keeps hearing the trainer
//! while the coordinator is away: with plans in hand the worker trains on.

mod call;
mod link;
mod rendezvous;
mod requests;
mod search;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use esta_client::Credentials;
use esta_engine::{
    run::{Message, Ready},
    spec::{TimeoutSpec, seconds},
};
use esta_proto::{LeaderEpoch, Rank, v1};
use esta_telemetry::trace::Context;
use esta_worker_engine::{
    Command, Event, Identity, Reader, Reply, Session, TrainerCommand, TrainerEvent, wire::Inbound,
};
use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior},
};
use tonic::Status;

pub use link::{Caller, LinkError};
use link::{Joined, Link};
use rendezvous::Outstanding;
pub use rendezvous::{SessionStore, StoreCall};
pub use requests::Requests;
use search::connect;

use crate::{
    telemetry::{Place, Tracks},
    trainer::{SetupError, Trainer, TrainerOptions},
};

/// How long a worker that knows no job looks for a coordinator.
const FIRST_BUDGET: Duration = Duration::from_secs(60);

/// What a worker process is told on its command line.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Addresses of coordinators, tried in turn.
    pub coordinators: Vec<String>,
    /// Who it is.
    pub caller: Caller,
    /// What it shows coordinators, and which it believes.
    pub credentials: Credentials,
    /// How long it looks for a coordinator before it gives up; once it has joined, the job's `timeouts.reconnect` says it
    /// when this is absent.
    pub reconnect_budget: Option<Duration>,
    /// Where and how it trains.
    pub trainer: TrainerOptions,
    /// Where it stands, for whoever looks.
    pub place: Arc<Place>,
    /// Whether the end of standard input asks it to leave, as a signal does.
    pub on_leash: bool,
}

/// Why a worker could not take part.
#[derive(Debug, Error)]
pub enum SessionError {
    /// Nobody answered within the budget.
    #[error("no coordinator could be reached within {budget:?}")]
    Unreachable {
        /// The budget.
        budget: Duration,
        /// The last attempt.
        source: LinkError,
    },
    /// A coordinator answered and refused.
    #[error("the coordinator turned this worker away")]
    Refused(#[source] LinkError),
    /// The job's files do not load.
    #[error("the job cannot be set up on this worker")]
    Setup(#[from] SetupError),
    /// After a reconnect another job is served there.
    #[error("the coordinator serves another job than the one this worker has joined")]
    OtherJob,
    /// After a reconnect another run is served there, of the same job.
    #[error("the coordinator leads the run {found} now, and this worker is part of {joined}: start it again")]
    OtherRun {
        /// The worker's.
        joined: String,
        /// The coordinator's.
        found: String,
    },
    /// The trainer thread is gone.
    #[error("the trainer stopped without a word")]
    TrainerGone,
}

/// How a worker's part in a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why, in one line.
    pub reason: String,
    /// Exit code of the process.
    pub exit_code: i32,
    /// It was asked to leave, and the run is not complete.
    pub drained: bool,
}

impl Ended {
    /// There is nothing left to take part in.
    fn complete() -> Self {
        Self { reason: "the run is complete".to_owned(), exit_code: 0, drained: false }
    }

    /// It was asked to leave before it took part.
    fn unneeded() -> Self {
        Self { reason: "asked to leave before it took part".to_owned(), exit_code: 0, drained: true }
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<Joined, SessionError>> + Send>>;

/// Takes part in a run until it ends.
///
/// # Errors
/// [`SessionError`] when the worker could not take part; how its part ended otherwise is in [`Ended`].
pub async fn run(options: SessionOptions) -> Result<Ended, SessionError> {
    // From its first moment on: the first process of a container is not sent what it does not listen for.
    let mut requests = Requests::listen(options.on_leash);
    let joined = tokio::select! {
        joined = connect(options.clone(), options.reconnect_budget.unwrap_or(FIRST_BUDGET)) => joined,
        () = requests.next() => return Ok(Ended::unneeded()),
    };
    let joined = match joined {
        Err(SessionError::Refused(link)) if link.says_complete() => return Ok(Ended::complete()),
        joined => joined?,
    };
    let (spec_digest, run_id) = (joined.spec_digest.clone(), joined.run_id.clone());
    if joined.spare {
        tracing::warn!("there are more ranks than slots: this worker is a hot spare that reduces zeros");
    }
    let (calls, store_calls) = mpsc::unbounded_channel();
    // A thread that loads is left behind.
    let (trainer, setup) = tokio::select! {
        started = Trainer::start(joined.spec.clone(), options.trainer.clone(), calls) => started?,
        () = requests.next() => return Ok(Ended::unneeded()),
    };
    let identity = Identity {
        name: options.caller.name.clone(),
        incarnation: options.caller.incarnation,
        layout_digest: setup.layout_digest,
        samples: setup.samples,
    };
    options.place.joined(setup.planned);
    let timeouts = joined.spec.timeouts.clone();
    let tracks = Tracks::of(&options.caller.name);
    let law = Session::new(identity, setup.save_steps, setup.checkpoints);
    let hands = Hands {
        options,
        law,
        reader: setup.reader,
        trainer,
        timeouts,
        spec_digest,
        run_id,
        link: None,
        outstanding: Outstanding::default(),
        tracks,
        rank: Rank(0),
        finishing: false,
        ended: None,
    };
    hands.run(joined, store_calls, requests).await
}

struct Hands {
    options: SessionOptions,
    law: Session,
    reader: Reader,
    trainer: Trainer,
    timeouts: TimeoutSpec,
    spec_digest: Vec<u8>,
    run_id: String,
    link: Option<Link>,
    outstanding: Outstanding,
    tracks: Tracks,
    /// The rank that it was told last.
    rank: Rank,
    /// Every step is done: what is left is to finish.
    finishing: bool,
    ended: Option<Ended>,
}

impl Hands {
    /// However it ends, the trainer's thread is asked to end before the process does.
    async fn run(
        mut self,
        joined: Joined,
        store_calls: mpsc::UnboundedReceiver<StoreCall>,
        requests: Requests,
    ) -> Result<Ended, SessionError> {
        let ended = self.take_part(joined, store_calls, requests).await;
        self.leave().await;
        ended
    }

    async fn take_part(
        &mut self,
        joined: Joined,
        mut store_calls: mpsc::UnboundedReceiver<StoreCall>,
        mut requests: Requests,
    ) -> Result<Ended, SessionError> {
        let mut connecting: Option<Connecting> = Some(Box::pin(async { Ok(joined) }));
        let mut beat = self.beat();
        let mut drained_by: Option<Instant> = None;
        loop {
            if let Some(ended) = self.ended.take() {
                return Ok(Ended { drained: drained_by.is_some() && !self.finishing, ..ended });
            }
            tokio::select! {
                joined = pending_or(&mut connecting) => {
                    connecting = None;
                    if let Err(SessionError::Refused(link)) = &joined && link.says_complete() {
                        return Ok(Ended::complete());
                    }
                    // The run may have come to its end while this worker set itself up.
                    match self.open(joined?).await {
                        Err(SessionError::Refused(link)) if link.says_complete() => return Ok(Ended::complete()),
                        opened => opened?,
                    }
                    beat = self.beat();
                }
                (link, message) = next_message(&mut self.link) => match message {
                    Ok(Some(message)) => {
                        let epoch = link.epoch;
                        self.receive(epoch, message);
                    }
                    Ok(None) => self.lose("it was closed"),
                    Err(status) => {
                        let status = link.ended(status).map_err(SessionError::Refused)?;
                        self.lose(status.message());
                    }
                },
                event = self.trainer.next_event() => {
                    let event = event.ok_or(SessionError::TrainerGone)?;
                    self.note(&event);
                    self.handle(Event::Trainer(event));
                }
                Some(call) = store_calls.recv() => self.forward(call),
                _ = beat.tick(), if self.link.is_some() => self.handle(Event::Beat(self.trainer.progress())),
                () = requests.next() => {
                    tracing::info!("asked to leave: finishing the steps given out; a second request leaves at once");
                    drained_by.get_or_insert(Instant::now() + seconds(self.timeouts.drain));
                    self.handle(Event::Drain);
                }
                () = until(drained_by) => self.handle(Event::Drain),
            }
            if self.link.is_none() && connecting.is_none() && self.ended.is_none() {
                let budget = self.options.reconnect_budget.unwrap_or_else(|| seconds(self.timeouts.reconnect));
                connecting = Some(Box::pin(connect(self.options.clone(), budget)));
            }
        }
    }

    fn beat(&self) -> Interval {
        let mut beat = tokio::time::interval(seconds(self.timeouts.heartbeat));
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        beat
    }

    async fn open(&mut self, joined: Joined) -> Result<(), SessionError> {
        if joined.spec_digest != self.spec_digest {
            return Err(SessionError::OtherJob);
        }
        if joined.run_id != self.run_id {
            return Err(SessionError::OtherRun { joined: self.run_id.clone(), found: joined.run_id });
        }
        // A coordinator may come back with other patience; the job is the same.
        self.timeouts = joined.spec.timeouts.clone();
        let mut commands = self.law.handle(Event::Connected).into_iter();
        let Some(Command::Send(fence, hello)) = commands.next() else { unreachable!("a session begins with a hello") };
        match joined.open((fence, hello)).await {
            Ok(link) => {
                self.link = Some(link);
                commands.for_each(|command| self.carry_out(command));
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the session did not open");
                self.handle(Event::Disconnected);
            }
            Err(error) => return Err(SessionError::Refused(error)),
        }
        Ok(())
    }

    fn receive(&mut self, epoch: LeaderEpoch, message: v1::CoordinatorMessage) {
        let context = Context::of_message(&message.traceparent);
        match self.reader.read(epoch, message) {
            Ok(Inbound::Law(fence, message)) => {
                if let Some(context) = context {
                    self.tracks.hear(context, fence, &message);
                }
                match &message {
                    Message::Form(form) => self.rank = form.rank,
                    Message::Finish(_) => self.finishing = true,
                    _ => {}
                }
                self.handle(Event::Received(fence, message));
            }
            Ok(Inbound::Store(reply)) => self.outstanding.finish(reply),
            Err(nonsense) => self.handle(Event::Misheard(nonsense)),
        }
    }

    fn lose(&mut self, reason: &str) {
        tracing::warn!(reason, "the session with the coordinator broke");
        self.link = None;
        self.outstanding.fail_all();
        self.handle(Event::Disconnected);
    }

    fn forward(&mut self, call: StoreCall) {
        let fence = call.fence;
        let request = self.outstanding.begin(call);
        let sent = self.link.as_ref().is_some_and(|link| link.send_store(fence, request));
        if !sent {
            self.outstanding.fail_all();
        }
    }

    fn note(&mut self, event: &TrainerEvent) {
        self.tracks.note(event);
        match event {
            TrainerEvent::Ready(generation, Ready { applied, .. }) => {
                self.options.place.stands(generation.0, self.rank.0);
                tracing::info!(generation = generation.0, applied = applied.0, "the process group stands");
            }
            TrainerEvent::Broke(generation, reason) => {
                self.options.place.left();
                tracing::warn!(generation = generation.0, %reason, "the process group broke");
            }
            TrainerEvent::Prepared(fence) => {
                tracing::info!(generation = fence.generation.0, "the next process group stands beside this one");
            }
            TrainerEvent::NotPrepared(fence, reason) => {
                tracing::warn!(generation = fence.generation.0, %reason, "the next process group cannot be built");
            }
            TrainerEvent::Published(step) => tracing::info!(step = step.0, "checkpoint saved"),
            TrainerEvent::Stepped(_)
            | TrainerEvent::Staged(_)
            | TrainerEvent::FinaleDone
            | TrainerEvent::Failed(..) => {}
        }
    }

    fn handle(&mut self, event: Event) {
        for command in self.law.handle(event) {
            self.carry_out(command);
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Send(fence, reply) => {
                // What a broken session loses is said again in the next hello, or by the law of the next generation.
                let from = match &reply {
                    Reply::Report(report) => {
                        let part = self.tracks.part(report.step);
                        self.tracks.reported(report.step);
                        part.map(|part| part.own)
                    }
                    _ => None,
                };
                if let Some(link) = &self.link {
                    link.send(fence, &reply, from);
                }
            }
            Command::Train(command) => {
                let part = match &command {
                    TrainerCommand::Run(_, plan) => self.tracks.part(plan.step),
                    _ => None,
                };
                self.trainer.queue(command, part);
            }
            Command::Prepare(fence, seat) => self.trainer.prepare(fence, seat),
            Command::Abandon(generation) => self.trainer.abandon(generation),
            Command::Exit(reason, exit_code) => self.ended = Some(Ended { reason, exit_code, drained: false }),
        }
    }

    /// Ends the session and what trains.
    async fn leave(self) {
        let Self { link, trainer, mut outstanding, .. } = self;
        outstanding.fail_all();
        if let Some(link) = link {
            drop(tokio::time::timeout(Duration::from_secs(2), link.close()).await);
        }
        trainer.stop().await;
    }
}

async fn pending_or(connecting: &mut Option<Connecting>) -> Result<Joined, SessionError> {
    match connecting {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The next message of an open session, `None` when it ended, or why it broke.
async fn next_message(link: &mut Option<Link>) -> (&Link, Result<Option<v1::CoordinatorMessage>, Status>) {
    match link {
        Some(link) => {
            let message = link.next().await;
            (link, message)
        }
        None => std::future::pending().await,
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
