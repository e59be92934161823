//! The rendezvous store of a generation, served by the coordinator over the session (HANDS).
//!
//! `c10d` calls block, on the trainer and on libtorch's own threads; the session answers them from the stream. When the
//! session breaks every waiter is answered with an error: none is left hanging.

use std::{
    collections::BTreeMap,
    sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    time::Duration,
};

use esta_c10d::{Store, StoreError};
use esta_proto::{
    Fence,
    v1::{self, store_reply::Result as Answer, store_request::Op},
};
use tokio::sync::mpsc::UnboundedSender;

/// A call of the store on its way to the session.
pub struct StoreCall {
    /// Whose keys it means: those of a generation, under the leader that serves them.
    pub fence: Fence,
    /// What is asked.
    pub op: Op,
    /// Where the answer goes.
    pub answer: SyncSender<Result<Answer, StoreError>>,
}

/// The store of one generation.
pub struct SessionStore {
    fence: Fence,
    calls: UnboundedSender<StoreCall>,
    patience: Duration,
    /// What its keys begin with.
    prefix: String,
}

impl SessionStore {
    /// The store of a generation behind a session; calls without a time-out of their own wait this long.
    #[must_use]
    pub fn new(fence: Fence, calls: UnboundedSender<StoreCall>, patience: Duration) -> Self {
        Self { fence, calls, patience, prefix: String::new() }
    }

    /// The store of one of several groups of the generation: nobody else's keys are met there.
    #[must_use]
    pub fn under(self, name: &str) -> Self {
        Self { prefix: format!("{name}/"), ..self }
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn keys(&self, keys: &[String]) -> v1::StoreWait {
        v1::StoreWait { keys: keys.iter().map(|key| self.key(key)).collect() }
    }

    fn call(&self, op: Op, timeout: Duration) -> Result<Answer, StoreError> {
        let (answer, reply) = sync_channel(1);
        let key = key_of(&op);
        let call = StoreCall { fence: self.fence, op, answer };
        self.calls.send(call).map_err(|_| StoreError::Failed("the session has ended".to_owned()))?;
        match reply.recv_timeout(timeout) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => Err(StoreError::TimedOut { key, waited: timeout }),
            Err(RecvTimeoutError::Disconnected) => Err(StoreError::Failed("the session has ended".to_owned())),
        }
    }
}

fn key_of(op: &Op) -> String {
    match op {
        Op::Get(key) | Op::Delete(key) => key.clone(),
        Op::Wait(wait) | Op::Check(wait) => wait.keys.first().cloned().unwrap_or_default(),
        Op::Set(set) => set.key.clone(),
        Op::Add(add) => add.key.clone(),
        Op::CompareSet(set) => set.key.clone(),
    }
}

fn unexpected(answer: &Answer) -> StoreError {
    StoreError::Failed(format!("the coordinator answered with {answer:?}, which fits no such call"))
}

fn value(answer: Answer) -> Result<Vec<u8>, StoreError> {
    match answer {
        Answer::Value(value) => Ok(value),
        other => Err(unexpected(&other)),
    }
}

fn flag(answer: Answer) -> Result<bool, StoreError> {
    match answer {
        Answer::Flag(flag) => Ok(flag),
        other => Err(unexpected(&other)),
    }
}

impl Store for SessionStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let op = Op::Set(v1::StoreSet { key: self.key(key), value: value.to_vec() });
        self.call(op, self.patience).and_then(flag).map(drop)
    }

    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, StoreError> {
        self.call(Op::Get(self.key(key)), timeout).and_then(value)
    }

    fn add(&self, key: &str, amount: i64) -> Result<i64, StoreError> {
        match self.call(Op::Add(v1::StoreAdd { key: self.key(key), amount }), self.patience)? {
            Answer::Number(number) => Ok(number),
            other => Err(unexpected(&other)),
        }
    }

    fn wait(&self, keys: &[String], timeout: Duration) -> Result<(), StoreError> {
        self.call(Op::Wait(self.keys(keys)), timeout).and_then(flag).map(drop)
    }

    fn check(&self, keys: &[String]) -> Result<bool, StoreError> {
        self.call(Op::Check(self.keys(keys)), self.patience).and_then(flag)
    }

    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>, StoreError> {
        let (expected, desired) = (expected.to_vec(), desired.to_vec());
        let op = Op::CompareSet(v1::StoreCompareSet { key: self.key(key), expected, desired });
        self.call(op, self.patience).and_then(value)
    }

    fn delete(&self, key: &str) -> Result<bool, StoreError> {
        self.call(Op::Delete(self.key(key)), self.patience).and_then(flag)
    }
}

/// Calls on the wire, by the id of their request.
#[derive(Default)]
pub struct Outstanding {
    next: u64,
    waiting: BTreeMap<u64, SyncSender<Result<Answer, StoreError>>>,
}

impl Outstanding {
    /// Gives a call its id and remembers who waits.
    pub fn begin(&mut self, call: StoreCall) -> v1::StoreRequest {
        self.next += 1;
        self.waiting.insert(self.next, call.answer);
        v1::StoreRequest { id: self.next, op: Some(call.op) }
    }

    /// Hands an answer to whoever waits for it.
    pub fn finish(&mut self, reply: v1::StoreReply) {
        let Some(waiter) = self.waiting.remove(&reply.id) else { return };
        let answer = match reply.result {
            Some(Answer::Error(reason)) => Err(StoreError::Failed(reason)),
            Some(answer) => Ok(answer),
            None => Err(StoreError::Failed("the coordinator's answer is empty".to_owned())),
        };
        // A waiter that gave up has dropped its end.
        drop(waiter.try_send(answer));
    }

    /// Answers everybody: the session broke.
    pub fn fail_all(&mut self) {
        for (_, waiter) in std::mem::take(&mut self.waiting) {
            drop(waiter.try_send(Err(StoreError::Failed("the session with the coordinator broke".to_owned()))));
        }
    }
}
