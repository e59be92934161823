//! What a coordinator of a worker's job can say (LAW). Whatever else arrives is not obeyed: the trainer relies on it that a
//! plan's slots, stitches and groups are there.

use std::{collections::BTreeMap, sync::Arc};

use esta_engine::{
    catalog::Catalog,
    groups::GroupLayout,
    law::Law,
    plan::RankPlan,
    run::{Finish, Form, Message, Origin},
};
use esta_proto::{GroupId, InvalidMessage, LeaderEpoch, Rank, SlotId, Step, StitchId, v1};
use thiserror::Error;

use crate::wire::{Inbound, from_coordinator};

/// Ranks of the largest group that is believed.
const WORLD: u32 = 1 << 20;

/// Reads what a session says to a worker of one job.
#[derive(Debug, Clone)]
pub struct Reader {
    catalog: Arc<Catalog>,
    layout: Arc<GroupLayout>,
    slots: u32,
    batch_size: u64,
    /// Steps of the run.
    total: Step,
}

/// Why a message is not one of this session.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Nonsense {
    /// Something is absent or misshapen.
    #[error(transparent)]
    Malformed(#[from] InvalidMessage),
    /// Of another leader than the one whose session it is.
    #[error("it is of epoch {found} in a session of epoch {expected}")]
    Epoch {
        /// The message's.
        found: LeaderEpoch,
        /// The session's.
        expected: LeaderEpoch,
    },
    /// A step that the run does not have.
    #[error("it speaks of step {found}, and the run has {total}")]
    Step {
        /// The step.
        found: Step,
        /// Steps of the run.
        total: Step,
    },
    /// A place in a group that there cannot be.
    #[error("it speaks of rank {rank} in a group of {world}")]
    Rank {
        /// The rank.
        rank: Rank,
        /// Ranks of the group.
        world: u32,
    },
    /// A stitch that is not in the catalog.
    #[error("it names stitch {0}, which the job does not have")]
    Stitch(StitchId),
    /// A plan that no draw makes.
    #[error("the plan of step {step} {flaw}")]
    Plan {
        /// The step.
        step: Step,
        /// What is wrong with it.
        flaw: PlanFlaw,
    },
}

/// What cannot be of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanFlaw {
    /// Another batch size, or the samples of another step.
    #[error("begins at sample {found} instead of {expected}")]
    Sample {
        /// Its first sample.
        found: u64,
        /// That of its step.
        expected: u64,
    },
    /// Another number of slots.
    #[error("has {found} slots instead of {expected}")]
    Slots {
        /// Its slots.
        found: u32,
        /// The job's.
        expected: u32,
    },
    /// A slot twice, out of order, or beyond the step's.
    #[error("gives slot {0} out of turn")]
    Slot(SlotId),
    /// More than there can be before it.
    #[error("is drawn after {0} steps")]
    After(Step),
    /// A count that its slots do not add up to.
    #[error("says that {count} slots touch group {group}")]
    Touched {
        /// The group.
        group: GroupId,
        /// How many slots are said to touch it.
        count: u32,
    },
}

impl Reader {
    /// The reader of a job whose training set has so many samples.
    #[must_use]
    pub fn new(law: &Law, samples: u64) -> Self {
        Self {
            catalog: law.catalog.clone(),
            layout: law.layout.clone(),
            slots: law.spec.sampling.slots,
            batch_size: law.spec.train.batch_size.into(),
            total: Step(law.total_steps(samples)),
        }
    }

    /// Reads a message of a session with the leader of this epoch.
    ///
    /// # Errors
    /// [`Nonsense`] where no leader of this job says so; nothing of it may be obeyed then.
    pub fn read(&self, epoch: LeaderEpoch, message: v1::CoordinatorMessage) -> Result<Inbound, Nonsense> {
        let inbound = from_coordinator(message)?;
        if let Inbound::Law(fence, message) = &inbound {
            if fence.epoch != epoch {
                return Err(Nonsense::Epoch { found: fence.epoch, expected: epoch });
            }
            self.check(message)?;
        }
        Ok(inbound)
    }

    fn check(&self, message: &Message) -> Result<(), Nonsense> {
        match message {
            Message::Form(form) => self.check_form(form),
            Message::Prepare(seat) => check_place(seat.rank, seat.world),
            Message::Plan(plan) => self.check_plan(plan),
            Message::Durable(step) | Message::Discard(step) => self.check_steps(*step),
            Message::Finish(finish) => self.check_finish(finish),
            Message::Lost(_) | Message::Refused(_) | Message::Stop(_) => Ok(()),
        }
    }

    /// Of a number of steps that were done: all of them, at most.
    fn check_steps(&self, done: Step) -> Result<(), Nonsense> {
        if done <= self.total { Ok(()) } else { Err(Nonsense::Step { found: done, total: self.total }) }
    }

    fn check_form(&self, form: &Form) -> Result<(), Nonsense> {
        check_place(form.rank, form.world)?;
        check_place(form.source, form.world)?;
        match form.origin {
            Origin::Memory(step) | Origin::Checkpoint(step) => self.check_steps(step),
            Origin::Fresh => Ok(()),
        }
    }

    fn check_finish(&self, finish: &Finish) -> Result<(), Nonsense> {
        let mut stitches = finish.palettes.iter().flat_map(|(_, choices)| choices).map(|choice| choice.stitch);
        stitches.try_for_each(|stitch| self.check_stitch(stitch))
    }

    fn check_stitch(&self, stitch: StitchId) -> Result<(), Nonsense> {
        self.catalog.get(stitch).map(drop).ok_or(Nonsense::Stitch(stitch))
    }

    fn check_plan(&self, plan: &RankPlan) -> Result<(), Nonsense> {
        if plan.step >= self.total {
            return Err(Nonsense::Step { found: plan.step, total: self.total });
        }
        // A step that is run again may be durable for long.
        self.check_steps(plan.durable)?;
        plan.slots.iter().try_for_each(|(_, stitch)| self.check_stitch(*stitch))?;
        self.plan_flaw(plan).map_or(Ok(()), |flaw| Err(Nonsense::Plan { step: plan.step, flaw }))
    }

    fn plan_flaw(&self, plan: &RankPlan) -> Option<PlanFlaw> {
        let expected = plan.step.0.wrapping_mul(self.batch_size);
        if plan.first_sample != expected {
            return Some(PlanFlaw::Sample { found: plan.first_sample, expected });
        }
        if plan.slots_in_step != self.slots {
            return Some(PlanFlaw::Slots { found: plan.slots_in_step, expected: self.slots });
        }
        if plan.table_version > plan.step {
            return Some(PlanFlaw::After(plan.table_version));
        }
        let mut next = SlotId(0);
        for (slot, _) in &plan.slots {
            if *slot < next || slot.0 >= self.slots {
                return Some(PlanFlaw::Slot(*slot));
            }
            next = SlotId(slot.0 + 1);
        }
        self.miscounted(plan)
    }

    /// RD-2: each group is touched by this rank's slots and by at most all of the others'.
    fn miscounted(&self, plan: &RankPlan) -> Option<PlanFlaw> {
        let mut own: BTreeMap<GroupId, u32> = BTreeMap::new();
        for (_, stitch) in &plan.slots {
            self.layout.touched(*stitch).iter().for_each(|group| *own.entry(*group).or_default() += 1);
        }
        let others = self.slots - plan.slots.len() as u32;
        for &(group, count) in &plan.touched {
            let mine = own.remove(&group).unwrap_or(0);
            let known = group.index() < self.layout.groups.len();
            if !known || count == 0 || !(mine..=mine + others).contains(&count) {
                return Some(PlanFlaw::Touched { group, count });
            }
        }
        own.into_keys().next().map(|group| PlanFlaw::Touched { group, count: 0 })
    }
}

fn check_place(rank: Rank, world: u32) -> Result<(), Nonsense> {
    if rank.0 < world && world <= WORLD { Ok(()) } else { Err(Nonsense::Rank { rank, world }) }
}

#[cfg(test)]
#[path = "reader_test.rs"]
mod tests;
