//! A coordinator process: stands by, or leads as `esta-coordinator` does.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use esta_engine::run::{Event, Record, Run};
use esta_proto::{Fence, LeaderEpoch, SessionId};

use crate::{clock::OwnClock, network::Process};

/// A machine that runs a coordinator.
#[derive(Debug)]
pub struct Coordinator {
    /// The process of the moment.
    pub process: Process,
    /// Whether it runs.
    pub alive: bool,
    /// It is stopped until then.
    pub paused_until: Duration,
    /// Its way to the store.
    pub store: StoreWay,
    /// What it takes for the time.
    pub clock: OwnClock,
    /// It leads, or believes it does.
    pub office: Option<Office>,
}

/// A coordinator's way to the store.
#[derive(Debug, Default)]
pub struct StoreWay {
    /// Nothing passes either way until then.
    pub cut_until: Duration,
    /// Answers are lost until then.
    pub mute_until: Duration,
    /// Questions take long until then.
    pub slow_until: Duration,
}

/// Records on their way to the store: one transaction after another, each sent until it is answered.
#[derive(Debug, Default)]
pub struct Pen {
    /// Transactions that the record has.
    pub written: u64,
    /// Those to be written, the first of them under way.
    pub queue: VecDeque<Vec<Record>>,
    /// How often that was sent.
    pub attempt: u32,
    /// What is written of the same group: the law hears of the whole.
    pub done: Vec<Record>,
}

/// A term of office.
#[derive(Debug)]
pub struct Office {
    /// The law.
    pub run: Run,
    /// The term.
    pub epoch: LeaderEpoch,
    /// Of what is sent.
    pub fence: Fence,
    /// When it began, by the coordinator's own clock: the law's clock.
    pub since: Duration,
    /// When the lease was renewed last, by the coordinator's own clock; none where it needs no lease.
    pub renewed: Option<Duration>,
    /// Its clock has not run slow since then.
    pub sound: bool,
    /// Connections by session.
    pub sessions: BTreeMap<SessionId, u64>,
    /// Sessions given out.
    pub given_out: u64,
    /// The last one that was given to each name, if no hello came under it.
    pub expected: BTreeMap<String, SessionId>,
    /// What the law has yet to hear.
    pub events: VecDeque<Event>,
    /// Records that wait while others are written.
    pub pending: Vec<Record>,
    /// Records that are being written.
    pub pen: Pen,
    /// When the law wants to be ticked.
    pub tick: Option<Duration>,
    /// The deadline that was ticked last: it is not ticked twice.
    pub ticked: Option<Duration>,
}

impl Office {
    /// Begins a term at `since`.
    pub fn new(run: Run, epoch: LeaderEpoch, since: Duration, renewed: Option<Duration>, written: u64) -> Self {
        Self {
            fence: run.fence(),
            run,
            epoch,
            since,
            renewed,
            sound: true,
            sessions: BTreeMap::new(),
            given_out: 0,
            expected: BTreeMap::new(),
            events: VecDeque::new(),
            pending: Vec::new(),
            pen: Pen { written, ..Pen::default() },
            tick: None,
            ticked: None,
        }
    }
}
