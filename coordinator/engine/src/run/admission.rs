//! When those who wait are let in (LAW): DESIGN.md section 4, reconfiguration.
//!
//! Once their group is built: at a boundary behind the last step given out nothing is lost. Before it the step in flight is
//! begun anew, with one more rank to run its slots: where steps take long, that is over sooner. Each time the end that is
//! expected of what is given out comes nearer, so those who come one by one cannot hold up a run.

use std::time::Duration;

use esta_proto::{SessionId, Step};

use super::{Command, Cursor, Phase, Run};
use crate::sampler::Draw;

/// What is known of slots tells no smaller part of their time than one in so many.
const TELLING: u32 = 20;

impl Run {
    /// A waiting worker is let in once everybody has finished every step given out, or at once where that is sooner done
    /// with its help.
    pub(super) fn reform_if_drained(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Phase::Running(Cursor { next, closing: true, .. }) = self.phase else { return };
        if self.agreement.confirmed() < next && !self.is_worth_it(now) {
            return;
        }
        let leaves = self.members.in_group().find(|member| member.draining);
        let reason =
            leaves.map_or_else(|| "a worker joins".to_owned(), |member| format!("worker {} leaves", member.name));
        self.change_over(&reason, now, out);
    }

    /// Whether the steps given out are done sooner if the one in flight is begun anew with everybody who will be there.
    /// Ranks keep the sums of the slots that they have done, so what is lost is a slot at most, and what it takes to enter
    /// the group. Weighed once for each step and number of the living, since it is ever less worth.
    fn is_worth_it(&mut self, now: Duration) -> bool {
        let (in_flight, alive) = (self.agreement.confirmed(), self.members.live().len());
        let disputed = self.agreement.is_disputed();
        let Phase::Running(cursor) = &mut self.phase else { return false };
        if disputed || cursor.weighed == Some((in_flight, alive)) {
            return false;
        }
        cursor.weighed = Some((in_flight, alive));
        let (Some(began), next) = (cursor.began, cursor.next) else { return false };
        let Some(slot) = self.longest_slot(in_flight) else { return false };
        // Whoever entered the last group had a slot in hand, too.
        let lost = now.saturating_sub(began).min(slot) + self.forming.1.saturating_sub(slot);
        self.gain(in_flight, next).is_some_and(|gain| lost < gain)
    }

    /// The time to expect of the longest slot of a step.
    fn longest_slot(&self, step: Step) -> Option<Duration> {
        let plan = self.ledger.as_ref()?.plan(step)?;
        let time = |draw: &Draw| self.pace.time(self.law.catalog.get(draw.stitch)?);
        plan.draws.iter().filter_map(time).max()
    }

    /// By how much less time those who will be there take for these steps than those who are.
    fn gain(&self, from: Step, to: Step) -> Option<Duration> {
        let ledger = self.ledger.as_ref()?;
        let those_who_are = self.members.slowness(self.normal);
        let leave = |member: &&super::Member| member.draining;
        let new = |session: &&SessionId| self.members.live().get(session).is_some_and(|member| member.rank.is_none());
        let waiting = self.preparing.ranks().map_or(0, |ranks| ranks.iter().filter(new).count());
        let stay = those_who_are.iter().zip(self.members.in_group()).filter(|(_, member)| !leave(member));
        let those_who_will_be: Vec<f64> =
            stay.map(|(slowness, _)| *slowness).chain(std::iter::repeat_n(1.0, waiting)).collect();
        if waiting == 0 || those_who_will_be.is_empty() {
            return None;
        }
        let (mut now, mut then) = (Duration::ZERO, Duration::ZERO);
        for step in (from.0..to.0).map(Step) {
            let plan = ledger.plan(step)?;
            now += plan.time(&self.law.catalog, &self.pace, &those_who_are)?;
            then += plan.time(&self.law.catalog, &self.pace, &those_who_will_be)?;
        }
        now.checked_sub(then).filter(|gain| *gain >= now / TELLING)
    }
}
