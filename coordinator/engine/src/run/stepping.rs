//! Giving out steps, taking reports, committing (LAW): DESIGN.md sections 3 and 4.

use std::time::Duration;

use esta_proto::{Fence, SessionId, Step};

use super::{
    Agreement, Command, Cursor, Ledger, Member, Message, Notice, Phase, Ready, Record, Report, Run, Verdict,
    ledger::Teller, tempo::Change,
};
use crate::{plan::RankPlan, table::Outcome};

/// Generations that may break in a row without finishing one step before the run gives up.
pub(super) const BARREN_LIMIT: u32 = 20;

/// Steps in a row that may be skipped for numbers that are not finite before the run gives up: it has diverged.
const SKIP_LIMIT: u32 = 10;

impl Run {
    pub(super) fn group_ready(
        &mut self,
        session: SessionId,
        fence: Fence,
        ready: Ready,
        now: Duration,
        out: &mut Vec<Command>,
    ) {
        if fence != self.fence() || self.phase != Phase::Forming {
            return refuse(session, fence, out);
        }
        let applied = ready.applied;
        // Its state is its word of the last step in it, whoever had it first.
        if let Some((before, chain)) = applied.0.checked_sub(1).map(Step).zip(ready.chain) {
            self.agreement.vote(session, before, chain);
        }
        if !self.members.stands(session, ready) {
            return;
        }
        // Only now has everybody handed over what it knows, and a rank may have taken over what another was to report.
        if let Some(impossible) = self.impossible() {
            return self.refute(impossible, now, out);
        }
        if self.members.in_group().any(|member| member.applied != Some(applied)) {
            return self.fail("ranks report different applied steps after their states were brought together", out);
        }
        // Everybody has handed over what is not durable, and what they say of one step has to be one thing.
        if self.agreement.is_disputed() {
            return self.end_generation("its ranks disagree about what they handed over", now, out);
        }
        self.commit_below(applied, out);
        if self.phase == Phase::Over {
            return;
        }
        let committed = self.ledger.as_ref().map_or(applied, Ledger::committed);
        if committed < applied {
            self.forget_from(committed, committed, out);
            return self.broke(&format!("nobody can say whose word of step {committed} is the run's"), now, out);
        }
        self.forming.1 = now.saturating_sub(self.forming.0);
        self.agreement = Agreement::of(self.members.ranks(), applied);
        self.distrusted = None;
        self.preparing.stands();
        let (closing, began) = (false, Some(now));
        self.phase = Phase::Running(Cursor { next: applied, reported: applied, closing, began, weighed: None });
        self.regroup(now, out);
    }

    pub(super) fn group_failed(
        &mut self,
        session: SessionId,
        fence: Fence,
        reason: &str,
        now: Duration,
        out: &mut Vec<Command>,
    ) {
        if self.is_coming(fence) {
            let name = self.name_of(session);
            return self.preparing_failed(&format!("worker {name}: {reason}"), now, out);
        }
        let (fence_now, resuming) = (self.fence(), self.phase == Phase::Resuming);
        let member = self.members.get_mut(session).filter(|_| fence == fence_now);
        match member {
            Some(member) if resuming && member.standing.is_some() => {
                // The generation that its leader left behind has not outlived it.
                member.standing = None;
                return self.resume_if_due(now, out);
            }
            Some(member) if member.rank.is_some() => {}
            _ => return refuse(session, fence, out),
        }
        let name = self.name_of(session);
        self.broke(&format!("worker {name}: {reason}"), now, out);
    }

    /// The generation ends because its group is of no use, which may not happen for ever.
    pub(super) fn broke(&mut self, reason: &str, now: Duration, out: &mut Vec<Command>) {
        self.barren += 1;
        if self.barren > BARREN_LIMIT {
            let reason = format!("{BARREN_LIMIT} process groups in a row finished no step, the last one: {reason}");
            return self.fail(&reason, out);
        }
        self.end_generation(reason, now, out);
    }

    pub(super) fn reported(&mut self, session: SessionId, report: &Report, now: Duration, out: &mut Vec<Command>) {
        // What a rank cannot vote on because it has none here, it hands over when its next group forms.
        let member = self.members.live().get(&session);
        let heard = member.is_some_and(|member| member.rank.is_some() || !matches!(self.phase, Phase::Running(_)));
        if !heard {
            return;
        }
        let confirmed = self.agreement.confirmed();
        // First what the rank says of itself, then what it says of the step: the run takes nobody's word who is outvoted.
        if !self.is_ours(session, report, out) || !self.vote(session, report, now, out) {
            return;
        }
        self.take_fact(report, Teller::Rank, out);
        self.commit_ready(out);
        if self.phase == Phase::Over {
            return;
        }
        self.learn_pace(session, report);
        // While a leader waits for the generation on record, its workers train on.
        let stands = |member: &&mut Member| member.rank.is_some() || member.standing.is_some();
        if let Some(member) = self.members.get_mut(session).filter(stands) {
            member.applied = member.applied.max(Some(report.step.next()));
            self.barren = 0;
            if let Phase::Running(cursor) = &mut self.phase {
                cursor.reported = cursor.reported.max(report.step.next());
            }
        }
        self.reform_if_drained(now, out);
        if self.agreement.confirmed() > confirmed {
            self.meet(now, out);
        }
        self.advance(out);
    }

    /// A step that is known no more teaches nothing; that happens to facts that come late.
    fn learn_pace(&mut self, session: SessionId, report: &Report) {
        let Some(ledger) = &self.ledger else { return };
        let (mut took, mut expected) = (Duration::ZERO, Some(Duration::ZERO));
        let Some(member) = self.members.get_mut(session) else { return };
        let slowness =
            member.tempo.ratio().zip(self.normal).map_or(1.0, |(ratio, normal)| (ratio / normal.median).max(1.0));
        for (slot, slot_took) in &report.timings.slots {
            let stitch = ledger.drawn(report.step, *slot).and_then(|stitch| self.law.catalog.get(stitch));
            let Some(stitch) = stitch else { continue };
            took += *slot_took;
            expected = expected.zip(self.pace.time(stitch)).map(|(sum, time)| sum + time);
            self.pace.hear(stitch, slot_took.div_f64(slowness));
        }
        member.tempo.hear(took, expected);
    }

    /// Once per step: who is slow beside the others.
    pub(super) fn compare_tempi(&mut self, now: Duration, out: &mut Vec<Command>) {
        self.normal = self.members.normal();
        let Some(normal) = self.normal else { return };
        for session in self.members.ranks().to_vec() {
            let Some(member) = self.members.get_mut(session) else { continue };
            let name = || member.name.clone();
            out.extend(member.tempo.compare(&normal, now).map(|change| match change {
                Change::Slow(times) => Command::Notice(Notice::Straggler(name(), times)),
                Change::KeepsUp => Command::Notice(Notice::KeepsUp(name())),
            }));
        }
    }

    /// Whether a report is of a plan of this run, and of a step that nobody has to forget.
    pub(super) fn is_ours(&self, session: SessionId, report: &Report, out: &mut Vec<Command>) -> bool {
        let Some(ledger) = &self.ledger else { return false };
        let foreign = ledger.judge(report) == Verdict::Foreign;
        if foreign {
            out.push(Command::Notice(Notice::ForeignReport(session, report.step)));
        }
        !foreign && self.distrusted.is_none_or(|from| report.step < from)
    }

    /// Keeps a fact.
    pub(super) fn take_fact(&mut self, report: &Report, teller: Teller, out: &mut Vec<Command>) {
        let verdict = self.ledger.as_mut().map(|ledger| ledger.accept(report, teller));
        if verdict == Some(Verdict::Duplicate) && !report.outcomes.is_empty() {
            self.duplicates += 1;
        }
        if verdict == Some(Verdict::RedoDiffers) {
            out.push(Command::Notice(Notice::RedoDiffers(report.step)));
        }
    }

    /// Commits what may be: a step that most ranks hold and whose predecessor every rank has confirmed. While no group
    /// stands nothing does: what is handed over meanwhile may be one rank's word against another's.
    pub(super) fn commit_ready(&mut self, out: &mut Vec<Command>) {
        if matches!(self.phase, Phase::Running(_) | Phase::Resuming) {
            self.commit_below(self.agreement.may_commit(), out);
        }
    }

    fn commit_below(&mut self, below: Step, out: &mut Vec<Command>) {
        let Some(ledger) = &mut self.ledger else { return };
        let records = ledger.commit_ready(below, |step| self.agreement.digest(step));
        self.agreement.committed(ledger.committed());
        for record in records {
            if record.outcomes.iter().all(|outcome: &Outcome| outcome.valid) {
                self.skipped = 0;
            } else {
                self.skipped += 1;
                out.push(Command::Notice(Notice::Skipped(record.step)));
            }
            let step = record.step;
            out.push(Command::Persist(Record::Step(record)));
            if self.skipped >= SKIP_LIMIT {
                let reason = format!(
                    "{SKIP_LIMIT} steps in a row, the last one {step}, had losses or gradients that are not finite; \
                     lower train.learning_rate, or look for damaged anchors and images"
                );
                return self.fail(&reason, out);
            }
        }
    }

    pub(super) fn persisted(&mut self, step: Step, out: &mut Vec<Command>) {
        self.durable = self.durable.max(step.next());
        let mut next = Vec::new();
        self.advance(&mut next);
        // A plan says it too: a step costs each rank one message.
        let planned = next.iter().any(|command| matches!(command, Command::Send(_, Message::Plan(_))));
        let untold = self.members.live().iter().filter(|(_, member)| !(planned && member.rank.is_some()));
        out.extend(untold.map(|(session, _)| Command::Send(*session, Message::Durable(self.durable))));
        out.append(&mut next);
    }

    /// Gives out every step whose turn has come, and ends the run after the last one.
    ///
    /// A generation runs at most K + 1 steps ahead of what it has finished and of what is durable.
    pub(super) fn advance(&mut self, out: &mut Vec<Command>) {
        let (Phase::Running(cursor), Some(ledger)) = (&mut self.phase, &self.ledger) else { return };
        let lookahead = u64::from(self.law.spec.sampling.lookahead);
        let last = cursor.reported.min(self.durable).0 + lookahead;
        // Nobody trains on top of what may have to be forgotten.
        let held = cursor.closing || self.agreement.is_disputed();
        while !held && cursor.next.0 <= last && cursor.next < ledger.total() {
            let Some(plan) = ledger.plan(cursor.next) else { break };
            let slowness = self.members.slowness(self.normal);
            let shares = plan.shares(&self.law.catalog, &self.pace, &slowness, &self.members.computed(&plan));
            let durable = self.durable;
            let sends = self.members.ranks().iter().zip(shares);
            out.extend(
                sends.map(|(session, share)| Command::Send(*session, Message::Plan(RankPlan { durable, ..share }))),
            );
            cursor.next = cursor.next.next();
        }
        let total = ledger.total();
        // What everybody has confirmed everybody has applied: nobody is asked before that, report by report.
        let confirmed = self.durable >= total && self.agreement.confirmed() >= total;
        if confirmed && self.members.in_group().all(|member| member.applied >= Some(total)) {
            self.finish(out);
        }
    }

    /// A complete checkpoint: facts older than the retained ones are no longer needed to go on.
    pub(super) fn checkpoint_saved(&mut self, session: SessionId, step: Step, out: &mut Vec<Command>) {
        // No worker writes a checkpoint before it was told that its steps are durable.
        let Some(member) = self.members.get_mut(session).filter(|_| step <= self.durable) else { return };
        member.checkpoints.insert(step);
        // What is said again, or of one that is to go at once, is no reason to write a snapshot.
        let full = self.checkpoints.len() >= self.law.spec.train.save_total_limit as usize;
        let late = full && self.checkpoints.first().is_some_and(|oldest| step < *oldest);
        if late || !self.checkpoints.insert(step) {
            return;
        }
        self.drop_old_checkpoints();
        let full = self.checkpoints.len() == self.law.spec.train.save_total_limit as usize;
        out.push(Command::Persist(Record::Checkpoint(step)));
        let Some(ledger) = &mut self.ledger else { return };
        if let (true, Some(oldest)) = (full, self.checkpoints.first()) {
            ledger.forget_below(*oldest);
            out.push(Command::Persist(Record::Trim(*oldest)));
        }
        out.push(Command::Persist(Record::Snapshot(Box::new(ledger.snapshot()))));
    }

    /// Workers keep the newest few.
    pub(super) fn drop_old_checkpoints(&mut self) {
        while self.checkpoints.len() > self.law.spec.train.save_total_limit as usize {
            self.checkpoints.pop_first();
        }
    }
}

fn refuse(session: SessionId, fence: Fence, out: &mut Vec<Command>) {
    out.push(Command::Send(session, Message::Refused(format!("sent under the fence {fence}"))));
}
