//! The slots of a rank's share (HANDS): one after another, or in rounds with the ranks of its node.

use std::time::{Duration, Instant};

use esta_data::{Batch, BatchTicket};
use esta_engine::{
    plan::RankPlan,
    run::{Activity, StepTimings},
    streams::{self, Stream},
};
use esta_model::{PacedSlot, Slot, SlotError, SlotResult, run_slot};
use esta_proto::{SlotId, Step, StitchId};
use rand::RngExt;

use super::{
    super::{
        Job, State,
        convoy::{Convoy, Traveller},
        group::Broken,
        input::tensors,
    },
    StepError, Stepper,
    sum::Sum,
};
use crate::telemetry::Traced;

/// A rank's share of a step, over its state.
#[derive(Clone, Copy)]
pub struct Share<'a> {
    pub job: &'a Job,
    pub state: &'a State,
    pub plan: &'a RankPlan,
    pub traced: Option<&'a Traced>,
}

impl Share<'_> {
    /// Computes a slot by `run`, whose own answer says whether the slot itself was at fault.
    fn with_slot(
        &self,
        batch: &Batch,
        (slot, stitch): (SlotId, StitchId),
        dropout: bool,
        run: impl FnOnce(&Slot<'_>) -> Result<Result<SlotResult, SlotError>, Broken>,
    ) -> Result<SlotResult, StepError> {
        let (input, labels) = tensors(batch, self.job.family.device);
        let step = self.plan.step.0;
        let index = step * u64::from(self.plan.slots_in_step) + u64::from(slot.0);
        let dropout_seed = match dropout {
            true => streams::rng(self.job.family.law.spec.seed, Stream::Dropout, index).random(),
            false => 0,
        };
        let work = Slot { stitch, input: &input, labels: &labels, dropout_seed };
        run(&work)?.map_err(|source| StepError::Slot { step, slot, source })
    }
}

impl Stepper {
    /// Adds the slots that are missing, as long as anybody waits for them: where a slot takes seconds, the rest of a share
    /// that is in vain is not run.
    pub(super) fn add_slots(
        &self,
        goes_on: &dyn Fn() -> Result<(), Broken>,
        share: Share<'_>,
        batches: Vec<BatchTicket>,
        sum: &mut Sum,
        timings: &mut StepTimings,
    ) -> Result<(), StepError> {
        let step = share.plan.step;
        for (&(slot, stitch), ticket) in share.plan.slots.iter().zip(batches) {
            if sum.slots.contains(&slot) {
                continue;
            }
            goes_on()?;
            let started = Instant::now();
            let batch = self.batch(step, slot, ticket)?;
            timings.batch += started.elapsed();
            let started = Instant::now();
            self.doing.begin(Activity::Compute(step, slot));
            let told = share.traced.map(|traced| traced.slot(slot, stitch));
            let result = share.with_slot(&batch, (slot, stitch), self.dropout, |work| {
                Ok(run_slot(&share.state.net, &share.state.store, work, &self.options))
            })?;
            sum.add(share.state, slot, &result);
            timings.slots.push((slot, started.elapsed()));
            if let Some(told) = told {
                told.end(&result);
            }
        }
        Ok(())
    }

    /// The same where the ranks of a node share its blocks: a round is one slot of each, and all of them go through the rounds
    /// of every one.
    pub(super) fn add_slots_together(
        &self,
        convoy: &Convoy<'_>,
        share: Share<'_>,
        batches: Vec<BatchTicket>,
        sum: &mut Sum,
        timings: &mut StepTimings,
    ) -> Result<(), StepError> {
        let Share { job, state, plan, traced } = share;
        let catalog = &job.family.law.catalog;
        let tour = |stitch| catalog.get(stitch).map(|stitch| convoy.shard.order.tour(stitch)).unwrap_or_default();
        let missing = plan.slots.iter().zip(batches).filter(|((slot, _), _)| !sum.slots.contains(slot));
        let missing: Vec<_> = missing.map(|(&(slot, stitch), ticket)| (slot, stitch, tour(stitch), ticket)).collect();
        self.doing.begin(Activity::Reduce(plan.step));
        let rounds = convoy.rounds(missing.iter().map(|(_, _, tour, _)| tour), plan.slots_in_step)?;
        let mut missing = missing.into_iter();
        for round in &rounds {
            let begun = Instant::now();
            let Some((slot, stitch, tour, ticket)) = missing.next() else {
                convoy.escort(round, plan.step)?;
                timings.reduce += begun.elapsed();
                continue;
            };
            let batch = self.batch(plan.step, slot, ticket)?;
            timings.batch += begun.elapsed();
            let begun = Instant::now();
            let mut computed = Duration::ZERO;
            let told = traced.map(|traced| traced.slot(slot, stitch));
            let result = share.with_slot(&batch, (slot, stitch), self.dropout, |work| {
                match PacedSlot::new(&state.net, &state.store, work, &self.options) {
                    Ok(paced) => Traveller::new(paced, &tour, (plan.step, slot), convoy.device)
                        .go(convoy, round, &mut computed)
                        .map(Ok),
                    Err(error) => Ok(Err(error)),
                }
            })?;
            sum.add(state, slot, &result);
            timings.slots.push((slot, computed));
            timings.reduce += begun.elapsed().saturating_sub(computed);
            if let Some(told) = told {
                told.end(&result);
            }
        }
        Ok(())
    }

    fn batch(&self, step: Step, slot: SlotId, ticket: BatchTicket) -> Result<Batch, StepError> {
        self.doing.begin(Activity::Batch(step, slot));
        ticket.wait().map_err(|source| StepError::Data { step: step.0, slot, source })
    }
}
