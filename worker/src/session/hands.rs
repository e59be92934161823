//! What a worker does between its first hello and its last word (HANDS).

use std::{future::Future, pin::Pin, time::Duration};

use esta_engine::{
    run::{Message, Ready},
    spec::{TimeoutSpec, seconds},
};
use esta_proto::{LeaderEpoch, Rank, v1};
use esta_telemetry::trace::Context;
use esta_worker_engine::{
    Command, Event, Identity, Reader, Reply, Session, TrainerCommand, TrainerEvent, wire::Inbound,
};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior},
};
use tonic::Status;

use super::{
    Ended, Requests, SessionError, SessionOptions, StoreCall,
    link::{Caller, Joined, Link},
    rendezvous::Outstanding,
    search::connect,
};
use crate::{
    telemetry::Tracks,
    trainer::{Setup, Trainer},
};

type Connecting = Pin<Box<dyn Future<Output = Result<Joined, SessionError>> + Send>>;

/// A worker's part in a run: its law, and what carries it out.
pub(super) struct Hands {
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
    /// What a worker that was set up takes part with.
    pub fn of(options: SessionOptions, joined: &Joined, trainer: Trainer, setup: Setup) -> Self {
        let Caller { name, incarnation, .. } = options.caller.clone();
        let Setup { layout_digest, samples, save_steps, checkpoints, reader, .. } = setup;
        let tracks = Tracks::of(&name);
        let law = Session::new(Identity { name, incarnation, layout_digest, samples }, save_steps, checkpoints);
        Self {
            options,
            law,
            reader,
            trainer,
            timeouts: joined.spec.timeouts.clone(),
            spec_digest: joined.spec_digest.clone(),
            run_id: joined.run_id.clone(),
            link: None,
            outstanding: Outstanding::default(),
            tracks,
            rank: Rank(0),
            finishing: false,
            ended: None,
        }
    }

    /// Takes part until it ends. However it does, the trainer's thread is asked to end before the process does.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn take_part(
        mut self,
        joined: Joined,
        store_calls: mpsc::UnboundedReceiver<StoreCall>,
        requests: Requests,
    ) -> Result<Ended, SessionError> {
        let ended = self.attend(joined, store_calls, requests).await;
        self.leave().await;
        ended
    }

    async fn attend(
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
                    self.open(joined?).await?;
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
            | TrainerEvent::FinaleDone(_)
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
