//! The rendezvous stores of process groups (HANDS): keys by which the ranks of a group find each other. Pure: a request
//! in, replies out.
//!
//! The semantics are c10d's: a counter is kept as decimal text, `get` and `wait` are answered when the keys appear. A store
//! lives as long as its generation (MB-1), and begins before it where its group is built on the side; whoever still waits
//! when it ends hears so.
//!
//! What a store holds is bounded by who uses it: no rank's mistake takes the leader's memory, and a key costs those who wait
//! for it and nobody else.

use std::collections::{BTreeMap, BTreeSet};

use esta_proto::{
    Fence, SessionId,
    v1::{StoreReply, StoreRequest, store_reply::Result as Answer, store_request::Op},
};

/// A reply and whom it is for.
pub type Reply = (SessionId, StoreReply);

/// The stores of the current generation and of the one to come.
#[derive(Debug, Default)]
pub struct Rendezvous {
    current: Store,
    coming: Option<Store>,
}

/// Keys that a store has room for, for each session that uses it: a rank of a mesh keeps one for each peer at most, and waits for as
/// many.
const KEYS: usize = 1 << 13;

/// Bytes of keys and values in the same way: Gloo's rank keeps some 140 for each peer.
const BYTES: usize = 4 << 20;

/// Keys of one generation and those who wait for some.
#[derive(Debug, Default)]
struct Store {
    fence: Fence,
    keys: BTreeMap<String, Vec<u8>>,
    waiters: BTreeMap<u64, Waiter>,
    /// By key that is not there: the numbers of those who wait for it.
    awaited: BTreeMap<String, Vec<u64>>,
    /// The number of the last waiter.
    last: u64,
    /// Who has asked for something and has not left.
    sessions: BTreeSet<SessionId>,
    held: Load,
}

/// What keys and those who wait for them take.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    keys: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Waiter {
    session: SessionId,
    id: u64,
    /// How many of its keys.
    missing: usize,
    wish: Wish,
}

/// What a waiter is told when its keys are there.
#[derive(Debug, Clone)]
enum Wish {
    Value(String),
    Presence,
}

impl Rendezvous {
    /// Begins the store of a generation to come, beside the current one's; whoever waits in another such is told.
    pub fn prepare(&mut self, fence: Fence) -> Vec<Reply> {
        let replies = self.forgo();
        self.coming = Some(Store::of(fence));
        replies
    }

    /// Ends the store of the generation to come.
    pub fn forgo(&mut self) -> Vec<Reply> {
        self.coming.take().map(|mut store| store.close()).unwrap_or_default()
    }

    /// Begins the store of a generation with what was prepared for it, or with no keys; whoever waits in an earlier one is
    /// told.
    pub fn open(&mut self, fence: Fence) -> Vec<Reply> {
        let mut replies = self.close();
        let prepared = self.coming.take_if(|coming| coming.fence == fence);
        replies.extend(self.forgo());
        self.current = prepared.unwrap_or_else(|| Store::of(fence));
        replies
    }

    /// Ends the current generation's store: drops its keys and answers whoever waits with an error.
    pub fn close(&mut self) -> Vec<Reply> {
        self.current.close()
    }

    /// Forgets what a session waits for.
    pub fn left(&mut self, session: SessionId) {
        for store in std::iter::once(&mut self.current).chain(&mut self.coming) {
            store.left(session);
        }
    }

    /// Carries out a request that a session made under a fence; answers it and every waiter it satisfies.
    pub fn request(&mut self, session: SessionId, fence: Fence, request: StoreRequest) -> Vec<Reply> {
        match &mut self.coming {
            Some(coming) if coming.fence == fence => coming.request(session, request),
            _ if self.current.fence == fence => self.current.request(session, request),
            _ => {
                let why = format!("asked under the fence {fence}, but the current one is {}", self.current.fence);
                vec![(session, failure(request.id, why))]
            }
        }
    }
}

impl Store {
    fn of(fence: Fence) -> Self {
        Self { fence, ..Self::default() }
    }

    fn close(&mut self) -> Vec<Reply> {
        let Self { fence, waiters, .. } = std::mem::replace(self, Self::of(self.fence));
        let over = format!("generation {} is over", fence.generation);
        waiters.into_values().map(|waiter| (waiter.session, failure(waiter.id, over.clone()))).collect()
    }

    fn left(&mut self, session: SessionId) {
        if !self.sessions.remove(&session) {
            return;
        }
        let theirs = self.waiters.iter().filter(|(_, waiter)| waiter.session == session);
        let gone: BTreeSet<u64> = theirs.map(|(number, _)| *number).collect();
        self.waiters.retain(|number, _| !gone.contains(number));
        if !gone.is_empty() {
            for (key, waiting) in &mut self.awaited {
                let before = waiting.len();
                waiting.retain(|number| !gone.contains(number));
                let keys = before - waiting.len();
                self.held = self.held.without(Load { keys, bytes: keys * key.len() });
            }
            self.awaited.retain(|_, waiting| !waiting.is_empty());
        }
    }

    fn request(&mut self, session: SessionId, request: StoreRequest) -> Vec<Reply> {
        let id = request.id;
        self.sessions.insert(session);
        let done = |answer| vec![(session, StoreReply { id, result: Some(answer) })];
        match request.op {
            Some(Op::Set(set)) => self.put((session, id), set.key, set.value, Answer::Flag(true)),
            Some(Op::Add(add)) => match self.sum(&add.key, add.amount) {
                Ok(sum) => self.put((session, id), add.key, sum.to_string().into_bytes(), Answer::Number(sum)),
                Err(why) => done(Answer::Error(why)),
            },
            Some(Op::CompareSet(swap)) => match self.keys.get(&swap.key) {
                Some(current) if *current != swap.expected => done(Answer::Value(current.clone())),
                None if !swap.expected.is_empty() => done(Answer::Value(swap.expected)),
                _ => self.put((session, id), swap.key, swap.desired.clone(), Answer::Value(swap.desired)),
            },
            Some(Op::Delete(key)) => done(Answer::Flag(self.remove(&key))),
            Some(Op::Check(check)) => done(Answer::Flag(check.keys.iter().all(|key| self.keys.contains_key(key)))),
            Some(Op::Get(key)) => self.wait((session, id), vec![key.clone()], Wish::Value(key)),
            Some(Op::Wait(wait)) => self.wait((session, id), wait.keys, Wish::Presence),
            None => done(Answer::Error("the request names no operation".into())),
        }
    }

    fn wait(&mut self, (session, id): (SessionId, u64), keys: Vec<String>, wish: Wish) -> Vec<Reply> {
        let missing: BTreeSet<String> = keys.into_iter().filter(|key| !self.keys.contains_key(key)).collect();
        let waiter = Waiter { session, id, missing: missing.len(), wish };
        if missing.is_empty() {
            return vec![self.satisfied(&waiter)];
        }
        let come = Load { keys: missing.len(), bytes: missing.iter().map(String::len).sum() };
        if let Err(full) = self.exchange(Load::default(), come) {
            return vec![(session, failure(id, full))];
        }
        self.last += 1;
        self.waiters.insert(self.last, waiter);
        for key in missing {
            self.awaited.entry(key).or_default().push(self.last);
        }
        Vec::new()
    }

    /// Keeps a value; answers who brought it, and whoever waited for nothing else.
    fn put(&mut self, (session, id): (SessionId, u64), key: String, value: Vec<u8>, answer: Answer) -> Vec<Reply> {
        let wishes = self.awaited.get(&key).map_or(0, Vec::len);
        let before = self.keys.get(&key).map(|value| Load { keys: 1, bytes: key.len() + value.len() });
        let Load { keys, bytes } = before.unwrap_or_default();
        let gone = Load { keys: keys + wishes, bytes: bytes + wishes * key.len() };
        if let Err(full) = self.exchange(gone, Load { keys: 1, bytes: key.len() + value.len() }) {
            return vec![(session, failure(id, full))];
        }
        let waiting = self.awaited.remove(&key).unwrap_or_default();
        self.keys.insert(key, value);
        let ready: Vec<Waiter> = waiting.into_iter().filter_map(|number| self.one_less(number)).collect();
        let mut replies = vec![(session, StoreReply { id, result: Some(answer) })];
        replies.extend(ready.iter().map(|waiter| self.satisfied(waiter)));
        replies
    }

    /// One of a waiter's keys is there; the waiter if that was the last.
    fn one_less(&mut self, number: u64) -> Option<Waiter> {
        let waiter = self.waiters.get_mut(&number)?;
        waiter.missing -= 1;
        if waiter.missing == 0 { self.waiters.remove(&number) } else { None }
    }

    /// Drops a key; whether there was one.
    fn remove(&mut self, key: &str) -> bool {
        let value = self.keys.remove(key);
        if let Some(value) = &value {
            self.held = self.held.without(Load { keys: 1, bytes: key.len() + value.len() });
        }
        value.is_some()
    }

    /// Gives some room back and takes some, if there is so much.
    fn exchange(&mut self, gone: Load, come: Load) -> Result<(), String> {
        let rest = self.held.without(gone);
        let held = Load { keys: rest.keys + come.keys, bytes: rest.bytes + come.bytes };
        let sessions = self.sessions.len();
        if held.keys > KEYS * sessions || held.bytes > BYTES * sessions {
            return Err(format!(
                "the store of generation {} is full: it has room for {KEYS} keys and {BYTES} bytes for each of {sessions} sessions",
                self.fence.generation
            ));
        }
        self.held = held;
        Ok(())
    }

    fn satisfied(&self, waiter: &Waiter) -> Reply {
        let answer = match &waiter.wish {
            Wish::Value(key) => Answer::Value(self.keys.get(key).cloned().unwrap_or_default()),
            Wish::Presence => Answer::Flag(true),
        };
        (waiter.session, StoreReply { id: waiter.id, result: Some(answer) })
    }

    fn sum(&self, key: &str, amount: i64) -> Result<i64, String> {
        let Some(value) = self.keys.get(key) else { return Ok(amount) };
        let current = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
        let sum = current.and_then(|current| current.checked_add(amount));
        sum.ok_or_else(|| format!("{key:?} is not a counter that {amount} can be added to"))
    }
}

impl Load {
    fn without(self, gone: Self) -> Self {
        Self { keys: self.keys - gone.keys, bytes: self.bytes - gone.bytes }
    }
}

fn failure(id: u64, why: String) -> StoreReply {
    StoreReply { id, result: Some(Answer::Error(why)) }
}

#[cfg(test)]
mod tests {
    use esta_proto::{
        Generation, LeaderEpoch,
        v1::{StoreAdd, StoreCompareSet, StoreSet, StoreWait},
    };

    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);
    const G: Fence = Fence { epoch: LeaderEpoch(1), generation: Generation(5) };
    const NEXT: Fence = Fence { epoch: LeaderEpoch(1), generation: Generation(6) };

    fn open() -> Rendezvous {
        let mut store = Rendezvous::default();
        assert_eq!(store.open(G), []);
        store
    }

    fn request(id: u64, op: Op) -> StoreRequest {
        StoreRequest { id, op: Some(op) }
    }

    fn set(key: &str, value: &[u8]) -> Op {
        Op::Set(StoreSet { key: key.into(), value: value.into() })
    }

    fn add(key: &str, amount: i64) -> Op {
        Op::Add(StoreAdd { key: key.into(), amount })
    }

    fn wait(keys: &[&str]) -> StoreWait {
        StoreWait { keys: keys.iter().map(|key| (*key).to_owned()).collect() }
    }

    fn answer(id: u64, answer: Answer) -> StoreReply {
        StoreReply { id, result: Some(answer) }
    }

    #[test]
    fn a_get_is_answered_when_the_key_appears() {
        let mut store = open();
        assert_eq!(store.request(B, G, request(1, Op::Get("k".into()))), []);
        let replies = store.request(A, G, request(7, set("k", b"v")));
        assert_eq!(replies, [(A, answer(7, Answer::Flag(true))), (B, answer(1, Answer::Value(b"v".to_vec())))]);
        let replies = store.request(B, G, request(2, Op::Get("k".into())));
        assert_eq!(replies, [(B, answer(2, Answer::Value(b"v".to_vec())))]);
    }

    #[test]
    fn a_wait_needs_all_its_keys() {
        let mut store = open();
        assert_eq!(store.request(B, G, request(1, Op::Wait(wait(&["x", "y"])))), []);
        assert_eq!(store.request(A, G, request(2, set("x", b""))).len(), 1);
        let replies = store.request(A, G, request(3, set("y", b"")));
        assert_eq!(replies[1], (B, answer(1, Answer::Flag(true))));
        assert_eq!(
            store.request(B, G, request(4, Op::Check(wait(&["x", "z"])))),
            [(B, answer(4, Answer::Flag(false)))]
        );
    }

    #[test]
    fn counters_are_decimal_text() {
        let mut store = open();
        assert_eq!(store.request(A, G, request(1, add("n", 3))), [(A, answer(1, Answer::Number(3)))]);
        assert_eq!(store.request(B, G, request(2, add("n", -1))), [(B, answer(2, Answer::Number(2)))]);
        let replies = store.request(B, G, request(3, Op::Get("n".into())));
        assert_eq!(replies, [(B, answer(3, Answer::Value(b"2".to_vec())))]);
        store.request(A, G, request(4, set("word", b"many")));
        let replies = store.request(A, G, request(5, add("word", 1)));
        assert!(matches!(&replies[0].1.result, Some(Answer::Error(why)) if why.contains("not a counter")));
    }

    #[test]
    fn compare_set_answers_the_value_afterwards_as_c10d_does() {
        let mut store = open();
        let mut swap = |expected: &[u8], desired: &[u8]| {
            let op = StoreCompareSet { key: "k".into(), expected: expected.into(), desired: desired.into() };
            store.request(A, G, request(0, Op::CompareSet(op)))[0].1.result.clone()
        };
        assert_eq!(swap(b"old", b"new"), Some(Answer::Value(b"old".to_vec())), "unset stays unset");
        assert_eq!(swap(b"", b"first"), Some(Answer::Value(b"first".to_vec())));
        assert_eq!(swap(b"other", b"second"), Some(Answer::Value(b"first".to_vec())));
        assert_eq!(swap(b"first", b"second"), Some(Answer::Value(b"second".to_vec())));
    }

    #[test]
    fn delete_says_whether_there_was_a_key() {
        let mut store = open();
        store.request(A, G, request(1, set("k", b"v")));
        let mut delete = || store.request(A, G, request(2, Op::Delete("k".into())))[0].1.result.clone();
        assert_eq!((delete(), delete()), (Some(Answer::Flag(true)), Some(Answer::Flag(false))));
    }

    #[test]
    fn mb_1_a_newer_generation_starts_empty_and_frees_those_who_wait_in_the_old_one() {
        let mut store = open();
        store.request(A, G, request(1, set("k", b"v")));
        store.request(B, G, request(2, Op::Get("never".into())));
        assert_eq!(store.open(NEXT), [(B, failure(2, "generation 5 is over".into()))]);
        assert_eq!(store.request(A, NEXT, request(3, Op::Get("k".into()))), []);
        let why = "asked under the fence (epoch 1, generation 5), but the current one is (epoch 1, generation 6)";
        let late = store.request(A, G, request(4, set("k", b"v")));
        assert_eq!(late, [(A, failure(4, why.into()))]);
    }

    #[test]
    fn the_store_of_a_generation_to_come_stands_beside_the_current_one_and_becomes_it() {
        let mut store = open();
        assert_eq!(store.prepare(NEXT), []);
        store.request(A, G, request(1, set("k", b"old")));
        store.request(A, NEXT, request(2, set("k", b"new")));
        assert_eq!(store.request(B, G, request(3, Op::Get("never".into()))), []);
        assert_eq!(store.close(), [(B, failure(3, "generation 5 is over".into()))]);
        assert_eq!(store.open(NEXT), []);
        let kept = store.request(B, NEXT, request(4, Op::Get("k".into())));
        assert_eq!(kept, [(B, answer(4, Answer::Value(b"new".to_vec())))]);
    }

    #[test]
    fn whoever_waits_for_a_generation_that_will_not_come_is_told() {
        let mut store = open();
        store.prepare(NEXT);
        store.request(B, NEXT, request(1, Op::Get("never".into())));
        let over = [(B, failure(1, "generation 6 is over".into()))];
        assert_eq!(store.forgo(), over);
        store.prepare(NEXT);
        store.request(B, NEXT, request(1, Op::Get("never".into())));
        let other = Fence { generation: Generation(7), ..NEXT };
        assert_eq!(store.open(other), over, "another generation came instead");
        store.prepare(NEXT);
        store.request(B, NEXT, request(1, Op::Get("never".into())));
        store.left(B);
        assert_eq!(store.forgo(), []);
    }

    #[test]
    fn a_session_that_left_waits_for_nothing() {
        let mut store = open();
        store.request(B, G, request(1, Op::Get("k".into())));
        store.left(B);
        assert_eq!(store.request(A, G, request(2, set("k", b"v"))).len(), 1);
    }

    /// Whether a request was refused for want of room.
    fn is_full(replies: &[Reply]) -> bool {
        let full = |answer: &Answer| matches!(answer, Answer::Error(why) if why.starts_with("the store of generation 5 is full"));
        replies.iter().any(|(_, reply)| reply.result.as_ref().is_some_and(full))
    }

    #[test]
    fn keys_and_bytes_are_bounded_by_who_uses_them_and_room_is_given_back() {
        let mut store = open();
        let full =
            (0..).find(|n| is_full(&store.request(A, G, request(0, set(&n.to_string(), b"v"))))).expect("bounded");
        assert_eq!(full, KEYS);
        assert!(!is_full(&store.request(A, G, request(0, set("0", b"another")))), "no more keys than before");
        assert!(!is_full(&store.request(B, G, request(0, set("b", b"")))), "who comes brings room");
        store.open(NEXT);
        store.open(G);
        let large = vec![0; BYTES / 4];
        let full =
            (0..9).find(|n| is_full(&store.request(A, G, request(0, set(&n.to_string(), &large))))).expect("bounded");
        assert_eq!(full, 3, "the keys take some as well");
        store.request(A, G, request(0, Op::Delete("0".into())));
        assert!(!is_full(&store.request(A, G, request(0, set("3", &large)))));
    }

    #[test]
    fn what_is_waited_for_takes_room_until_it_is_there_or_nobody_waits() {
        let mut store = open();
        let keys: Vec<String> = (0..KEYS).map(|n| n.to_string()).collect();
        let all: Vec<&str> = keys.iter().map(String::as_str).collect();
        let wishes = || Op::Wait(wait(&all));
        assert_eq!(store.request(A, G, request(1, wishes())), []);
        assert!(is_full(&store.request(A, G, request(2, Op::Get("more".into())))));
        // A wish is replaced by its key.
        assert_eq!(store.request(A, G, request(3, set("0", b""))).len(), 1);
        assert!(is_full(&store.request(A, G, request(4, Op::Get("more".into())))));
        assert_eq!(store.request(B, G, request(5, Op::Get("more".into()))), [], "who comes brings room");
        store.left(A);
        assert_eq!((store.current.awaited.len(), store.current.held.keys), (1, 2));
        store.left(B);
        assert_eq!((store.current.waiters.len(), store.current.awaited.len()), (0, 0));
        assert_eq!((store.current.held.keys, store.current.held.bytes), (1, 1), "the key that is there");
    }

    #[test]
    fn a_request_without_an_operation_is_an_error() {
        let replies = open().request(A, G, StoreRequest { id: 3, op: None });
        assert_eq!(replies, [(A, failure(3, "the request names no operation".into()))]);
    }
}
