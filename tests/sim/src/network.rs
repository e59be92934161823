//! Connections, as HTTP/2 over TCP makes them.
//!
//! A session is one stream: what is said on it arrives in order, each word once, up to some word and none after that. So
//! nothing is doubled or overtaken there, whatever it is. What can happen is this:
//!
//! - Every word takes a time of its own, and the way to a worker may be slow for so long that an end gives up waiting.
//! - A stream ends at each end by itself: one end is told, the other finds out by its keepalive. Until it does, it speaks
//!   to nobody.
//! - What was under way when a stream ended is lost, or comes before the end is heard of. So words of an old session reach
//!   a coordinator after its worker has another one, or has died, and words of a coordinator reach a worker that it holds
//!   for lost. A worker listens to its newest stream alone.
//! - `Join` is a call of its own. Whoever gets no answer in time asks again, and the first question may still arrive, or be
//!   answered. The session number that counts is the last one given out to a name; a hello under another is refused.
//! - What is said twice is said by the laws: a hello to every leader and on every stream, reports in hellos and when a
//!   group forms.

use std::{collections::BTreeMap, time::Duration};

use esta_proto::SessionId;

/// One process of one machine: its place and which life it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Which machine.
    pub index: usize,
    /// Grows with every process started there.
    pub life: u64,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the coordinator.
    Up,
    /// To the worker.
    Down,
}

/// A session's connection.
#[derive(Debug, Clone)]
pub struct Line {
    /// The worker's end.
    pub worker: Process,
    /// The coordinator's end.
    pub coordinator: Process,
    /// What the coordinator calls it.
    pub session: SessionId,
    /// By the way that leads there.
    lanes: [Lane; 2],
}

/// One of a connection's two ways.
#[derive(Debug, Clone, Copy)]
struct Lane {
    /// What is sent is put under way.
    carries: bool,
    /// What is under way arrives.
    delivers: bool,
    /// When the last of it does: order is kept.
    arrives: Duration,
}

impl Line {
    /// What is sent either way arrives, and all that was sent before does until then.
    pub fn is_well(&self, until: Duration) -> bool {
        self.lanes.iter().all(|lane| lane.carries && lane.arrives <= until)
    }

    fn lane(&mut self, way: Way) -> &mut Lane {
        &mut self.lanes[usize::from(way == Way::Down)]
    }
}

/// All connections that ever were, by number.
#[derive(Debug, Default)]
pub struct Network {
    lines: BTreeMap<u64, Line>,
    opened: u64,
}

impl Network {
    /// Opens a connection.
    pub fn open(&mut self, worker: Process, coordinator: Process, session: SessionId) -> u64 {
        self.opened += 1;
        let lane = Lane { carries: true, delivers: true, arrives: Duration::ZERO };
        self.lines.insert(self.opened, Line { worker, coordinator, session, lanes: [lane; 2] });
        self.opened
    }

    /// A connection.
    pub fn line(&self, id: u64) -> Option<&Line> {
        self.lines.get(&id)
    }

    /// When a message sent now arrives, if it does; `None` when it does not even leave.
    pub fn send(&mut self, id: u64, way: Way, now: Duration, delay: Duration) -> Option<Duration> {
        let lane = self.lines.get_mut(&id)?.lane(way);
        lane.carries.then(|| {
            lane.arrives = lane.arrives.max(now + delay);
            lane.arrives
        })
    }

    /// Whether what arrives now was not lost on the way.
    pub fn delivers(&self, id: u64, way: Way) -> bool {
        self.lines.get(&id).is_some_and(|line| line.lanes[usize::from(way == Way::Down)].delivers)
    }

    /// Nothing more is put under way to an end. When that end may hear so, which what is under way reaches first.
    pub fn stop(&mut self, id: u64, way: Way) -> Duration {
        let Some(line) = self.lines.get_mut(&id) else { return Duration::ZERO };
        let lane = line.lane(way);
        lane.carries = false;
        if lane.delivers { lane.arrives } else { Duration::ZERO }
    }

    /// What is under way to an end is lost, and the connection with it.
    pub fn lose(&mut self, id: u64, way: Way) {
        if let Some(line) = self.lines.get_mut(&id) {
            let lane = line.lane(way);
            (lane.carries, lane.delivers) = (false, false);
        }
    }

    /// Connections that carry something and that one of these ends holds.
    pub fn of(&self, holds: impl Fn(&Line) -> bool) -> Vec<u64> {
        let open = |line: &Line| line.lanes.iter().any(|lane| lane.carries);
        self.lines.iter().filter(|(_, line)| open(line) && holds(line)).map(|(id, _)| *id).collect()
    }
}
