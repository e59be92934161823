//! A rank's plan on the wire (LAW): short, since every rank is told of every step, and checked for damage on its way.

use esta_proto::{GroupId, InvalidMessage, SlotId, Step, StitchId, digest, v1};

use super::check::{come_to, words};
use crate::plan::{RankPlan, Reporter};

impl From<&RankPlan> for v1::Plan {
    fn from(plan: &RankPlan) -> Self {
        let work = |(slot, stitch): &(SlotId, StitchId)| v1::SlotWork { slot: slot.0, stitch: stitch.0 };
        let mut message = Self {
            step: plan.step.0,
            digest: plan.digest.0.to_vec(),
            table_version: plan.table_version.0,
            first_sample: plan.first_sample,
            slots: plan.slots.iter().map(work).collect(),
            slots_in_step: plan.slots_in_step,
            reporter: plan.reporter == Reporter::Yes,
            touched: counts_to_wire(&plan.touched),
            durable_steps: plan.durable.0,
            check: 0,
        };
        message.check = check_of(&message);
        message
    }
}

impl TryFrom<&v1::Plan> for RankPlan {
    type Error = InvalidMessage;

    fn try_from(plan: &v1::Plan) -> Result<Self, InvalidMessage> {
        if plan.check != check_of(plan) {
            return Err(InvalidMessage::Damaged { message: "Plan" });
        }
        Ok(Self {
            step: Step(plan.step),
            digest: digest(&plan.digest, "Plan.digest")?,
            table_version: Step(plan.table_version),
            first_sample: plan.first_sample,
            slots: plan.slots.iter().map(|work| (SlotId(work.slot), StitchId(work.stitch))).collect(),
            touched: counts_from_wire(&plan.touched)?,
            slots_in_step: plan.slots_in_step,
            reporter: if plan.reporter { Reporter::Yes } else { Reporter::No },
            durable: Step(plan.durable_steps),
        })
    }
}

/// What the numbers of a plan come to, but for the one that says so.
fn check_of(plan: &v1::Plan) -> u32 {
    let step = [plan.step, plan.table_version, plan.first_sample, plan.durable_steps];
    let rest = [u64::from(plan.slots_in_step) << 1 | u64::from(plan.reporter), plan.slots.len() as u64];
    let slots = plan.slots.iter().map(|work| u64::from(work.slot) << 32 | u64::from(work.stitch));
    let touched = plan.touched.iter().map(|number| u64::from(*number));
    come_to(step.into_iter().chain(rest).chain(words(&plan.digest)).chain(slots).chain(touched))
}

/// Where every group of a family is touched, a byte says how often: the numbers of the groups follow from their order.
fn counts_to_wire(touched: &[(GroupId, u32)]) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(touched.len());
    let mut due = 0;
    for (group, count) in touched {
        let left_out = group.0 - due;
        numbers.push(count << 1 | u32::from(left_out > 0));
        numbers.extend((left_out > 0).then_some(left_out));
        due = group.0 + 1;
    }
    numbers
}

fn counts_from_wire(numbers: &[u32]) -> Result<Vec<(GroupId, u32)>, InvalidMessage> {
    let flaw = InvalidMessage::List { field: "Plan.touched" };
    let mut touched = Vec::with_capacity(numbers.len());
    let (mut numbers, mut due) = (numbers.iter(), 0_u32);
    while let Some(number) = numbers.next() {
        let left_out = if number & 1 == 1 { *numbers.next().ok_or_else(|| flaw.clone())? } else { 0 };
        let group = due.checked_add(left_out).ok_or_else(|| flaw.clone())?;
        touched.push((GroupId(group), number >> 1));
        due = group.checked_add(1).ok_or_else(|| flaw.clone())?;
    }
    Ok(touched)
}

#[cfg(test)]
mod tests {
    use esta_proto::Digest;

    use super::*;

    #[test]
    fn a_plan_survives_the_wire() {
        let plan = RankPlan {
            step: Step(3),
            digest: Digest([9; 32]),
            table_version: Step(1),
            first_sample: 192,
            slots: vec![(SlotId(0), StitchId(5)), (SlotId(3), StitchId(2))],
            touched: vec![(GroupId(0), 2), (GroupId(8), 1)],
            slots_in_step: 4,
            reporter: Reporter::Yes,
            durable: Step(2),
        };
        assert_eq!(RankPlan::try_from(&v1::Plan::from(&plan)), Ok(plan));
    }

    #[test]
    fn a_plan_that_was_damaged_on_its_way_is_refused() {
        let plan = RankPlan {
            step: Step(3),
            digest: Digest([9; 32]),
            table_version: Step(1),
            first_sample: 192,
            slots: vec![(SlotId(0), StitchId(5))],
            touched: vec![(GroupId(0), 1)],
            slots_in_step: 1,
            reporter: Reporter::No,
            durable: Step(2),
        };
        let whole = v1::Plan::from(&plan);
        let changes: [fn(&mut v1::Plan); 9] = [
            |plan| plan.step += 1,
            |plan| plan.digest[31] ^= 1,
            |plan| [0, 16].iter().for_each(|at| plan.digest[*at] ^= 0x80),
            |plan| plan.first_sample ^= 1 << 63,
            |plan| plan.slots[0].stitch ^= 1,
            |plan| plan.touched[0] = 4,
            |plan| plan.reporter = true,
            |plan| plan.durable_steps = 0,
            |plan| plan.check ^= 1,
        ];
        for change in changes {
            let mut damaged = whole.clone();
            change(&mut damaged);
            assert_eq!(RankPlan::try_from(&damaged), Err(InvalidMessage::Damaged { message: "Plan" }), "{damaged:?}");
        }
    }

    #[test]
    fn a_group_that_is_touched_takes_a_number_and_a_gap_one_more() {
        let touched = [(0, 2), (1, 7), (9, 1), (10, 63), (12, 1)].map(|(group, count)| (GroupId(group), count));
        let numbers = counts_to_wire(&touched);
        assert_eq!(numbers, [4, 14, 3, 7, 126, 3, 1]);
        assert_eq!(counts_from_wire(&numbers), Ok(touched.to_vec()));
        let flaw = Err(InvalidMessage::List { field: "Plan.touched" });
        assert_eq!(counts_from_wire(&[3]), flaw);
        assert_eq!(counts_from_wire(&[3, u32::MAX]), flaw);
    }
}
