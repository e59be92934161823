//! Who still lives (LAW): DESIGN.md section 4, liveness. A reset stream is heard of at once; this is about workers whose
//! stream stands and who say nothing, or whose trainer gets nowhere.
//!
//! A rank that waits in the all-reduce is never blamed for what it waits for: its peer is the one that computes for too
//! long, or says nothing.

use std::time::Duration;

use esta_proto::SessionId;

use super::{
    Activity, Command, Member, Message, Notice, Phase, Progress, Run, exit, joining::stop, stepping::BARREN_LIMIT,
};
use crate::spec::seconds;

/// Looks per `timeouts.keepalive`.
const LOOKS: u32 = 6;
/// A trainer that hangs costs its peers this many groups, each as long as a collective may take, before it is ended.
const GROUPS: u32 = 3;
/// A slot may take this many times what it is known to cost.
const GENEROUS: u32 = 10;

impl Run {
    /// The last sign of life of a session.
    pub(super) fn hear(&mut self, session: SessionId, now: Duration) {
        if let Some(member) = self.members.get_mut(session) {
            member.heard = now;
        }
        self.next_look.get_or_insert(now + self.keepalive() / LOOKS);
    }

    pub(super) fn progressed(&mut self, session: SessionId, progress: Progress) {
        if let Some(member) = self.members.get_mut(session) {
            member.doing = Some(progress);
        }
    }

    fn keepalive(&self) -> Duration {
        seconds(self.law.spec.timeouts.keepalive)
    }

    /// Looks after everybody when it is time to.
    pub(super) fn look(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Some(due) = self.next_look.filter(|due| *due <= now) else { return };
        let keepalive = self.keepalive();
        self.next_look = (!self.members.live().is_empty()).then_some(now + keepalive / LOOKS);
        if now - due > keepalive / 2 {
            // This process was stopped or starved: what it did not hear, nobody need have left unsaid.
            return self.members.all_heard(now);
        }
        if self.phase == Phase::Over {
            return;
        }
        let silent: Vec<(SessionId, Duration)> = self
            .members
            .live()
            .iter()
            .map(|(session, member)| (*session, now.saturating_sub(member.heard)))
            .filter(|(_, silence)| *silence > keepalive)
            .collect();
        let hung: Vec<(SessionId, String)> =
            self.members.live().keys().filter_map(|session| Some((*session, self.hangs(*session, now)?))).collect();
        for (session, silence) in &silent {
            let last = self.members.live().get(session).and_then(|member| member.doing);
            let last = last.map_or_else(String::new, |doing| format!(", heard last {}", doing.activity.in_words()));
            let reason = format!("it was silent for {:.1} s{last}", silence.as_secs_f64());
            out.push(Command::Notice(Notice::Evicted(self.name_of(*session), reason.clone())));
            out.push(Command::Evict(*session, reason));
        }
        for (session, reason) in &hung {
            self.expel(*session, exit::HUNG, reason.clone(), out);
        }
        let lost: Vec<SessionId> =
            silent.into_iter().map(|(session, _)| session).chain(hung.into_iter().map(|(s, _)| s)).collect();
        self.lose(&lost, now, out);
    }

    /// What a worker's trainer has been at for too long.
    fn hangs(&self, session: SessionId, now: Duration) -> Option<String> {
        let member = self.members.live().get(&session)?;
        let Progress { activity, since } = member.doing?;
        let busy = since + now.saturating_sub(member.heard);
        (busy > self.limit(member, activity)?)
            .then(|| format!("its trainer has been {} for {:.1} s", activity.in_words(), busy.as_secs_f64()))
    }

    fn limit(&self, member: &Member, activity: Activity) -> Option<Duration> {
        let timeouts = &self.law.spec.timeouts;
        let (phase, collective) = (seconds(timeouts.phase), seconds(timeouts.collective));
        let has_peers = self.members.ranks().len() > 1;
        match activity {
            // Making the first state of a large family takes what it takes, and so do the results.
            Activity::Forming if member.originates => None,
            Activity::Writing if matches!(self.phase, Phase::Finishing | Phase::Concluding) => None,
            // Its peers have given up on several groups by then, each of which it was to leave at once.
            Activity::Forming if has_peers => Some(GROUPS * collective + self.keepalive()),
            // A checkpoint on a slow disk gets done while they do, and the run goes on; but not for ever.
            Activity::Writing if has_peers => Some(BARREN_LIMIT / 2 * collective),
            Activity::Idle | Activity::Forming | Activity::Writing => None,
            Activity::Reduce(_) => Some(collective + self.keepalive()),
            Activity::Batch(..) | Activity::Apply(_) => Some(phase),
            Activity::Compute(step, slot) => {
                let stitch = self.ledger.as_ref().and_then(|ledger| ledger.drawn(step, slot));
                let stitch = stitch.and_then(|stitch| self.law.catalog.get(stitch));
                let expected = stitch.and_then(|stitch| self.pace.time(stitch)).unwrap_or_default();
                // Beyond the collective's patience its peers would break the group, and nobody would know why.
                Some(phase.max(GENEROUS * expected).min(collective))
            }
        }
    }

    /// Ends a worker's process for a reason that its operator is told; it is still counted among the living.
    pub(super) fn expel(&self, session: SessionId, exit_code: i32, reason: String, out: &mut Vec<Command>) {
        out.push(Command::Notice(Notice::Evicted(self.name_of(session), reason.clone())));
        out.push(Command::Send(session, Message::Stop(stop(exit_code, reason))));
        out.push(Command::Close(session));
    }

    pub(super) fn name_of(&self, session: SessionId) -> String {
        self.members.live().get(&session).map(|member| member.name.clone()).unwrap_or_default()
    }
}
