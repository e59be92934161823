//! A change of leaders that changes no generation (LAW): DESIGN.md section 4, fence and plans ahead.
//!
//! The workers of the generation on record train on with the plans in hand, and say which ones when they are back. If
//! every rank is back and still stands, the new leader goes on behind the last plan that anybody holds: its shares were
//! packed by a pace that is gone, so what some ranks hold of a step decides what is left for the others (ST-1).

use std::{collections::BTreeMap, time::Duration};

use esta_proto::{Digest, Generation, Rank, SessionId, SlotId, Step};

use super::{Command, Cursor, Hello, Ledger, Message, Notice, Phase, Run, agreement::Finding};
use crate::{plan::RankPlan, spec::seconds};

/// The generation that a leader found on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    /// Which one.
    pub generation: Generation,
    /// Names of its workers by rank.
    pub names: Vec<String>,
}

/// Whether a generation on record can go on.
enum Roll {
    /// Some of its workers are not back.
    Missing,
    /// All are back, but it does not stand any more.
    Fallen,
    /// All stand where they stood: their sessions by rank.
    Stands(Vec<SessionId>),
}

impl Run {
    /// What a worker of the generation on record says of the steps that are not durable counts as its vote on them.
    pub(super) fn hear_witness(&mut self, session: SessionId, hello: &Hello, out: &mut Vec<Command>) {
        self.agreement.enrol(session);
        for report in &hello.retained {
            self.agreement.vote(session, report.step, report.reduced);
        }
        self.commit_ready(out);
    }

    /// When a new leader stops waiting for the generation on record.
    pub(super) fn resume_until(&self) -> Option<Duration> {
        matches!(self.phase, Phase::Resuming).then(|| seconds(self.law.spec.timeouts.resume))
    }

    /// Goes on with the generation on record if it stands, or gives it up.
    pub(super) fn resume_if_due(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Some(until) = self.resume_until() else { return };
        // Where everybody who came began anew, nobody is waited for who might have gone on.
        let company = self.members.live().len() as u64 >= u64::from(self.patience.workers);
        let anew = company && self.members.live().values().all(|member| member.standing.is_none());
        match self.roll() {
            _ if anew => self.give_up_resuming(now, out),
            Roll::Stands(ranks) => {
                if !self.resume(&ranks, now, out) {
                    self.give_up_resuming(now, out);
                }
            }
            Roll::Missing if now < until => {}
            Roll::Missing | Roll::Fallen => self.give_up_resuming(now, out),
        }
    }

    fn give_up_resuming(&mut self, now: Duration, out: &mut Vec<Command>) {
        // Whoever stood is a run that is under way: it does not wait for company again.
        self.stood |= self.members.live().values().any(|member| member.standing.is_some());
        for session in self.members.live().keys() {
            out.push(Command::Send(*session, Message::Lost("the generation did not survive its leader".to_owned())));
        }
        self.begin_anew(now, out);
    }

    fn roll(&self) -> Roll {
        if self.members.live().len() < self.predecessor.names.len() {
            return Roll::Missing;
        }
        let mut ranks = Vec::with_capacity(self.predecessor.names.len());
        let mut stands = true;
        for (rank, name) in self.predecessor.names.iter().enumerate() {
            let Some((session, member)) = self.members.named(name) else { return Roll::Missing };
            stands &= member.standing.as_ref().is_some_and(|standing| {
                standing.generation == self.predecessor.generation && standing.rank == Rank(rank as u32)
            });
            ranks.push(session);
        }
        if stands { Roll::Stands(ranks) } else { Roll::Fallen }
    }

    /// True when the generation goes on; false when what its workers hold does not fit together.
    fn resume(&mut self, ranks: &[SessionId], now: Duration, out: &mut Vec<Command>) -> bool {
        let Some(ledger) = self.ledger.as_ref().filter(|_| self.agreement.finding() == Finding::Open) else {
            return false;
        };
        let Some(missing) = self.missing_shares(ledger, ranks) else { return false };
        let standing = |session: &SessionId| self.members.live()[session].standing.as_ref();
        let next = ranks.iter().filter_map(|session| standing(session).map(|s| s.next)).max().unwrap_or_default();
        let applied = ranks.iter().filter_map(|session| self.members.live()[session].applied).max().unwrap_or_default();
        out.push(Command::Notice(Notice::Resumed(self.predecessor.generation)));
        self.members.resume(ranks);
        self.agreement.settle(self.durable);
        self.stood = true;
        self.phase = Phase::Running(Cursor { next, reported: applied, closing: false, began: None, weighed: None });
        out.extend(missing.into_iter().map(|(session, share)| Command::Send(session, Message::Plan(share))));
        self.commit_ready(out);
        self.regroup(now, out);
        true
    }

    /// The shares of steps that some ranks hold and others were never sent, in order of steps; `None` when what the ranks
    /// hold contradicts the record.
    fn missing_shares(&self, ledger: &Ledger, ranks: &[SessionId]) -> Option<Vec<(SessionId, RankPlan)>> {
        let members: Vec<_> = ranks.iter().map(|session| &self.members.live()[session]).collect();
        let place = |member: &super::Member| member.standing.as_ref().map(|standing| (standing.next, member.applied));
        let places: Vec<(Step, Option<Step>)> = members.iter().map(|member| place(member)).collect::<Option<_>>()?;
        let first = places.iter().map(|(next, _)| *next).min()?;
        let last = places.iter().map(|(next, _)| *next).max()?;
        let applied = places.iter().filter_map(|(_, applied)| *applied).max()?;
        // A rank that applied a step reduced it with everybody: nobody can be without its plan.
        if applied > first || last > ledger.total() {
            return None;
        }
        let mut shares = Vec::new();
        for step in (first.0..last.0).map(Step) {
            let plan = ledger.plan(step)?;
            let mut holder: BTreeMap<SlotId, SessionId> = BTreeMap::new();
            let mut without = Vec::new();
            for (session, member) in ranks.iter().zip(&members) {
                match held(member, step) {
                    Some((digest, slots)) if digest == plan.digest => {
                        for slot in slots {
                            holder.insert(*slot, *session).is_none().then_some(())?;
                        }
                    }
                    Some(_) => return None,
                    None if member.standing.as_ref()?.next > step => return None,
                    None => without.push(*session),
                }
            }
            let rank =
                |session: &SessionId| ranks.iter().position(|other| other == session).map(|rank| Rank(rank as u32));
            let takers: Vec<Rank> = without.iter().map(rank).collect::<Option<_>>()?;
            let taken: Vec<SlotId> = holder.into_keys().collect();
            if taken.last().is_some_and(|slot| slot.index() >= plan.draws.len()) {
                return None;
            }
            shares.extend(without.into_iter().zip(plan.rest(&self.law.catalog, &self.pace, &taken, &takers)));
        }
        Some(shares)
    }
}

/// Digest and slots of the share of a step that a member holds.
fn held(member: &super::Member, step: Step) -> Option<(Digest, &[SlotId])> {
    let share = member.standing.as_ref()?.held.iter().find(|share| share.step == step)?;
    Some((share.plan, &share.slots))
}
