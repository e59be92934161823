//! What a rank has summed of a step (HANDS).

use std::collections::BTreeSet;

use esta_engine::plan::RankPlan;
use esta_model::{SlotResult, StepBuffer};
use esta_proto::{Digest, SlotId, Step};

use super::super::{Job, State};

/// The sum of some slots of a step, over one state.
pub struct Sum {
    pub step: Step,
    pub plan: Digest,
    /// The state's chained digest.
    pub chain: Digest,
    pub slots: BTreeSet<SlotId>,
    pub buffer: StepBuffer,
}

impl Sum {
    /// Of no slots yet.
    pub fn new(job: &Job, state: &State, plan: &RankPlan) -> Self {
        let buffer = StepBuffer::new(&state.store, &plan.touched, plan.slots_in_step, &job.family.law.spec.reduce);
        Self { step: plan.step, plan: plan.digest, chain: state.chain, slots: BTreeSet::new(), buffer }
    }

    /// Adds a slot.
    pub fn add(&mut self, state: &State, slot: SlotId, result: &SlotResult) {
        self.buffer.add_slot(&state.store, slot, result);
        self.slots.insert(slot);
    }

    /// Whether a share of a plan over this state can go on from it: it has no slot that now is another rank's (ST-1).
    pub fn is_of(&self, plan: &RankPlan, state: &State) -> bool {
        let share: BTreeSet<SlotId> = plan.slots.iter().map(|(slot, _)| *slot).collect();
        (self.step, self.plan, self.chain) == (plan.step, plan.digest, state.chain) && self.slots.is_subset(&share)
    }

    /// One more of it: a reduction leaves nothing of what it is given where it breaks.
    pub fn copy(&self) -> Self {
        Self { slots: self.slots.clone(), buffer: self.buffer.copy(), ..*self }
    }
}
