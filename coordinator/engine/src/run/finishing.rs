//! The end of a run (LAW): one rank writes the results, the others stand by to take its place.

use esta_proto::{Rank, SessionId};

use super::{Command, Finish, Member, Message, Notice, Phase, Record, Run, exit, joining::stop};
use crate::{
    palette::{self, Choice},
    spec::PaletteRule,
};

impl Run {
    /// Every step is durable, and every rank holds the final state: the first of them writes the results.
    pub(super) fn finish(&mut self, out: &mut Vec<Command>) {
        self.forgo("every step is done", out);
        self.phase = Phase::Finishing;
        let palettes = self.palettes();
        for (rank, session) in self.members.ranks().to_vec().into_iter().enumerate() {
            self.entrust(session, Finish { writer: rank == 0, palettes: palettes.clone() }, out);
        }
    }

    fn palettes(&self) -> Vec<(PaletteRule, Vec<Choice>)> {
        let Some(ledger) = &self.ledger else { return Vec::new() };
        palette::of_every_rule(&self.law.catalog, ledger.table())
    }

    fn entrust(&mut self, session: SessionId, finish: Finish, out: &mut Vec<Command>) {
        let Some(member) = self.members.get_mut(session) else { return };
        (member.writer, member.finished) = (finish.writer, false);
        out.push(Command::Send(session, Message::Finish(finish)));
    }

    /// A rank has done what it was asked as `writer` or not. Who has become the writer since is not done with that.
    pub(super) fn finale_done(&mut self, session: SessionId, writer: bool, out: &mut Vec<Command>) {
        if let Some(member) = self.members.get_mut(session).filter(|member| member.writer == writer) {
            member.finished = true;
        }
        self.complete_if_finished(out);
    }

    /// A rank is gone while the results are written: where it was the writer the next one begins anew, and no group has
    /// to be formed for that. False when nobody is left who could.
    pub(super) fn finish_without(&mut self, out: &mut Vec<Command>) -> bool {
        if self.members.in_group().next().is_none() {
            return false;
        }
        if !self.members.in_group().any(|member| member.writer) {
            let rank = |(session, member): (&SessionId, &Member)| Some((member.draining, member.rank?, *session));
            let next: Option<(bool, Rank, SessionId)> = self.members.live().iter().filter_map(rank).min();
            if let Some((_, _, session)) = next {
                self.entrust(session, Finish { writer: true, palettes: self.palettes() }, out);
            }
        }
        self.complete_if_finished(out);
        true
    }

    fn complete_if_finished(&mut self, out: &mut Vec<Command>) {
        if self.phase == Phase::Finishing && self.members.in_group().all(|member| member.finished) {
            self.phase = Phase::Concluding;
            out.push(Command::Persist(Record::Complete));
        }
    }

    /// The end is on record: whoever leads next would find it. Nobody is let go before, who might be needed to write again.
    pub(super) fn concluded(&mut self, out: &mut Vec<Command>) {
        if self.phase != Phase::Concluding {
            return;
        }
        for session in self.members.live().keys() {
            out.push(Command::Send(*session, Message::Stop(stop(exit::DONE, "the run is complete"))));
        }
        self.phase = Phase::Over;
        out.push(Command::Complete);
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
