//! Giving out steps, taking reports, committing, finishing (LAW): DESIGN.md sections 3 and 4.

use std::time::Duration;

use esta_proto::{Digest, Fence, SessionId, Step};

use super::{
    Agreement, Command, Cursor, Finish, Member, Message, Notice, Phase, Record, Report, Run, Verdict,
    agreement::Finding, exit, joining::stop,
};
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
        self.agreement = Agreement::of(self.members.ranks(), applied);
        self.distrusted = None;
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
        if !self.take_fact(session, report, out) || !self.vote(session, report, now, out) {
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
    fn compare_tempi(&mut self, out: &mut Vec<Command>) {
        self.normal = self.members.normal();
        let Some(normal) = self.normal else { return };
        for session in self.members.ranks().to_vec() {
            let Some(member) = self.members.get_mut(session) else { continue };
            let Some(ratio) = member.tempo.ratio() else { continue };
            let flag = normal.flags(ratio, member.tempo.flagged);
            if flag != member.tempo.flagged {
                member.tempo.flagged = flag;
                let name = member.name.clone();
                let times = ratio / normal.median;
                out.push(Command::Notice(if flag { Notice::Straggler(name, times) } else { Notice::KeepsUp(name) }));
            }
        }
    }

    /// Enters a fact and commits what it completes; false when it belongs to no plan of this run, or ended it.
    pub(super) fn take_fact(&mut self, session: SessionId, report: &Report, out: &mut Vec<Command>) -> bool {
        let Some(ledger) = &mut self.ledger else { return false };
        if self.distrusted.is_some_and(|from| report.step >= from) {
            return false;
        }
        match ledger.accept(report) {
            Verdict::Accepted | Verdict::Duplicate => {}
            Verdict::RedoDiffers => out.push(Command::Notice(Notice::RedoDiffers(report.step))),
            Verdict::Foreign => {
                out.push(Command::Notice(Notice::ForeignReport(session, report.step)));
                return false;
            }
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

    /// RD-3: all ranks of a generation hold identical adapters, so their digests of a step are the same. Of ranks that
    /// disagree the majority goes on without the others; without a majority, or when the minority's word is on record
    /// already, nobody can say what the run is. False when the generation is over.
    fn vote(&mut self, session: SessionId, report: &Report, now: Duration, out: &mut Vec<Command>) -> bool {
        if !matches!(self.phase, Phase::Running(_)) {
            return true;
        }
        let before = self.agreement.confirmed();
        match self.agreement.vote(session, report.step, report.reduced) {
            Finding::Open => {
                if self.agreement.confirmed() > before {
                    self.compare_tempi(out);
                    self.commit_ready(out);
                }
                true
            }
            Finding::Torn(step) => {
                self.fail(&format!("ranks disagree about the reduced gradients of step {step}"), out);
                false
            }
            Finding::Outvoted { step, digest, minority } => {
                self.outvote(step, digest, &minority, now, out);
                false
            }
        }
    }

    fn outvote(&mut self, step: Step, digest: Digest, minority: &[SessionId], now: Duration, out: &mut Vec<Command>) {
        let Some(ledger) = &mut self.ledger else { return };
        let (ranks, others) = (self.members.ranks().len(), minority.len());
        let told = ledger.holds(step, digest) == Some(false);
        if told && ledger.committed() > step {
            let reason = format!(
                "{others} of {ranks} ranks disagree about the reduced gradients of step {step}, and theirs are on record"
            );
            return self.fail(&reason, out);
        }
        ledger.distrust(if told { step } else { step.next() });
        self.distrusted = Some(step.next());
        for session in minority {
            let name = self.name_of(*session);
            let reason = format!("its reduced gradients of step {step} are not those of the {} others", ranks - others);
            out.push(Command::Notice(Notice::Evicted(name, reason.clone())));
            out.push(Command::Send(*session, Message::Stop(stop(exit::DIVERGED, reason))));
            out.push(Command::Close(*session));
        }
        for session in self.members.ranks().to_vec() {
            if let Some(member) = self.members.get_mut(session).filter(|_| !minority.contains(&session)) {
                // What it still holds shows when the next group forms; it may be ahead of what was heard of it.
                member.applied = None;
                out.push(Command::Send(session, Message::Discard(step.next())));
            }
        }
        self.lose(minority, now, out);
    }

    /// Commits what may be: a step whose predecessor every rank has confirmed; anything while no rank is training.
    pub(super) fn commit_ready(&mut self, out: &mut Vec<Command>) {
        let Some(ledger) = &mut self.ledger else { return };
        let last = match self.phase {
            Phase::Running(_) => self.agreement.confirmed(),
            _ => Step(u64::MAX),
        };
        for record in ledger.commit_ready(last) {
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
    pub(super) fn advance(&mut self, out: &mut Vec<Command>) {
        let (Phase::Running(cursor), Some(ledger)) = (&mut self.phase, &self.ledger) else { return };
        let lookahead = u64::from(self.law.spec.sampling.lookahead);
        let last = cursor.reported.min(self.durable).0 + lookahead;
        let held = cursor.closing || self.agreement.is_disputed();
        while !held && cursor.next.0 <= last && cursor.next < ledger.total() {
            let Some(plan) = ledger.plan(cursor.next) else { break };
            let shares = plan.shares(&self.law.catalog, &self.pace, &self.members.slowness(self.normal));
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
        if self.agreement.confirmed() >= next {
            let leaves = self.members.in_group().find(|member| member.draining);
            let reason =
                leaves.map_or_else(|| "a worker joins".to_owned(), |member| format!("worker {} leaves", member.name));
            self.end_generation(&reason, now, out);
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

fn refuse(session: SessionId, fence: Fence, out: &mut Vec<Command>) {
    out.push(Command::Send(session, Message::Refused(format!("sent under the fence {fence}"))));
}
