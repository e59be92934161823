//! Joining, leaving and the making of generations (LAW): DESIGN.md section 4, reconfiguration.
//!
//! MB-1: generation and epoch only grow. A worker that cannot take part is told why, with an exit code.

use std::{collections::BTreeSet, time::Duration};

use esta_proto::{Generation, SessionId, Step};

use super::{
    Agreement, Command, Ledger, Member, Message, Notice, Phase, Record, ReplayError, Resumable, Run, Stop, exit,
    ledger::Teller,
    message::{Hello, Origin},
};

/// Groups in a row that may break with everybody in them before one worker after another is left out.
const ALL_TOGETHER: u32 = 3;

impl Run {
    pub(super) fn joined(&mut self, session: SessionId, hello: &Hello, now: Duration, out: &mut Vec<Command>) {
        if let Err(stop) = self.admit(session, hello, now, out) {
            if stop.exit_code != exit::DONE {
                out.push(Command::Notice(Notice::TurnedAway(hello.name.clone(), stop.reason.clone())));
            }
            out.push(Command::Send(session, Message::Stop(stop)));
            out.push(Command::Close(session));
        }
    }

    fn admit(&mut self, session: SessionId, hello: &Hello, now: Duration, out: &mut Vec<Command>) -> Result<(), Stop> {
        self.check_fit(hello)?;
        self.replace_predecessor(session, hello, now, out)?;
        if matches!(self.phase, Phase::Finishing | Phase::Concluding | Phase::Over) {
            return Err(stop(exit::DONE, "every step is done and the results are being written"));
        }
        self.learn_samples(hello.samples, out)?;
        for report in &hello.retained {
            if self.is_ours(session, report, out) {
                self.take_fact(report, Teller::Anybody, out);
            }
        }
        self.commit_ready(out);
        if self.phase == Phase::Over {
            return Err(stop(exit::DIVERGED, "the run cannot go on"));
        }
        self.take_in(session, hello, now, out);
        self.hear(session, now);
        self.first_join.get_or_insert(now);
        out.push(Command::Send(session, Message::Durable(self.durable)));
        match self.phase {
            Phase::Running(_) => self.meet(now, out),
            // It is let in with whoever else comes while the group is built.
            Phase::Forming => {}
            Phase::Resuming => self.resume_if_due(now, out),
            Phase::Waiting | Phase::Finishing | Phase::Concluding | Phase::Over => self.form_if_due(now, out),
        }
        Ok(())
    }

    /// A worker whose view of the model differs would reduce other tensors (RD-1).
    fn check_fit(&self, hello: &Hello) -> Result<(), Stop> {
        if hello.layout_digest == self.law.layout_digest {
            return Ok(());
        }
        let reason = format!(
            "the worker's parameter layout {} is not the job's {}: its program or its anchors differ",
            hello.layout_digest, self.law.layout_digest
        );
        Err(stop(exit::MISFIT, reason))
    }

    /// Of two processes of one name the later one stays. The same process comes again where it has noticed before us that
    /// its session broke.
    fn replace_predecessor(
        &mut self,
        session: SessionId,
        hello: &Hello,
        now: Duration,
        out: &mut Vec<Command>,
    ) -> Result<(), Stop> {
        let Some((old, member)) = self.members.named(&hello.name) else { return Ok(()) };
        if (member.incarnation, old) > (hello.incarnation, session) {
            let reason = format!("a worker named {:?} takes part already; give each its own --name", hello.name);
            return Err(stop(exit::IDENTITY, reason));
        }
        if member.incarnation < hello.incarnation {
            let reason = format!("a later process took the name {:?}", hello.name);
            out.push(Command::Send(old, Message::Stop(stop(exit::IDENTITY, reason))));
        }
        out.push(Command::Close(old));
        self.left(old, now, out);
        Ok(())
    }

    fn learn_samples(&mut self, samples: u64, out: &mut Vec<Command>) -> Result<(), Stop> {
        match self.samples {
            Some(known) if known == samples => Ok(()),
            Some(known) => {
                let reason = format!("the worker finds {samples} training samples, the run has {known}");
                Err(stop(exit::MISFIT, reason))
            }
            None if samples == 0 => Err(stop(exit::MISFIT, "the training set is empty")),
            None => {
                self.open_ledger(samples).map_err(|error| stop(exit::DIVERGED, error.to_string()))?;
                out.push(Command::Persist(Record::Samples(samples)));
                Ok(())
            }
        }
    }

    pub(super) fn open_ledger(&mut self, samples: u64) -> Result<(), ReplayError> {
        let total = self.law.total_steps(samples);
        let (snapshot, steps) = std::mem::take(&mut self.recovered);
        self.ledger = Some(Ledger::resume(self.law.clone(), total, snapshot, steps)?);
        self.samples = Some(samples);
        Ok(())
    }

    /// A worker is here, with as much of what it holds as the run can make use of.
    fn take_in(&mut self, session: SessionId, hello: &Hello, now: Duration, out: &mut Vec<Command>) {
        let mut member = Member::new(hello, now);
        let provable = self.ledger.as_ref().map_or(Step(0), Ledger::provable);
        // A state that is ahead of every fact the run can know was taken over from a rank that is gone.
        let ahead = member.applied.take_if(|applied| *applied > provable);
        let stood = member.standing.take_if(|_| ahead.is_some() || !self.accounts_for(hello)).is_some();
        let stands = member.standing.is_some();
        self.members.insert(session, member);
        if ahead.is_some() {
            out.push(Command::Send(session, Message::Discard(provable)));
        } else if stood || (stands && self.phase != Phase::Resuming) {
            // Nobody comes to the collective that it may wait in.
            out.push(Command::Send(session, Message::Lost("its group does not go on".to_owned())));
        } else if stands {
            self.hear_witness(session, hello, out);
        }
    }

    /// Whether a worker has reported every step that it holds and that is not durable. One that took over another's state
    /// has not, and its group is no witness of what it holds.
    fn accounts_for(&self, hello: &Hello) -> bool {
        let open = (self.durable.0..hello.applied.unwrap_or_default().0).map(Step);
        let reported: BTreeSet<Step> = hello.retained.iter().map(|report| report.step).collect();
        open.take(reported.len() + 1).all(|step| reported.contains(&step))
    }

    pub(super) fn left(&mut self, session: SessionId, now: Duration, out: &mut Vec<Command>) {
        let has_part = |member: &&Member| !member.finished && !member.draining && self.phase != Phase::Over;
        if let Some(member) = self.members.live().get(&session).filter(has_part) {
            out.push(Command::Notice(Notice::Gone(member.name.clone())));
        }
        self.lose(&[session], now, out);
    }

    /// Goes on without these workers: at once, and all together.
    pub(super) fn lose(&mut self, sessions: &[SessionId], now: Duration, out: &mut Vec<Command>) {
        let mut ranks = Vec::new();
        for session in sessions {
            let name = self.name_of(*session);
            self.agreement.leave(*session);
            if self.members.remove(*session) {
                ranks.push(name);
            }
        }
        if self.members.live().is_empty() {
            // Whoever comes next is the first again, and waits for company anew.
            self.first_join = None;
        }
        match self.phase {
            Phase::Waiting | Phase::Resuming | Phase::Concluding | Phase::Over => return,
            Phase::Running(_) if ranks.is_empty() => return self.regroup(now, out),
            _ if ranks.is_empty() => return,
            Phase::Finishing => {
                if self.finish_without(out) {
                    return;
                }
            }
            // Nobody has heard of this generation yet: where many leave at once it is made anew once for all of them.
            Phase::Forming if !self.forms.is_empty() => return,
            Phase::Running(_) | Phase::Forming => {}
        }
        let all = ranks.join(", ");
        let reason = if ranks.len() == 1 { format!("worker {all} left") } else { format!("workers {all} left") };
        self.end_generation(&reason, now, out);
    }

    /// Whether somebody waits for the generation to end: to be let in, or to be let go.
    pub(super) fn somebody_waits(&self) -> bool {
        self.members.live().values().any(|member| member.rank.is_none() || member.draining)
    }

    /// A worker that was asked to leave goes once the steps given out are done, or what it writes is written; at once
    /// where it has nothing in hand.
    pub(super) fn draining(&mut self, session: SessionId, now: Duration, out: &mut Vec<Command>) {
        let Some(member) = self.members.get_mut(session) else { return };
        member.draining = true;
        match self.phase {
            Phase::Running(_) if member.rank.is_some() => self.regroup(now, out),
            Phase::Resuming if member.standing.is_some() => {}
            Phase::Finishing if member.writer && !member.finished => {}
            _ => {
                self.dismiss(session, out);
                self.lose(&[session], now, out);
            }
        }
    }

    /// Those who were asked to leave go now that nothing holds them.
    fn dismiss_draining(&mut self, out: &mut Vec<Command>) {
        let leaving = self.members.live().iter().filter(|(_, member)| member.draining);
        for session in leaving.map(|(session, _)| *session).collect::<Vec<_>>() {
            self.dismiss(session, out);
            self.members.remove(session);
        }
    }

    fn dismiss(&self, session: SessionId, out: &mut Vec<Command>) {
        out.push(Command::Send(
            session,
            Message::Stop(stop(exit::DONE, "it was asked to leave, and its steps are done")),
        ));
        out.push(Command::Close(session));
    }

    /// Tells everybody that the generation is over and begins the next one.
    pub(super) fn end_generation(&mut self, reason: &str, now: Duration, out: &mut Vec<Command>) {
        out.push(Command::Notice(Notice::Ended(self.members.generation(), reason.to_owned())));
        for session in self.members.ranks().to_vec() {
            if self.members.live().contains_key(&session) {
                out.push(Command::Send(session, Message::Lost(reason.to_owned())));
            }
        }
        self.members.dissolve();
        self.begin_anew(now, out);
    }

    /// The generation is over, and the group that was prepared takes over; where none was, the next one is built.
    pub(super) fn change_over(&mut self, reason: &str, now: Duration, out: &mut Vec<Command>) {
        let Some((generation, ranks)) = self.preparing.take_built() else {
            return self.end_generation(reason, now, out);
        };
        out.push(Command::Notice(Notice::Ended(self.members.generation(), reason.to_owned())));
        self.members.dissolve();
        if self.settle(out) {
            let whole = ranks.iter().all(|session| self.members.live().contains_key(session));
            self.form(whole.then_some((generation, ranks)), now, out);
        }
    }

    /// No group stands any more: settles what its ranks left open, lets go who wants to, and forms the next one.
    pub(super) fn begin_anew(&mut self, now: Duration, out: &mut Vec<Command>) {
        self.forgo("the generation before it broke", out);
        if self.settle(out) {
            self.form_if_due(now, out);
        }
    }

    /// False when that ends the run.
    fn settle(&mut self, out: &mut Vec<Command>) -> bool {
        if !self.settle_dispute(out) {
            return false;
        }
        self.phase = Phase::Waiting;
        self.dismiss_draining(out);
        true
    }

    /// The first generation waits for company; later ones begin with whoever lives.
    pub(super) fn form_if_due(&mut self, now: Duration, out: &mut Vec<Command>) {
        let complete = self.members.live().len() as u64 >= u64::from(self.patience.workers);
        let waited = self.first_join.is_some_and(|since| now >= since + self.patience.grace);
        if self.phase == Phase::Waiting && (self.stood || complete || waited) {
            self.form(None, now, out);
        }
    }

    fn form(&mut self, prepared: Option<(Generation, Vec<SessionId>)>, now: Duration, out: &mut Vec<Command>) {
        let Some(ledger) = &self.ledger else { return };
        let resumable = Resumable { earliest: ledger.earliest_plan(), durable: self.durable };
        let prepared = prepared.or_else(|| self.without_one(resumable));
        let Some(forms) = self.members.form(prepared, resumable) else {
            if !self.members.live().is_empty() && !self.stranded {
                self.stranded = true;
                out.push(Command::Notice(Notice::Stranded(resumable.earliest)));
            }
            return;
        };
        self.phase = Phase::Forming;
        self.forming.0 = now;
        self.agreement = Agreement::of(self.members.ranks(), self.durable);
        (self.stood, self.stranded) = (true, false);
        let names: Vec<String> = self.members.in_group().map(|member| member.name.clone()).collect();
        out.push(Command::Persist(Record::Generation(self.members.generation(), names.clone())));
        out.push(Command::Notice(Notice::Formed(self.members.generation(), names)));
        self.forms = forms;
    }

    /// Where group after group broke with everybody in it, somebody cannot be reached, or does not answer, and nobody can tell who:
    /// one after another is left out, the last that came first. Whoever is waits for a group that is built beside the others' steps,
    /// and is turned away if there is none.
    fn without_one(&mut self, resumable: Resumable) -> Option<(Generation, Vec<SessionId>)> {
        let turn = self.barren.checked_sub(ALL_TOGETHER)? as usize;
        let everybody: Vec<SessionId> = self.members.live().keys().copied().collect();
        let others = |left_out: usize| -> Vec<SessionId> {
            let place = everybody.len() - 1 - (turn + left_out) % everybody.len();
            let stay = everybody.iter().enumerate().filter(|(other, _)| *other != place);
            stay.map(|(_, session)| *session).collect()
        };
        // Nobody's state is left behind with it, nor whoever makes the first one or reads a checkpoint: that takes what it takes.
        let (source, origin) = self.members.source(&everybody, resumable)?;
        let goes_on = |ranks: &Vec<SessionId>| match origin {
            Origin::Memory(_) => self.members.source(ranks, resumable).is_some_and(|(_, other)| other == origin),
            Origin::Checkpoint(_) | Origin::Fresh => ranks.contains(&source),
        };
        let ranks = (0..everybody.len()).map(others).find(goes_on)?;
        Some((self.members.number(), ranks))
    }

    /// MB-1: nobody hears of a generation that a later leader might not find on record, and number again.
    pub(super) fn announce(&mut self, generation: Generation, now: Duration, out: &mut Vec<Command>) {
        if self.phase != Phase::Forming || generation != self.members.generation() {
            return;
        }
        let forms = std::mem::take(&mut self.forms);
        if forms.iter().all(|(session, _)| self.members.live().contains_key(session)) {
            return out.extend(forms.into_iter().map(|(session, form)| Command::Send(session, Message::Form(form))));
        }
        let reason = "some of its workers left before they heard of it";
        out.push(Command::Notice(Notice::Ended(generation, reason.to_owned())));
        self.members.dissolve();
        self.begin_anew(now, out);
    }
}

pub(super) fn stop(exit_code: i32, reason: impl Into<String>) -> Stop {
    Stop { reason: reason.into(), exit_code }
}
