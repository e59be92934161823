//! Groups that are built beside the steps (LAW): DESIGN.md section 4, reconfiguration.
//!
//! Whoever comes or goes while steps are given out changes nothing at first: those who will be there build the group of
//! the next generation on the side. Once all of them have it the run is brought to a boundary and they enter it. So nobody
//! waits for a joiner to be reached, and one that cannot be reached costs the others nothing.

use std::{collections::BTreeSet, time::Duration};

use esta_proto::{Fence, Generation, Rank, SessionId, Step};

use super::{Command, Message, Notice, Phase, Run, exit, joining::stop, message::Seat};

/// Preparations in a row that may fail before those who wait are turned away.
const FAILURES: u32 = 3;

/// The group of a generation to come, and how preparing went before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Preparing {
    coming: Option<Coming>,
    /// The step in flight when the last one began: one is begun per step, whatever happens to it.
    begun: Option<Step>,
    /// Failures since a group stood or somebody was turned away. After too many whoever leaves goes without another group.
    failures: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Coming {
    generation: Generation,
    /// Its workers by rank, which is their order.
    ranks: Vec<SessionId>,
    /// Those of them that have built it.
    built: BTreeSet<SessionId>,
}

impl Coming {
    fn is_built(&self) -> bool {
        self.built.len() == self.ranks.len()
    }
}

impl Preparing {
    /// The group that everybody has built: its generation, and its workers by rank.
    pub fn take_built(&mut self) -> Option<(Generation, Vec<SessionId>)> {
        let coming = self.coming.take_if(|coming| coming.is_built())?;
        Some((coming.generation, coming.ranks))
    }

    /// A group stands: what failed before is forgotten.
    pub fn stands(&mut self) {
        *self = Self::default();
    }

    /// Who will be there, by rank, if a group is being built.
    pub fn ranks(&self) -> Option<&[SessionId]> {
        self.coming.as_ref().map(|coming| coming.ranks.as_slice())
    }
}

impl Run {
    /// Somebody has come: where a group is being built already, the next one is for it.
    pub(super) fn meet(&mut self, now: Duration, out: &mut Vec<Command>) {
        if self.preparing.coming.is_none() {
            self.regroup(now, out);
        }
    }

    /// Brings what is prepared in line with who is here and who waits, and closes the generation when that is built.
    pub(super) fn regroup(&mut self, now: Duration, out: &mut Vec<Command>) {
        if !matches!(self.phase, Phase::Running(_)) {
            return;
        }
        let missing = |session: &SessionId| self.members.live().get(session).is_none_or(|member| member.draining);
        if self.preparing.ranks().is_some_and(|ranks| ranks.iter().any(missing)) {
            self.forgo("one of its workers leaves", out);
        }
        let waits = self.somebody_waits();
        let closing = match &self.preparing.coming {
            Some(coming) => coming.is_built(),
            None if waits => !self.prepare(out),
            None => false,
        };
        if let Phase::Running(cursor) = &mut self.phase {
            cursor.closing = closing;
        }
        self.reform_if_drained(now, out);
        self.advance(out);
    }

    /// Whoever is to be there builds a group, at once or after the step in flight; false when there is nothing to be built.
    fn prepare(&mut self, out: &mut Vec<Command>) -> bool {
        let stay = self.members.live().iter().filter(|(_, member)| !member.draining);
        let ranks: Vec<SessionId> = stay.map(|(session, _)| *session).collect();
        if ranks.is_empty() || self.preparing.failures >= FAILURES {
            return false;
        }
        let in_flight = Some(self.agreement.confirmed());
        if self.preparing.begun == in_flight {
            return true;
        }
        let generation = self.members.number();
        let names = ranks.iter().map(|session| self.name_of(*session)).collect();
        out.push(Command::Notice(Notice::Preparing(generation, names)));
        let world = ranks.len() as u32;
        out.extend((0..).zip(&ranks).map(|(rank, session)| {
            Command::Send(*session, Message::Prepare(Seat { generation, rank: Rank(rank), world }))
        }));
        let built = BTreeSet::new();
        (self.preparing.begun, self.preparing.coming) = (in_flight, Some(Coming { generation, ranks, built }));
        true
    }

    /// The group that is being built will not be entered.
    pub(super) fn forgo(&mut self, reason: &str, out: &mut Vec<Command>) {
        if let Some(Coming { generation, .. }) = self.preparing.coming.take() {
            out.push(Command::Notice(Notice::Forgone(generation, reason.to_owned())));
        }
    }

    /// A worker has built its end of the group to come. What is said of another one came late.
    pub(super) fn group_prepared(&mut self, session: SessionId, fence: Fence, now: Duration, out: &mut Vec<Command>) {
        if !self.is_coming(fence) {
            return;
        }
        let coming = self.preparing.coming.as_mut().filter(|coming| coming.ranks.binary_search(&session).is_ok());
        if coming.is_some_and(|coming| coming.built.insert(session) && coming.is_built()) {
            self.regroup(now, out);
        }
    }

    /// Whether a fence is that of the group to come.
    pub(super) fn is_coming(&self, fence: Fence) -> bool {
        let coming = self.preparing.coming.as_ref().map(|coming| coming.generation);
        fence.epoch == self.epoch && coming == Some(fence.generation)
    }

    /// The group to come cannot be built. Who is to blame nobody can tell; but those who train reach each other.
    pub(super) fn preparing_failed(&mut self, reason: &str, now: Duration, out: &mut Vec<Command>) {
        self.forgo(reason, out);
        self.preparing.failures += 1;
        if self.preparing.failures >= FAILURES {
            let waiting = self.members.live().iter().filter(|(_, member)| member.rank.is_none());
            for session in waiting.map(|(session, _)| *session).collect::<Vec<_>>() {
                let reason = format!("{FAILURES} groups with it could not be built, the last one: {reason}");
                out.push(Command::Notice(Notice::TurnedAway(self.name_of(session), reason.clone())));
                out.push(Command::Send(session, Message::Stop(stop(exit::UNREACHABLE, reason))));
                out.push(Command::Close(session));
                self.members.remove(session);
            }
            if !self.members.in_group().any(|member| member.draining) {
                self.preparing.failures = 0;
            }
        }
        self.regroup(now, out);
    }
}
