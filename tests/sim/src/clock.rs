//! Virtual time: what will happen, in order of time and then of when it was decided.

use std::{collections::BTreeMap, time::Duration};

/// A queue of happenings over one clock.
#[derive(Debug)]
pub struct Clock<T> {
    now: Duration,
    decided: u64,
    queue: BTreeMap<(Duration, u64), T>,
}

impl<T> Default for Clock<T> {
    fn default() -> Self {
        Self { now: Duration::ZERO, decided: 0, queue: BTreeMap::new() }
    }
}

impl<T> Clock<T> {
    /// The moment of what happened last.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Something happens at a moment, not before now.
    pub fn at(&mut self, moment: Duration, what: T) {
        self.decided += 1;
        self.queue.insert((moment.max(self.now), self.decided), what);
    }

    /// Something happens after a while.
    pub fn after(&mut self, delay: Duration, what: T) {
        self.at(self.now + delay, what);
    }

    /// What happens next; its moment is now.
    pub fn next(&mut self) -> Option<T> {
        let ((moment, _), what) = self.queue.pop_first()?;
        self.now = moment;
        Some(what)
    }
}
