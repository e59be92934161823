//! The way from calls to the leader's inbox (HANDS): session numbers, and sessions whose messages become inputs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use esta_engine::run::{Hello, Run};
use esta_proto::{
    Digest, LeaderEpoch, SessionId,
    v1::{WorkerMessage, worker_message::Body},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::{message, outbox::Outbox};
use crate::{
    leader::Input,
    security::{Caller, Denied},
    store::RecordTimes,
};

/// How long a new session may stay silent.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Sessions that joined and have not said hello: workers load their anchors meanwhile, and thousands may do so at once.
/// The oldest is forgotten beyond this.
const EXPECTED: usize = 1 << 16;

/// What a worker learns when it joins.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// Name of the run.
    pub run_id: String,
    /// The leader's term.
    pub epoch: LeaderEpoch,
    /// The resolved specification.
    pub spec_json: String,
    /// Digest of the job but for its time-outs.
    pub spec_digest: Digest,
    /// Slots of a step: ranks beyond are spares.
    pub slots: u32,
}

/// The way to a leader in office; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Office {
    /// What is said to whoever joins.
    pub welcome: Arc<Welcome>,
    leader: mpsc::Sender<Input>,
    expected: Arc<Mutex<Expected>>,
    /// How long the record takes.
    pub record: Arc<RecordTimes>,
}

/// Session numbers given out by Join and not yet used.
#[derive(Debug, Default)]
struct Expected {
    last: u64,
    /// To whom, and under which name.
    waiting: BTreeMap<SessionId, (Caller, String)>,
}

impl Office {
    /// The way to a leader that listens there.
    pub fn of(welcome: Welcome, leader: mpsc::Sender<Input>, record: Arc<RecordTimes>) -> Self {
        Self { welcome: Arc::new(welcome), leader, expected: Arc::default(), record }
    }

    /// Puts a question to the leader.
    pub async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Run) -> T + Send + 'static) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        let inspection = Input::Inspect(Box::new(move |run| {
            answer.send(question(run)).ok();
        }));
        self.tell(inspection).await?;
        answered.await.map_err(|_| stopping())
    }

    async fn tell(&self, input: Input) -> Result<(), Status> {
        self.leader.send(input).await.map_err(|_| stopping())
    }

    /// How many have joined and not said hello.
    pub fn awaited(&self) -> usize {
        self.expected().waiting.len()
    }

    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session number for a worker that joined, and nobody else.
    pub fn next_session(&self, caller: Caller, name: String) -> SessionId {
        let mut expected = self.expected();
        expected.last += 1;
        let session = SessionId(expected.last);
        expected.waiting.insert(session, (caller, name));
        if expected.waiting.len() > EXPECTED {
            expected.waiting.pop_first();
        }
        session
    }

    /// Takes a session number off the list. It stays there for whom it was given to when another tries it.
    fn claim(&self, session: SessionId, caller: &Caller, name: &str) -> Result<(), Status> {
        let mut expected = self.expected();
        match expected.waiting.get(&session) {
            Some((given_to, known_as)) if given_to == caller && known_as == name => {
                expected.waiting.remove(&session);
                Ok(())
            }
            Some(_) => {
                tracing::warn!(session = session.0, name, "a session number was tried by another than it was given to");
                Err(Denied::Stolen { session: session.0 }.into())
            }
            None => {
                let why = format!("session {session} was not given out by this coordinator, or is in use; join again");
                Err(Status::failed_precondition(why))
            }
        }
    }

    /// Runs one session from its Hello to its end.
    pub async fn converse(
        self,
        caller: Caller,
        mut inbound: Streaming<WorkerMessage>,
        outbox: Outbox,
        ended: CancellationToken,
    ) {
        let hello = tokio::select! {
            () = ended.cancelled() => return,
            hello = self.hello(&caller, &mut inbound) => hello,
        };
        let session = match hello {
            Ok((session, hello)) => {
                if self.tell(Input::Opened(session, hello, outbox)).await.is_err() {
                    return;
                }
                session
            }
            Err(status) => return outbox.cut(status),
        };
        let last = tokio::select! {
            () = ended.cancelled() => Input::Left(session),
            flaw = self.listen(session, &mut inbound) => flaw.map_or(Input::Left(session), |f| Input::Broken(session, f)),
        };
        // A leader that is gone needs no word of it.
        self.tell(last).await.ok();
    }

    async fn hello(
        &self,
        caller: &Caller,
        inbound: &mut Streaming<WorkerMessage>,
    ) -> Result<(SessionId, Hello), Status> {
        let first = timeout(HELLO_WITHIN, inbound.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the session did not begin with a Hello in time"))?;
        let Some(WorkerMessage { body: Some(Body::Hello(hello)), .. }) = first.map_err(unreadable)? else {
            return Err(Status::invalid_argument("a session begins with a Hello"));
        };
        let session = SessionId(hello.session_id);
        self.claim(session, caller, &hello.name)?;
        let hello = Hello::try_from(&hello).map_err(|flaw| Status::invalid_argument(flaw.to_string()))?;
        Ok((session, hello))
    }

    /// Passes messages on until the stream ends; a malformed one ends it with a reason.
    async fn listen(&self, session: SessionId, inbound: &mut Streaming<WorkerMessage>) -> Option<Status> {
        loop {
            match inbound.message().await {
                Ok(Some(message)) => match message::input(session, message) {
                    Ok(input) => self.tell(input).await.ok()?,
                    Err(flaw) => return Some(Status::invalid_argument(flaw.to_string())),
                },
                Err(status) if matches!(status.code(), Code::Internal | Code::OutOfRange) => {
                    return Some(unreadable(status));
                }
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

/// Bytes that are no message: tonic calls that an error of its own, and whoever sent them would send them again.
fn unreadable(status: Status) -> Status {
    match status.code() {
        Code::Internal => Status::invalid_argument(format!("a message cannot be read: {}", status.message())),
        _ => status,
    }
}

fn stopping() -> Status {
    Status::unavailable("the coordinator is stopping")
}
