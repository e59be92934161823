//! How fast steps are committed (HANDS).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The rate of steps is the mean over about this long.
const RATE_OVER: Duration = Duration::from_secs(10);

/// Committed steps over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Rate {
    seen: VecDeque<(Instant, u64)>,
    /// Of the curve: when its last point was made, and at which step.
    marked: Option<(Instant, u64)>,
}

impl Rate {
    /// So many steps are committed by now.
    pub fn note(&mut self, now: Instant, committed: u64) {
        self.seen.push_back((now, committed));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_OVER) {
            self.seen.pop_front();
        }
    }

    /// When it was noted last.
    pub fn last(&self) -> Option<Instant> {
        self.seen.back().map(|(at, _)| *at)
    }

    /// Steps per second; none before two commits, 0 where none came for long.
    pub fn now(&self) -> Option<f64> {
        let ((first, from), (last, to)) = (self.seen.front()?, self.seen.back()?);
        let span = last.duration_since(*first).as_secs_f64();
        let idle = last.elapsed();
        if idle > RATE_OVER {
            return Some(0.0);
        }
        (span > 0.0).then(|| (to - from) as f64 / span)
    }

    /// A point for the curve about once a second.
    pub fn point(&mut self, now: Instant, committed: u64) -> Option<f64> {
        let (at, from) = *self.marked.get_or_insert((now, committed));
        let span = now.duration_since(at).as_secs_f64();
        if span < 1.0 {
            return None;
        }
        self.marked = Some((now, committed));
        Some((committed - from) as f64 / span)
    }
}
