//! Whether ranks agree (LAW): every rank of a generation names the chained digest of each step it applied.
//!
//! RD-3: all live ranks hold identical adapters. A rank that names another digest has other adapters, and every sum it
//! takes part in from then on is tainted. So a step may commit only after every rank has confirmed the step before it:
//! a rank reports a step before it can take part in the next one, so that costs no more than the messages' way.

use std::collections::{BTreeMap, BTreeSet};

use esta_proto::{Digest, SessionId, Step};

/// What the votes of a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Nothing to be done: everybody agrees so far, or a majority cannot be told yet.
    Open,
    /// More than half of the ranks hold this digest; these others do not.
    Outvoted {
        /// The step.
        step: Step,
        /// What most ranks hold.
        digest: Digest,
        /// The sessions of those that named another, in order.
        minority: Vec<SessionId>,
    },
    /// Everybody has spoken and no digest has more than half.
    Torn(Step),
}

/// The votes of one generation.
#[derive(Debug, Clone, Default)]
pub struct Agreement {
    ranks: BTreeSet<SessionId>,
    /// Every rank has named the same digest for all steps below this one.
    confirmed: Step,
    /// Steps that not everybody has confirmed: at most as many as a rank can be ahead of another.
    open: BTreeMap<Step, Tally>,
}

#[derive(Debug, Clone)]
struct Tally {
    /// What the first vote named.
    digest: Digest,
    agree: BTreeSet<SessionId>,
    /// Those that named another digest.
    dissent: BTreeMap<SessionId, Digest>,
}

impl Agreement {
    /// Begins a generation whose ranks hold the same state at `applied` steps.
    #[must_use]
    pub fn of(ranks: &[SessionId], applied: Step) -> Self {
        Self { ranks: ranks.iter().copied().collect(), confirmed: applied, open: BTreeMap::new() }
    }

    /// Every rank holds the same adapters after this many steps, as far as digests tell.
    #[must_use]
    pub fn confirmed(&self) -> Step {
        self.confirmed
    }

    /// Whether some step's digests differ.
    #[must_use]
    pub fn is_disputed(&self) -> bool {
        self.open.values().any(|tally| !tally.dissent.is_empty())
    }

    /// Takes a rank's digest of a step; a second vote, or one of a session that has no rank, counts nothing.
    pub fn vote(&mut self, session: SessionId, step: Step, digest: Digest) -> Finding {
        if step < self.confirmed || !self.ranks.contains(&session) {
            return Finding::Open;
        }
        let empty = Tally { digest, agree: BTreeSet::new(), dissent: BTreeMap::new() };
        let tally = self.open.entry(step).or_insert(empty);
        if tally.agree.contains(&session) || tally.dissent.contains_key(&session) {
            return Finding::Open;
        }
        if digest == tally.digest {
            tally.agree.insert(session);
        } else {
            tally.dissent.insert(session, digest);
        }
        if tally.dissent.is_empty() {
            self.confirm();
            return Finding::Open;
        }
        self.find(step)
    }

    fn confirm(&mut self) {
        while let Some(tally) = self.open.get(&self.confirmed) {
            if tally.agree.len() < self.ranks.len() {
                return;
            }
            self.open.remove(&self.confirmed);
            self.confirmed = self.confirmed.next();
        }
    }

    fn find(&self, step: Step) -> Finding {
        let tally = &self.open[&step];
        let mut counts = BTreeMap::from([(tally.digest, tally.agree.len())]);
        for digest in tally.dissent.values() {
            *counts.entry(*digest).or_default() += 1;
        }
        match counts.into_iter().find(|(_, votes)| 2 * votes > self.ranks.len()) {
            Some((digest, _)) => Finding::Outvoted { step, digest, minority: tally.others(digest) },
            None if tally.agree.len() + tally.dissent.len() == self.ranks.len() => Finding::Torn(step),
            None => Finding::Open,
        }
    }
}

impl Tally {
    /// Those who voted for another digest than this one, in order.
    fn others(&self, digest: Digest) -> Vec<SessionId> {
        let first = self.agree.iter().filter(|_| self.digest != digest);
        let dissent = self.dissent.iter().filter(|(_, named)| **named != digest).map(|(session, _)| session);
        let mut others: Vec<SessionId> = first.chain(dissent).copied().collect();
        others.sort_unstable();
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = Digest([1; 32]);
    const B: Digest = Digest([2; 32]);

    fn ranks(count: u64) -> Vec<SessionId> {
        (1..=count).map(SessionId).collect()
    }

    /// The findings of votes on step 0 by sessions 1, 2, ...
    fn findings(votes: &[Digest]) -> Vec<Finding> {
        let mut agreement = Agreement::of(&ranks(votes.len() as u64), Step(0));
        (1..).zip(votes).map(|(session, digest)| agreement.vote(SessionId(session), Step(0), *digest)).collect()
    }

    #[test]
    fn a_step_is_confirmed_when_every_rank_has_named_the_same_digest() {
        let mut agreement = Agreement::of(&ranks(2), Step(5));
        agreement.vote(SessionId(1), Step(5), A);
        agreement.vote(SessionId(1), Step(5), A);
        agreement.vote(SessionId(9), Step(5), B);
        assert_eq!(agreement.confirmed(), Step(5), "a second vote and a stranger's count nothing");
        agreement.vote(SessionId(1), Step(6), B);
        agreement.vote(SessionId(2), Step(5), A);
        assert_eq!(agreement.confirmed(), Step(6));
        agreement.vote(SessionId(2), Step(6), B);
        assert_eq!((agreement.confirmed(), agreement.open.len()), (Step(7), 0));
    }

    #[test]
    fn rd_3_more_than_half_of_all_ranks_outvote_the_others_whoever_spoke_first() {
        let outvoted = |minority: &[u64]| Finding::Outvoted {
            step: Step(0),
            digest: A,
            minority: minority.iter().copied().map(SessionId).collect(),
        };
        assert_eq!(findings(&[A, A, B]), [Finding::Open, Finding::Open, outvoted(&[3])]);
        assert_eq!(findings(&[B, A, A]), [Finding::Open, Finding::Open, outvoted(&[1])]);
        assert_eq!(findings(&[A, B, A, A, A])[3..], [outvoted(&[2]), outvoted(&[2])]);
    }

    #[test]
    fn rd_3_halves_are_no_majority() {
        assert_eq!(findings(&[A, B]), [Finding::Open, Finding::Torn(Step(0))]);
        let four = findings(&[A, B, A, B]);
        assert_eq!(four[..3], [Finding::Open, Finding::Open, Finding::Open], "the fourth may still decide");
        assert_eq!(four[3], Finding::Torn(Step(0)));
    }

    #[test]
    fn a_disputed_step_confirms_nothing_after_it() {
        let mut agreement = Agreement::of(&ranks(5), Step(0));
        agreement.vote(SessionId(1), Step(0), A);
        agreement.vote(SessionId(2), Step(0), B);
        (1..=5).for_each(|session| {
            agreement.vote(SessionId(session), Step(1), A);
        });
        assert!(agreement.is_disputed());
        assert_eq!(agreement.confirmed(), Step(0));
    }
}
