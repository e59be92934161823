//! Giving out steps, taking reports, committing, finishing (LAW): DESIGN.md sections 3 and 4.

use std::time::Duration;

use esta_proto::{Fence, SessionId, Step};

use super::{Command, Cursor, Finish, Message, Notice, Phase, Record, Report, Run, Verdict, exit, joining::stop};
use crate::{palette, spec::PaletteRule, table::Outcome};

/// Generations that may break in a row without finishing one step before the run gives up.
const BARREN_LIMIT: u32 = 20;

/// Steps in a row that may be skipped for numbers that are not finite before the run gives up: it has diverged.
const SKIP_LIMIT: u32 = 10;

impl Run {
    pub(super) fn group_ready(&mut self, session: SessionId, fence: Fence, applied: Step, out: &mut Vec<Command>) {
        if fence != self.fence() || self.phase != Phase::Forming {
            return refuse(session, fence, out);
        }
        let Some(member) = self.members.get_mut(session) else { return };
        member.ready = true;
        member.applied = Some(applied);
        if !self.members.in_group().all(|member| member.ready) {
            return;
        }
        if self.members.in_group().any(|member| member.applied != Some(applied)) {
            return self.fail("ranks report different applied steps after their states were brought together", out);
        }
        self.phase = Phase::Running(Cursor { next: applied, reported: applied, closing: false });
        self.advance(out);
    }

    pub(super) fn group_failed(
        &mut self,
        session: SessionId,
        fence: Fence,
        reason: &str,
        now: Duration,
        out: &mut Vec<Command>,
    ) {
        if fence != self.fence() || self.members.ranks().is_empty() {
            return refuse(session, fence, out);
        }
        self.barren += 1;
        if self.barren > BARREN_LIMIT {
            return self.fail(
                &format!("{BARREN_LIMIT} process groups in a row finished no step, the last one: {reason}"),
                out,
            );
        }
        let name = self.members.live().get(&session).map_or("", |member| &member.name).to_owned();
        self.end_generation(&format!("worker {name}: {reason}"), now, out);
    }

    pub(super) fn reported(&mut self, session: SessionId, report: &Report, now: Duration, out: &mut Vec<Command>) {
        if !self.take_fact(session, report, out) {
            return;
        }
        self.learn_pace(report);
        if let Some(member) = self.members.get_mut(session).filter(|member| member.rank.is_some()) {
            member.applied = member.applied.max(Some(report.step.next()));
            self.barren = 0;
            if let Phase::Running(cursor) = &mut self.phase {
                cursor.reported = cursor.reported.max(report.step.next());
            }
        }
        self.reform_if_drained(now, out);
        self.advance(out);
    }

    /// A step that is known no more teaches nothing; that happens to facts that come late.
    fn learn_pace(&mut self, report: &Report) {
        let Some(ledger) = &self.ledger else { return };
        for (slot, took) in &report.timings.slots {
            let stitch = ledger.drawn(report.step, *slot).and_then(|stitch| self.law.catalog.get(stitch));
            if let Some(stitch) = stitch {
                self.pace.hear(stitch, *took);
            }
        }
    }

    /// Enters a fact and commits what it completes; false when it belongs to no plan of this run, or ended it.
    pub(super) fn take_fact(&mut self, session: SessionId, report: &Report, out: &mut Vec<Command>) -> bool {
        let Some(ledger) = &mut self.ledger else { return false };
        match ledger.accept(report) {
            Verdict::Accepted | Verdict::Duplicate => {}
            Verdict::RedoDiffers => out.push(Command::Notice(Notice::RedoDiffers(report.step))),
            Verdict::Foreign => {
                out.push(Command::Notice(Notice::ForeignReport(session, report.step)));
                return false;
            }
        }
        if !self.agree(report) {
            self.fail(&format!("ranks disagree about the reduced gradients of step {}", report.step), out);
            return false;
        }
        self.commit_ready(out);
        if self.skipped >= SKIP_LIMIT {
            self.fail(
                &format!(
                    "{SKIP_LIMIT} steps in a row, the last one {}, had losses or gradients that are not finite; \
                     lower train.learning_rate, or look for damaged anchors and images",
                    report.step
                ),
                out,
            );
            return false;
        }
        true
    }

    /// RD-3: all ranks of a generation hold identical adapters, so their digests of a step are the same.
    fn agree(&mut self, report: &Report) -> bool {
        let oldest = report.step.0.saturating_sub(DIGESTS_KEPT);
        self.digests = self.digests.split_off(&(self.members.generation(), Step(oldest)));
        let key = (self.members.generation(), report.step);
        *self.digests.entry(key).or_insert(report.reduced) == report.reduced
    }

    fn commit_ready(&mut self, out: &mut Vec<Command>) {
        let Some(ledger) = &mut self.ledger else { return };
        for record in ledger.commit_ready() {
            if record.outcomes.iter().all(|outcome: &Outcome| outcome.valid) {
                self.skipped = 0;
            } else {
                self.skipped += 1;
                out.push(Command::Notice(Notice::Skipped(record.step)));
            }
            out.push(Command::Persist(Record::Step(record)));
        }
    }

    pub(super) fn persisted(&mut self, step: Step, out: &mut Vec<Command>) {
        self.durable = self.durable.max(step.next());
        for session in self.members.live().keys() {
            out.push(Command::Send(*session, Message::Durable(self.durable)));
        }
        self.advance(out);
    }

    /// Gives out every step whose turn has come, and ends the run after the last one.
    ///
    /// A generation runs at most K + 1 steps ahead of what it has finished and of what is durable.
    fn advance(&mut self, out: &mut Vec<Command>) {
        let (Phase::Running(cursor), Some(ledger)) = (&mut self.phase, &self.ledger) else { return };
        let lookahead = u64::from(self.law.spec.sampling.lookahead);
        let last = cursor.reported.min(self.durable).0 + lookahead;
        while !cursor.closing && cursor.next.0 <= last && cursor.next < ledger.total() {
            let Some(plan) = ledger.plan(cursor.next) else { break };
            let shares = plan.shares(&self.law.catalog, &self.pace, self.members.ranks().len() as u32);
            let sends = self.members.ranks().iter().zip(shares);
            out.extend(sends.map(|(session, share)| Command::Send(*session, Message::Plan(share))));
            cursor.next = cursor.next.next();
        }
        let total = ledger.total();
        if self.durable >= total && self.members.in_group().all(|member| member.applied >= Some(total)) {
            self.finish(out);
        }
    }

    /// A waiting worker is let in once everybody has finished every step given out.
    pub(super) fn reform_if_drained(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Phase::Running(Cursor { next, closing: true, .. }) = self.phase else { return };
        if self.members.in_group().all(|member| member.applied >= Some(next)) {
            self.end_generation("a worker joins", now, out);
        }
    }

    fn finish(&mut self, out: &mut Vec<Command>) {
        let Some(ledger) = &self.ledger else { return };
        let choose = |rule| (rule, palette::palette(&self.law.catalog, ledger.table(), rule));
        let palettes = PaletteRule::ALL.map(choose).to_vec();
        for (rank, session) in self.members.ranks().iter().enumerate() {
            let finish = Finish { writer: rank == 0, palettes: palettes.clone() };
            out.push(Command::Send(*session, Message::Finish(finish)));
        }
        self.phase = Phase::Finishing;
    }

    pub(super) fn finale_done(&mut self, session: SessionId, out: &mut Vec<Command>) {
        if let Some(member) = self.members.get_mut(session) {
            member.finished = true;
        }
        if self.phase != Phase::Finishing || !self.members.in_group().all(|member| member.finished) {
            return;
        }
        for session in self.members.live().keys() {
            out.push(Command::Send(*session, Message::Stop(stop(exit::DONE, "the run is complete"))));
        }
        self.phase = Phase::Over;
        out.push(Command::Complete);
    }

    /// A complete checkpoint: facts older than the retained ones are no longer needed to go on.
    pub(super) fn checkpoint_saved(&mut self, session: SessionId, step: Step, out: &mut Vec<Command>) {
        if let Some(member) = self.members.get_mut(session) {
            member.checkpoints.insert(step);
        }
        self.checkpoints.insert(step);
        while self.checkpoints.len() > self.law.spec.train.save_total_limit as usize {
            self.checkpoints.pop_first();
        }
        let full = self.checkpoints.len() == self.law.spec.train.save_total_limit as usize;
        if let (true, Some(oldest), Some(ledger)) = (full, self.checkpoints.first(), &mut self.ledger) {
            ledger.forget_below(*oldest);
        }
        out.push(Command::Persist(Record::Checkpoint(step)));
    }

    pub(super) fn fail(&mut self, reason: &str, out: &mut Vec<Command>) {
        if self.phase == Phase::Over {
            return;
        }
        out.push(Command::Notice(Notice::Failed(reason.to_owned())));
        for session in self.members.live().keys() {
            out.push(Command::Send(*session, Message::Stop(stop(exit::DIVERGED, reason))));
        }
        self.phase = Phase::Over;
        out.push(Command::Complete);
    }
}

/// Steps whose digests are compared between ranks before they are dropped.
const DIGESTS_KEPT: u64 = 128;

fn refuse(session: SessionId, fence: Fence, out: &mut Vec<Command>) {
    out.push(Command::Send(session, Message::Refused(format!("sent under the fence {fence}"))));
}
