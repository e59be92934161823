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

/// A process's own clock, which need not be right: it runs at a pace of its own, and leaps ahead where its machine was
/// suspended.
#[derive(Debug, Clone)]
pub struct OwnClock {
    /// A moment and what the clock showed then.
    set: (Duration, Duration),
    pace: Pace,
}

/// How fast a clock runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Half as fast as time.
    Slow,
    /// As fast as time.
    Even,
    /// Twice as fast as time.
    Fast,
}

impl Default for OwnClock {
    fn default() -> Self {
        Self { set: (Duration::ZERO, Duration::ZERO), pace: Pace::Even }
    }
}

impl OwnClock {
    /// What it shows at a moment.
    pub fn shows(&self, moment: Duration) -> Duration {
        let (since, shown) = self.set;
        let passed = moment.saturating_sub(since);
        shown
            + match self.pace {
                Pace::Slow => passed / 2,
                Pace::Even => passed,
                Pace::Fast => 2 * passed,
            }
    }

    /// The moment at which it will show this, unless it is meddled with.
    pub fn moment(&self, shown: Duration) -> Duration {
        let (since, set) = self.set;
        let missing = shown.saturating_sub(set);
        since
            + match self.pace {
                Pace::Slow => 2 * missing,
                Pace::Even => missing,
                // Never early by what the division loses.
                Pace::Fast => missing / 2 + Duration::from_nanos(1),
            }
    }

    /// It leaps ahead.
    pub fn leap(&mut self, now: Duration, by: Duration) {
        self.set = (now, self.shows(now) + by);
    }

    /// It runs at this pace from now on.
    pub fn run(&mut self, now: Duration, pace: Pace) {
        self.set = (now, self.shows(now));
        self.pace = pace;
    }

    /// Its pace.
    pub fn pace(&self) -> Pace {
        self.pace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_what_was_asked_for_at_the_moment_it_named() {
        let second = Duration::from_secs(1);
        let mut clock = OwnClock::default();
        for pace in [Pace::Slow, Pace::Fast, Pace::Even] {
            clock.run(3 * second, pace);
            clock.leap(4 * second, second / 3);
            let shown = clock.shows(4 * second) + Duration::from_nanos(12_345_679);
            let moment = clock.moment(shown);
            assert!(clock.shows(moment) >= shown && clock.shows(moment - Duration::from_nanos(2)) < shown, "{pace:?}");
        }
    }
}
