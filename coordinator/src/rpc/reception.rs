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
    time::{Instant, timeout},
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

/// Whoever has not said hello for this long is gone: no anchors take a day to load.
const SET_UP_WITHIN: Duration = Duration::from_secs(24 * 3600);

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
pub(super) struct Reception {
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
    waiting: BTreeMap<SessionId, Awaited>,
    /// The last number given to each.
    numbers: BTreeMap<Applicant, SessionId>,
}

/// Who a session number was given to.
#[derive(Debug)]
struct Awaited {
    caller: Caller,
    name: String,
    since: Instant,
}

/// Whoever joins again under the same name, and nobody else: name, certificate and whom the token names.
type Applicant = (String, Option<Digest>, Option<String>);

impl Reception {
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
        let mut expected = self.expected();
        expected.forget();
        expected.waiting.len()
    }

    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session number for a worker that joined, and nobody else. One that it was given before and has not used is forgotten.
    pub fn next_session(&self, caller: Caller, name: String) -> SessionId {
        self.expected().give(caller, name)
    }

    /// Takes a session number off the list. It stays there for whom it was given to when another tries it.
    fn claim(&self, session: SessionId, caller: &Caller, name: &str) -> Result<(), Status> {
        let mut expected = self.expected();
        match expected.waiting.get(&session) {
            Some(awaited) if awaited.caller == *caller && awaited.name == name => {
                expected.remove(session);
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

impl Expected {
    fn give(&mut self, caller: Caller, name: String) -> SessionId {
        self.last += 1;
        let session = SessionId(self.last);
        let awaited = Awaited { caller, name, since: Instant::now() };
        if let Some(before) = self.numbers.insert(awaited.applicant(), session) {
            self.waiting.remove(&before);
        }
        self.waiting.insert(session, awaited);
        self.forget();
        session
    }

    /// Forgets those who are not expected any more; numbers ascend with time.
    fn forget(&mut self) {
        while let Some((session, oldest)) = self.waiting.first_key_value()
            && (self.waiting.len() > EXPECTED || oldest.since.elapsed() > SET_UP_WITHIN)
        {
            self.remove(*session);
        }
    }

    fn remove(&mut self, session: SessionId) {
        if let Some(awaited) = self.waiting.remove(&session) {
            self.numbers.remove(&awaited.applicant());
        }
    }
}

impl Awaited {
    fn applicant(&self) -> Applicant {
        let subject = self.caller.identity.as_ref().map(|identity| identity.subject.clone());
        (self.name.clone(), self.caller.certificate, subject)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::{Identity, Role};

    fn reception() -> Reception {
        let welcome = Welcome {
            run_id: "r".to_owned(),
            epoch: LeaderEpoch(1),
            spec_json: "{}".to_owned(),
            spec_digest: Digest([0; 32]),
            slots: 1,
        };
        Reception::of(welcome, mpsc::channel(1).0, Arc::default())
    }

    fn caller(subject: &str) -> Caller {
        let identity = Identity { subject: subject.to_owned(), name: None, role: Role::Worker };
        Caller { certificate: None, identity: Some(identity) }
    }

    #[test]
    fn who_joins_again_is_expected_once_under_its_last_number() {
        let reception = reception();
        let join = |subject, name: &str| reception.next_session(caller(subject), name.to_owned());
        let first = join("a", "gpu-0");
        let last = (0..1000).fold(first, |_, _| join("a", "gpu-0"));
        assert_eq!((reception.awaited(), join("a", "gpu-1")), (1, SessionId(last.0 + 1)));
        let stranger = join("b", "gpu-0");
        assert_eq!(reception.awaited(), 3, "nobody takes another's number");
        let refused = reception.claim(first, &caller("a"), "gpu-0").expect_err("it was replaced");
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(reception.claim(last, &caller("b"), "gpu-0").is_err());
        reception.claim(last, &caller("a"), "gpu-0").expect("it is its own");
        reception.claim(stranger, &caller("b"), "gpu-0").expect("it is its own");
        assert_eq!((reception.awaited(), reception.expected().numbers.len()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_says_hello_is_forgotten_in_the_end() {
        let reception = reception();
        reception.next_session(caller("a"), "gpu-0".to_owned());
        tokio::time::advance(SET_UP_WITHIN).await;
        let late = reception.next_session(caller("a"), "gpu-1".to_owned());
        assert_eq!(reception.awaited(), 2);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((reception.awaited(), reception.expected().numbers.len()), (1, 1));
        reception.claim(late, &caller("a"), "gpu-1").expect("it was given out a second ago");
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let reception = reception();
        for n in 0..EXPECTED + 5 {
            reception.next_session(Caller::default(), n.to_string());
        }
        assert_eq!((reception.awaited(), reception.expected().numbers.len()), (EXPECTED, EXPECTED));
    }
}
