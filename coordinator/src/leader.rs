//! The one task that owns a run (HANDS): inputs in, the law decides, its commands are carried out in order.
//!
//! Nothing here waits but for the next input: sends are queued, records go to the writer's thread, observers have
//! queues of their own.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use esta_engine::run::{Command, Event, Finish, Hello, Message, Notice, Record, Run};
use esta_engine::{table::Table, wire};
use esta_proto::{
    Fence, SessionId,
    v1::{CoordinatorMessage, Leaving, StoreRequest, coordinator_message::Body},
};
use esta_telemetry::trace::Context;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    observer::{Observation, Observers, TimeSpent},
    rpc::{
        outbox::{Outbox, Undelivered},
        rendezvous::{Rendezvous, Reply},
    },
    store::{Durable, StoreError, Tenure, Writer, Written},
    telemetry::Watched,
};

/// Inputs that are taken in at once, between two looks at who else has something to say.
const BATCH: usize = 128;

/// A question put to the run between two events.
pub type Inspection = Box<dyn FnOnce(&Run) + Send>;

/// What reaches the leader.
pub enum Input {
    /// A session began.
    Opened(SessionId, Hello, Outbox),
    /// A worker said something, in this place of a trace where that is kept.
    Happened(SessionId, Event, Option<Context>),
    /// A session's stream ended or was reset.
    Left(SessionId),
    /// A session sent what nobody can read; it is ended with this status.
    Broken(SessionId, Status),
    /// A worker says why it is about to leave.
    Leaving(SessionId, Leaving),
    /// A rank asks the rendezvous store of its generation.
    Rendezvous(SessionId, Fence, StoreRequest),
    /// Records became durable, or the record failed.
    Written(Written),
    /// Somebody asks how things stand.
    Inspect(Inspection),
}

/// How a run under this leader ended.
#[derive(Debug)]
pub enum Ending {
    /// Every step is durable and the results are written.
    Complete,
    /// The law ended it.
    Failed(String),
    /// The record cannot be kept.
    Store(StoreError),
    /// Somebody asked the coordinator to stop; the run can be resumed.
    Stopped,
    /// Another coordinator leads, or may.
    Deposed,
    /// This process cannot lead it, whatever others can.
    Broken(String),
}

/// The leader's state: the run and the ends of everything it commands.
pub struct Leader {
    run: Run,
    /// Of the messages sent: the generation of the last membership recorded, so that `Lost` names the one that is over.
    fence: Fence,
    sessions: BTreeMap<SessionId, Outbox>,
    /// What the law has yet to hear.
    events: VecDeque<Event>,
    rendezvous: Rendezvous,
    writer: Writer,
    observers: Observers,
    /// Of the reports since the last write.
    spent: TimeSpent,
    watched: Watched,
    started: Instant,
    /// The deadline that was ticked last: it is not ticked twice.
    ticked: Option<Duration>,
    failed: Option<String>,
    ending: Option<Ending>,
}

impl Leader {
    /// A leader over a run whose records go to `writer`.
    #[must_use]
    pub fn new(run: Run, run_id: &str, writer: Writer, observers: Observers) -> Self {
        Self {
            fence: run.fence(),
            watched: Watched::new(&run, run_id),
            run,
            sessions: BTreeMap::new(),
            events: VecDeque::new(),
            rendezvous: Rendezvous::default(),
            writer,
            observers,
            spent: TimeSpent::default(),
            started: Instant::now(),
            ticked: None,
            failed: None,
            ending: None,
        }
    }

    /// Leads until the run ends, `stop` is cancelled or the tenure is over; answers with the table as it was then, where there is one.
    pub async fn lead(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        stop: CancellationToken,
        tenure: Tenure,
    ) -> (Ending, Option<Arc<Table>>) {
        let mut over = pin!(tenure.over());
        let mut batch = Vec::with_capacity(BATCH);
        let ending = loop {
            // A process that was stopped meanwhile finds out before it says a word.
            if !tenure.holds() {
                break Ending::Deposed;
            }
            let due = self.run.poll_timeout().filter(|due| self.ticked != Some(*due));
            let tick = tokio::time::sleep_until(self.started + due.unwrap_or_default());
            tokio::select! {
                // What is complete but for its record is not interrupted: that ends by itself.
                () = stop.cancelled(), if !self.run.is_concluding() => break Ending::Stopped,
                () = &mut over => break Ending::Deposed,
                1.. = inputs.recv_many(&mut batch, BATCH) => {}
                () = tick, if due.is_some() => {
                    self.ticked = due;
                    self.events.push_back(Event::Tick);
                }
            }
            self.settle();
            for input in batch.drain(..) {
                if self.ending.is_some() || !tenure.holds() {
                    break;
                }
                self.take(input);
                self.settle();
            }
            if let Some(ending) = self.ending.take() {
                break ending;
            }
        };
        // The writer's thread may wait for room in a queue that nobody reads any more.
        drop(inputs);
        self.dismiss(&ending);
        let Self { run, writer, mut watched, .. } = self;
        // What was given to it becomes durable, unless it is another leader's to write by now.
        drop(writer);
        if let Ending::Stopped | Ending::Complete = ending {
            watched.all_durable();
        }
        (ending, run.ledger().map(|ledger| Arc::new(ledger.table().clone())))
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Opened(session, hello, outbox) => {
                self.sessions.insert(session, outbox);
                self.events.push_back(Event::Joined(session, hello));
            }
            // A session that was closed or cut off has nothing more to say.
            Input::Happened(session, event, from) if self.sessions.contains_key(&session) => {
                if let Event::Reported(_, report) = &event {
                    self.spent.add(&report.timings);
                    self.watched.reported(&self.run, report.step, from);
                }
                self.events.push_back(event);
            }
            Input::Happened(..) => {}
            Input::Left(session) => {
                if self.close(session) {
                    self.events.push_back(Event::Left(session));
                }
            }
            Input::Broken(session, status) => {
                tracing::warn!(session = session.0, reason = status.message(), "a worker's message is malformed");
                self.cut(session, status);
            }
            Input::Leaving(session, why) => {
                tracing::info!(session = session.0, exit_code = why.exit_code, reason = why.reason, "a worker leaves");
            }
            Input::Rendezvous(session, fence, request) => {
                let replies = self.rendezvous.request(session, fence, request);
                self.reply(replies);
            }
            Input::Written(Ok(durable)) => self.written(durable),
            Input::Written(Err(StoreError::Deposed { .. })) => self.ending = Some(Ending::Deposed),
            Input::Written(Err(error)) => self.ending = Some(Ending::Store(error)),
            Input::Inspect(question) => question(&self.run),
        }
    }

    /// Lets the law decide about everything that happened, and about what follows from carrying its commands out.
    fn settle(&mut self) {
        while let Some(event) = self.events.pop_front() {
            let (began, began_at) = (Instant::now(), SystemTime::now());
            let commands = self.run.handle(event, self.started.elapsed());
            self.watched.handled(&self.run, began_at);
            let plans = commands.iter().any(|command| matches!(command, Command::Send(_, Message::Plan(_))));
            for command in commands {
                self.carry_out(command, began_at);
            }
            if plans {
                self.watched.planned(began.elapsed());
            }
        }
    }

    /// Carries out a command of what the law handled since `began`.
    fn carry_out(&mut self, command: Command, began: SystemTime) {
        match command {
            Command::Send(session, message) => self.send(session, &message),
            Command::Close(session) => {
                self.close(session);
            }
            Command::Evict(session, reason) => self.cut(session, Status::aborted(reason)),
            Command::Persist(record) => self.persist(record, began),
            Command::Notice(notice) => self.notice(notice),
            Command::Complete => {
                self.ending = Some(self.failed.take().map_or(Ending::Complete, Ending::Failed));
            }
        }
    }

    fn send(&mut self, session: SessionId, message: &Message) {
        if let Message::Finish(finish) = message {
            self.tell_of_finish(finish);
        }
        let context = match message {
            Message::Plan(plan) => {
                if self.watched.gives_out_again(plan.step, self.fence.generation) {
                    self.observers.tell(&Observation::Again(plan.step));
                }
                self.watched.hand_out(plan.step)
            }
            Message::Form(_) => self.watched.of_generation(self.fence.generation),
            Message::Prepare(seat) => self.watched.of_generation(seat.generation),
            _ => None,
        };
        self.post(session, wire::to_worker(message), context);
    }

    /// The first of the ranks' messages says what was chosen; the others repeat it.
    fn tell_of_finish(&mut self, finish: &Finish) {
        if let Some(ledger) = self.run.ledger().filter(|_| finish.writer) {
            let (palettes, table) = (finish.palettes.clone(), Arc::new(ledger.table().clone()));
            self.observers.tell(&Observation::Finished { palettes, table });
        }
    }

    /// Queues a message; a worker that does not read is dropped, and the law hears of it next.
    fn post(&mut self, session: SessionId, body: Body, context: Option<Context>) {
        let Some(outbox) = self.sessions.get(&session) else { return };
        let traceparent = context.map(|context| context.to_string()).unwrap_or_default();
        let fence = Some(self.fence.into());
        let sent = outbox.send(CoordinatorMessage { fence, traceparent, body: Some(body) });
        if let Err(undelivered) = sent {
            if undelivered == Undelivered::Full {
                tracing::warn!(session = session.0, "a worker does not read its messages and is dropped");
            }
            self.cut(session, Status::resource_exhausted("the worker does not read its messages"));
        }
    }

    /// Ends a session at once, with a reason.
    fn cut(&mut self, session: SessionId, reason: Status) {
        self.rendezvous.left(session);
        if let Some(outbox) = self.sessions.remove(&session) {
            outbox.cut(reason);
            self.events.push_back(Event::Left(session));
        }
    }

    /// Ends a session after what was sent; whether it was open.
    fn close(&mut self, session: SessionId) -> bool {
        self.rendezvous.left(session);
        self.sessions.remove(&session).is_some()
    }

    fn persist(&mut self, record: Record, began: SystemTime) {
        match &record {
            Record::Step(step) => {
                self.watched.committed(step, self.run.ledger(), began);
            }
            Record::Generation(generation, _) => {
                self.fence.generation = *generation;
                let replies = self.rendezvous.open(self.fence);
                self.reply(replies);
            }
            Record::Samples(samples) => self.observers.tell(&Observation::Samples(*samples)),
            Record::Checkpoint(_) | Record::Snapshot(_) | Record::Trim(_) | Record::Complete => {}
        }
        self.writer.persist(record);
    }

    fn notice(&mut self, notice: Notice) {
        match &notice {
            Notice::Ended(..) => {
                let replies = self.rendezvous.close();
                self.reply(replies);
            }
            Notice::Preparing(generation, _) => {
                let replies = self.rendezvous.prepare(Fence { generation: *generation, ..self.fence });
                self.reply(replies);
            }
            Notice::Forgone(..) => {
                let replies = self.rendezvous.forgo();
                self.reply(replies);
            }
            Notice::Failed(reason) => self.failed = Some(reason.clone()),
            _ => {}
        }
        self.watched.note(&notice);
        let about = match &notice {
            Notice::Formed(g, _) | Notice::Preparing(g, _) | Notice::Forgone(g, _) | Notice::Ended(g, _) => Some(*g),
            _ => None,
        };
        let context = about.and_then(|generation| self.watched.of_generation(generation));
        self.observers.tell(&Observation::Notice(notice, context));
    }

    fn reply(&mut self, replies: Vec<Reply>) {
        for (session, reply) in replies {
            self.post(session, Body::Store(reply), None);
        }
    }

    fn written(&mut self, Durable { steps, generation, complete, took }: Durable) {
        self.watched.durable(&steps, took);
        if let Some(generation) = generation {
            self.events.push_back(Event::Recorded(generation));
        }
        if complete {
            self.events.push_back(Event::Concluded);
        }
        let Some(last) = steps.last().map(|record| record.step) else { return };
        if let Some(ledger) = self.run.ledger() {
            let table = Arc::new(ledger.table().clone());
            let (total, elapsed) = (ledger.total(), self.started.elapsed());
            self.observers.tell(&Observation::Committed { steps: steps.into(), table, total, elapsed });
        }
        self.observers.tell(&Observation::Timed(std::mem::take(&mut self.spent)));
        self.events.push_back(Event::Persisted(last));
    }

    /// Ends every session: after what was sent when the run is over, at once when it is only interrupted.
    fn dismiss(&mut self, ending: &Ending) {
        let reason = match ending {
            Ending::Complete | Ending::Failed(_) => return,
            Ending::Store(error) => Status::unavailable(format!("the coordinator cannot keep its record: {error}")),
            Ending::Stopped => Status::unavailable("the coordinator was stopped"),
            Ending::Deposed => Status::unavailable("this coordinator leads no more"),
            Ending::Broken(reason) => Status::unavailable(reason.clone()),
        };
        for (_, outbox) in std::mem::take(&mut self.sessions) {
            outbox.cut(reason.clone());
        }
    }
}
