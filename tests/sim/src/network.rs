//! Connections: ordered, delayed, and gone in two ways: reset, which both ends hear of, or cut, which nobody does.

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

/// A session's connection.
#[derive(Debug, Clone)]
pub struct Line {
    /// The worker's end.
    pub worker: Process,
    /// The coordinator's end.
    pub coordinator: Process,
    /// What the coordinator calls it.
    pub session: SessionId,
    /// What is sent arrives.
    pub carries: bool,
    /// When the last message arrives, towards the coordinator and towards the worker: order is kept.
    arrives: [Duration; 2],
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the coordinator.
    Up,
    /// To the worker.
    Down,
}

/// All connections by number.
#[derive(Debug, Default)]
pub struct Network {
    lines: BTreeMap<u64, Line>,
    opened: u64,
}

impl Network {
    /// Opens a connection.
    pub fn open(&mut self, worker: Process, coordinator: Process, session: SessionId) -> u64 {
        self.opened += 1;
        let line = Line { worker, coordinator, session, carries: true, arrives: [Duration::ZERO; 2] };
        self.lines.insert(self.opened, line);
        self.opened
    }

    /// A connection that is not closed.
    pub fn line(&self, id: u64) -> Option<&Line> {
        self.lines.get(&id)
    }

    /// Closes a connection; what is under way is lost.
    pub fn close(&mut self, id: u64) -> Option<Line> {
        self.lines.remove(&id)
    }

    /// From here on nothing arrives, and neither end hears why.
    pub fn cut(&mut self, id: u64) {
        if let Some(line) = self.lines.get_mut(&id) {
            line.carries = false;
        }
    }

    /// When a message sent now arrives; `None` when it does not.
    pub fn send(&mut self, id: u64, way: Way, now: Duration, delay: Duration) -> Option<Duration> {
        let line = self.lines.get_mut(&id).filter(|line| line.carries)?;
        let last = &mut line.arrives[usize::from(way == Way::Down)];
        *last = (*last).max(now + delay);
        Some(*last)
    }

    /// Connections that one of these ends holds.
    pub fn of(&self, holds: impl Fn(&Line) -> bool) -> Vec<u64> {
        self.lines.iter().filter(|(_, line)| holds(line)).map(|(id, _)| *id).collect()
    }
}
