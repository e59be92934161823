//! Whether ranks agree (LAW): every rank of a generation names the chained digest of each step it applied.
//!
//! RD-3: all live ranks hold identical adapters. A rank that names another digest has other adapters, and every sum it
//! takes part in from then on is tainted. So a step may commit only after every rank has confirmed the step before it and
//! more than half of them have named the step's own digest: a rank reports a step before it can take part in the next
//! one, so that costs no more than the messages' way.

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
    /// Ranks in all: under a new leader not all of them need be back.
    size: usize,
    /// Every rank has named the same digest for all steps below this one.
    confirmed: Step,
    /// What every rank has named for steps that are not committed.
    agreed: BTreeMap<Step, Digest>,
    /// Steps that not everybody has confirmed: at most as many as a rank can be ahead of another.
    open: BTreeMap<Step, Tally>,
}

#[derive(Debug, Clone, Default)]
struct Tally {
    votes: BTreeMap<SessionId, Digest>,
    /// Some of them differ.
    disputed: bool,
}

impl Agreement {
    /// Begins a generation whose ranks hold the same state at `applied` steps.
    #[must_use]
    pub fn of(ranks: &[SessionId], applied: Step) -> Self {
        let ranks: BTreeSet<SessionId> = ranks.iter().copied().collect();
        Self { size: ranks.len(), ranks, confirmed: applied, ..Self::default() }
    }

    /// The generation of another leader, of which nobody is back yet; what is durable was confirmed.
    #[must_use]
    pub fn awaiting(size: usize, durable: Step) -> Self {
        Self { size, confirmed: durable, ..Self::default() }
    }

    /// A rank of that generation is back.
    pub fn enrol(&mut self, session: SessionId) {
        self.ranks.insert(session);
    }

    /// What is durable was confirmed: whoever was told so has nothing more to say of it.
    pub fn settle(&mut self, durable: Step) {
        self.open = self.open.split_off(&durable);
        self.confirmed = self.confirmed.max(durable);
        self.confirm();
    }

    /// A rank is gone, and what it said with it.
    pub fn leave(&mut self, session: SessionId) {
        self.ranks.remove(&session);
        for tally in self.open.values_mut() {
            tally.votes.remove(&session);
            tally.disputed = tally.differ();
        }
    }

    /// Every rank holds the same adapters after this many steps, as far as digests tell.
    #[must_use]
    pub fn confirmed(&self) -> Step {
        self.confirmed
    }

    /// Steps below this one may commit, as far as digests tell.
    #[must_use]
    pub fn may_commit(&self) -> Step {
        let tally = self.open.get(&self.confirmed);
        // While some say otherwise it is not settled whose report is entered.
        let most = tally.is_some_and(|tally| !tally.disputed && 2 * tally.votes.len() > self.size);
        if most { self.confirmed.next() } else { self.confirmed }
    }

    /// What the ranks hold after a step, as far as they have named one thing.
    #[must_use]
    pub fn digest(&self, step: Step) -> Option<Digest> {
        let named = || {
            let tally = self.open.get(&step).filter(|tally| !tally.disputed)?;
            tally.votes.first_key_value().map(|(_, digest)| *digest)
        };
        self.agreed.get(&step).copied().or_else(named)
    }

    /// Steps below this one are committed: nobody asks for their digests any more.
    pub fn committed(&mut self, below: Step) {
        self.agreed = self.agreed.split_off(&below);
    }

    /// Whether some step's digests differ.
    #[must_use]
    pub fn is_disputed(&self) -> bool {
        self.open.values().any(|tally| tally.disputed)
    }

    /// Takes a rank's digest of a step; a second vote, or one of a session that has no rank, counts nothing.
    pub fn vote(&mut self, session: SessionId, step: Step, digest: Digest) -> Finding {
        if step < self.confirmed || !self.ranks.contains(&session) {
            return Finding::Open;
        }
        let tally = self.open.entry(step).or_default();
        if tally.votes.contains_key(&session) {
            return Finding::Open;
        }
        tally.disputed |= tally.votes.first_key_value().is_some_and(|(_, named)| *named != digest);
        tally.votes.insert(session, digest);
        if tally.disputed {
            return find(step, tally, self.size);
        }
        self.confirm();
        Finding::Open
    }

    fn confirm(&mut self) {
        while let Some(tally) = self.open.get(&self.confirmed) {
            if tally.disputed || tally.votes.len() < self.size {
                return;
            }
            self.agreed.extend(tally.votes.first_key_value().map(|(_, digest)| (self.confirmed, *digest)));
            self.open.remove(&self.confirmed);
            self.confirmed = self.confirmed.next();
        }
    }

    /// What the votes of the first disputed step come to, while the others may yet speak.
    #[must_use]
    pub fn finding(&self) -> Finding {
        self.first_dispute(|_| self.size)
    }

    /// What they come to when nobody else will speak: the generation is over.
    #[must_use]
    pub fn verdict(&self) -> Finding {
        self.first_dispute(|tally| tally.votes.len())
    }

    /// Whether some ranks have said nothing of a step: they may not have done it.
    #[must_use]
    pub fn is_partial(&self, step: Step) -> bool {
        self.open.get(&step).is_some_and(|tally| tally.votes.len() < self.size)
    }

    fn first_dispute(&self, voters: impl Fn(&Tally) -> usize) -> Finding {
        let disputed = self.open.iter().find(|(_, tally)| tally.disputed);
        disputed.map_or(Finding::Open, |(step, tally)| find(*step, tally, voters(tally)))
    }
}

fn find(step: Step, tally: &Tally, voters: usize) -> Finding {
    match tally.majority(voters) {
        Some(digest) => Finding::Outvoted { step, digest, minority: tally.others(digest) },
        None if tally.votes.len() == voters => Finding::Torn(step),
        None => Finding::Open,
    }
}

impl Tally {
    fn differ(&self) -> bool {
        let mut named = self.votes.values();
        named.next().is_some_and(|first| named.any(|other| other != first))
    }

    /// What more than half of so many voters named.
    fn majority(&self, voters: usize) -> Option<Digest> {
        let mut counts: BTreeMap<Digest, usize> = BTreeMap::new();
        self.votes.values().for_each(|digest| *counts.entry(*digest).or_default() += 1);
        counts.into_iter().find(|(_, votes)| 2 * votes > voters).map(|(digest, _)| digest)
    }

    /// Those who voted for another digest than this one, in order.
    fn others(&self, digest: Digest) -> Vec<SessionId> {
        self.votes.iter().filter(|(_, named)| **named != digest).map(|(session, _)| *session).collect()
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

    #[test]
    fn rd_3_a_step_may_commit_once_more_than_half_hold_it_and_all_hold_the_one_before() {
        let mut agreement = Agreement::of(&ranks(3), Step(0));
        agreement.vote(SessionId(1), Step(0), A);
        assert_eq!(agreement.may_commit(), Step(0), "one of three may be the one that is wrong");
        agreement.vote(SessionId(2), Step(0), A);
        assert_eq!(agreement.may_commit(), Step(1));
        (1..=2).for_each(|session| {
            agreement.vote(SessionId(session), Step(1), A);
        });
        assert_eq!(agreement.may_commit(), Step(1), "the third may have tainted what was summed since");
        agreement.vote(SessionId(3), Step(0), A);
        assert_eq!(agreement.may_commit(), Step(2));
    }

    #[test]
    fn a_dispute_outlives_the_rank_that_would_have_decided_it() {
        let mut agreement = Agreement::of(&ranks(4), Step(0));
        for (session, digest) in [(1, A), (2, B), (3, A)] {
            agreement.vote(SessionId(session), Step(0), digest);
        }
        assert_eq!(agreement.finding(), Finding::Open);
        agreement.leave(SessionId(4));
        let minority = vec![SessionId(2)];
        assert_eq!(agreement.verdict(), Finding::Outvoted { step: Step(0), digest: A, minority });
        agreement.leave(SessionId(3));
        assert_eq!(agreement.verdict(), Finding::Torn(Step(0)));
        agreement.leave(SessionId(2));
        assert_eq!(agreement.verdict(), Finding::Open, "the other opinion is gone");
    }

    #[test]
    fn whoever_was_told_that_a_step_is_durable_need_not_name_its_digest_again() {
        let mut agreement = Agreement::awaiting(3, Step(7));
        for session in ranks(3) {
            agreement.enrol(session);
        }
        agreement.vote(SessionId(1), Step(7), A);
        agreement.settle(Step(8));
        assert_eq!((agreement.confirmed(), agreement.open.len()), (Step(8), 0));
        for session in ranks(3) {
            agreement.vote(session, Step(8), B);
        }
        assert_eq!(agreement.confirmed(), Step(9));
    }

    #[test]
    fn under_a_new_leader_nothing_is_confirmed_before_everybody_is_back() {
        let mut agreement = Agreement::awaiting(2, Step(7));
        for session in ranks(2) {
            assert_eq!(agreement.confirmed(), Step(7));
            agreement.enrol(session);
            agreement.vote(session, Step(6), B);
            agreement.vote(session, Step(7), A);
        }
        assert_eq!(agreement.confirmed(), Step(8));
    }
}
