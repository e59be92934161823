//! The ways between workers, on which collectives run. One that is cut holds back what is sent on it and says so to nobody,
//! while both its ends still reach the coordinators. Once it is whole again what was held back arrives, if it is still
//! waited for.

use std::{collections::BTreeMap, time::Duration};

use crate::network::Process;

/// Ways between machines of workers that carry nothing until some moment.
#[derive(Debug, Default)]
pub struct Peers {
    cut: BTreeMap<(usize, usize), Duration>,
}

impl Peers {
    /// The way between two machines carries nothing until then, or until later where that was so before.
    pub fn cut(&mut self, one: usize, other: usize, until: Duration) {
        let cut = self.cut.entry((one.min(other), one.max(other))).or_default();
        *cut = (*cut).max(until);
    }

    /// Whether some way is cut.
    pub fn are_apart(&self, now: Duration) -> bool {
        self.cut.values().any(|until| *until > now)
    }

    /// When the way between two processes carries something again; `None` where it does.
    pub fn between(&self, one: Process, other: Process, now: Duration) -> Option<Duration> {
        let pair = (one.index.min(other.index), one.index.max(other.index));
        self.cut.get(&pair).copied().filter(|until| *until > now)
    }

    /// When all of these processes reach each other again; `None` where they do.
    pub fn among(&self, processes: &[Process], now: Duration) -> Option<Duration> {
        if self.cut.is_empty() {
            return None;
        }
        let pairs =
            processes.iter().enumerate().flat_map(|(at, one)| processes[..at].iter().map(|other| (*one, *other)));
        pairs.filter_map(|(one, other)| self.between(one, other, now)).max()
    }
}
