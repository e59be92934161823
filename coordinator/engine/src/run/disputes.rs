//! Ranks that say different things (LAW): DESIGN.md section 4, commit; RD-3.
//!
//! Of ranks that disagree the majority goes on without the others. A tie among all of them ends the run; a tie among those
//! who did a step, while others did not, has all of them do it again.

use std::{ops::RangeInclusive, time::Duration};

use esta_proto::{Digest, SessionId, Step};

use super::{Agreement, Command, Message, Phase, Report, Run, agreement::Finding, exit};

impl Run {
    /// RD-3: all ranks of a generation hold identical adapters, so their digests of a step are the same. Of ranks that
    /// disagree the majority goes on without the others; without a majority nobody can say what the run is. False when
    /// the generation is over.
    pub(super) fn vote(&mut self, session: SessionId, report: &Report, now: Duration, out: &mut Vec<Command>) -> bool {
        if !matches!(self.phase, Phase::Running(_) | Phase::Resuming | Phase::Forming) {
            return true;
        }
        let before = self.agreement.confirmed();
        let finding = self.agreement.vote(session, report.step, report.reduced);
        // Settled once everybody has handed over what it holds.
        if self.phase == Phase::Forming {
            return true;
        }
        if self.agreement.confirmed() > before {
            if let Phase::Running(cursor) = &mut self.phase {
                cursor.began = Some(now);
            }
            self.compare_tempi(now, out);
        }
        // While a new leader waits, who is still away may have something to say.
        if finding == Finding::Open || self.phase == Phase::Resuming {
            return true;
        }
        self.end_generation("its ranks disagree", now, out);
        false
    }

    /// What a dispute among ranks comes to now that their generation is over: the minority goes, and what was summed since
    /// is forgotten. False when that ends the run.
    pub(super) fn settle_dispute(&mut self, out: &mut Vec<Command>) -> bool {
        let agreement = std::mem::take(&mut self.agreement);
        // While a group forms its ranks take over one state, and it may be that of whoever is wrong.
        let taken_over = self.phase == Phase::Forming;
        match agreement.verdict() {
            Finding::Open => true,
            Finding::Torn(step) if self.may_redo(step, &agreement) => {
                self.forget_from(step, step, out);
                true
            }
            Finding::Torn(step) => {
                self.fail(&format!("ranks disagree about the reduced gradients of step {step}"), out);
                false
            }
            Finding::Outvoted { step, digest, minority } => {
                let Some(unknown) = self.outvote(step, digest, &minority, out) else { return false };
                let (facts, states) =
                    (if unknown { step } else { step.next() }, if taken_over { step } else { step.next() });
                self.forget_from(facts, states, out);
                true
            }
        }
    }

    /// Nobody can say who is right about a step, but it is not on record and not everybody has done it: all do it again.
    fn may_redo(&self, step: Step, agreement: &Agreement) -> bool {
        agreement.is_partial(step) && self.ledger.as_ref().is_some_and(|ledger| ledger.committed() <= step)
    }

    /// The minority goes. Whether its word was all that was known of the step; none when it is on record, which ends the run.
    fn outvote(&mut self, step: Step, digest: Digest, minority: &[SessionId], out: &mut Vec<Command>) -> Option<bool> {
        let ledger = self.ledger.as_mut()?;
        if ledger.contradicts(step, digest) {
            let reason = format!(
                "{} ranks disagree with the others about the reduced gradients of step {step}, and theirs are on record",
                minority.len()
            );
            self.fail(&reason, out);
            return None;
        }
        let unknown = ledger.believe(step, digest);
        for session in minority {
            let reason = format!("its reduced gradients of step {step} are not those of most ranks");
            self.expel(*session, exit::DIVERGED, reason, out);
            self.members.remove(*session);
        }
        Some(unknown)
    }

    /// Facts of steps from `facts` on are forgotten, and states of more than `states` applied steps.
    pub(super) fn forget_from(&mut self, facts: Step, states: Step, out: &mut Vec<Command>) {
        if let Some(ledger) = &mut self.ledger {
            ledger.distrust(facts);
        }
        self.distrusted = Some(states);
        for session in self.members.live().keys().copied().collect::<Vec<_>>() {
            if let Some(member) = self.members.get_mut(session).filter(|member| member.applied.is_some()) {
                // What it still holds shows when the next group forms; it may be ahead of what was heard of it.
                member.applied = None;
                out.push(Command::Send(session, Message::Discard(states)));
            }
        }
    }

    /// The ranks that say they hold what the run cannot know, and the applied steps that it can.
    pub(super) fn impossible(&self) -> Option<(Vec<SessionId>, RangeInclusive<Step>)> {
        let ledger = self.ledger.as_ref()?;
        let known = ledger.earliest_plan()..=ledger.provable();
        let lies = |session: &&SessionId| {
            let member = self.members.live().get(session);
            !member.and_then(|member| member.applied).is_some_and(|applied| known.contains(&applied))
        };
        let ranks: Vec<SessionId> = self.members.ranks().iter().filter(lies).copied().collect();
        (!ranks.is_empty()).then_some((ranks, known))
    }

    /// Ranks that stand together hold one state: who says otherwise is turned out. Where all say the same, whoever knew of
    /// its last steps is gone, and the state goes with it.
    pub(super) fn refute(
        &mut self,
        (ranks, known): (Vec<SessionId>, RangeInclusive<Step>),
        now: Duration,
        out: &mut Vec<Command>,
    ) {
        let (first, last) = known.into_inner();
        if ranks.len() == self.members.ranks().len() {
            self.forget_from(last, last, out);
            return self.broke(&format!("nobody knows of the steps after {last} that its ranks hold"), now, out);
        }
        for session in &ranks {
            let applied = self.members.live().get(session).and_then(|member| member.applied).unwrap_or_default();
            let reason = format!("it says it holds {applied} applied steps, and the run has {first} to {last}");
            self.expel(*session, exit::DIVERGED, reason, out);
        }
        self.lose(&ranks, now, out);
    }
}
