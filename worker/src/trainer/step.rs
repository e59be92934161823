//! One step on one rank (HANDS): DESIGN.md section 3, rows 5 to 8.
//!
//! What a rank has summed of a step outlives the group that was to reduce it: a slot's quantised gradient depends on
//! nothing but the plan and the state (RD-4), so where the step is done again only what a lost rank had is run again.

mod slots;
mod sum;

use std::time::{Instant, SystemTime};

use esta_data::{BatchTicket, DataError};
use esta_engine::{
    plan::RankPlan,
    run::{Activity, HeldShare, Report, StepTimings},
    schedule::Schedule,
    table::Outcome,
};
use esta_model::{AdamW, SlotError, SlotOptions, SlotOutcome, StepBuffer};
use esta_proto::{Digest, SlotId};
use thiserror::Error;

use crate::telemetry::Traced;

use self::{slots::Share, sum::Sum};
use super::{
    Doing, Job, State,
    convoy::Convoy,
    group::{Broken, Standing},
    in_one_line,
    teacher::teacher,
};

/// Why a step was not applied.
#[derive(Debug, Error)]
pub enum StepError {
    /// The generation does not go on; the state is that of the last whole step.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// A batch.
    #[error("the batch of step {step} slot {slot} cannot be prepared")]
    Data {
        /// The step.
        step: u64,
        /// The slot.
        slot: SlotId,
        /// What is wrong.
        source: DataError,
    },
    /// The plan names what the catalog does not have.
    #[error("step {step} slot {slot} cannot be computed")]
    Slot {
        /// The step.
        step: u64,
        /// The slot.
        slot: SlotId,
        /// What is wrong.
        source: SlotError,
    },
}

/// What turns plans into updates; fixed for a run.
pub struct Stepper {
    options: SlotOptions,
    optimizer: AdamW,
    schedule: Schedule,
    /// Steps between checkpoints, at which a digest covers all that a rank holds.
    save_steps: u64,
    dropout: bool,
    doing: Doing,
    /// Of the step that was not applied, if the last one was not.
    kept: Option<Sum>,
    /// Bytes that the last step reduced.
    reduced_bytes: u64,
}

impl Stepper {
    /// The stepper of a job.
    #[must_use]
    pub fn new(job: &Job) -> Self {
        Self::watched(job, Doing::default())
    }

    /// The stepper of a job that says what it is at.
    #[must_use]
    pub fn watched(job: &Job, doing: Doing) -> Self {
        let (train, pst) = (&job.family.law.spec.train, &job.family.law.spec.pst);
        Self {
            options: SlotOptions {
                micro_batches: train.gradient_accumulation_steps,
                loss_scale: 1.0,
                label_smoothing: train.label_smoothing_factor,
                saliency: job.family.law.spec.score.q,
                teacher: teacher(&job.family.law),
                checkpointing: job.family.law.spec.keeps_little(),
                timed: false,
            },
            optimizer: AdamW {
                beta1: train.adam_beta1,
                beta2: train.adam_beta2,
                epsilon: train.adam_epsilon,
                weight_decay: train.weight_decay,
                max_grad_norm: train.max_grad_norm,
            },
            schedule: Schedule::of(train, job.total_steps),
            save_steps: train.save_steps,
            dropout: pst.lora_dropout > 0.0,
            doing,
            kept: None,
            reduced_bytes: 0,
        }
    }

    /// Bytes that the last step reduced.
    #[must_use]
    pub fn reduced_bytes(&self) -> u64 {
        self.reduced_bytes
    }

    /// Runs this rank's slots, reduces, applies, and reports, all but the time that the plan was waited for. What is traced is told
    /// of as it goes.
    ///
    /// # Errors
    /// [`StepError`]; `state` is that of the step before then.
    pub fn run(
        &mut self,
        job: &Job,
        standing: &Standing,
        state: &mut State,
        plan: &RankPlan,
        batches: Vec<BatchTicket>,
        traced: Option<&Traced>,
    ) -> Result<Report, StepError> {
        let mut timings = StepTimings::default();
        self.options.timed = traced.is_some();
        let kept = self.kept.take().filter(|kept| kept.is_of(plan, state));
        if let Some(kept) = &kept {
            let (step, slots) = (plan.step.0, kept.slots.len());
            tracing::info!(
                step,
                slots,
                of = plan.slots.len(),
                "slots of the share were summed before and are not run again"
            );
        }
        let mut sum = kept.unwrap_or_else(|| Sum::new(job, state, plan));
        let share = Share { job, state, plan, traced };
        let added = match (&job.family.shard, standing.node()) {
            (Some(shard), Some(node)) => {
                let convoy = Convoy { shard, standing, node, device: job.family.device, doing: &self.doing };
                self.add_slots_together(&convoy, share, batches, &mut sum, &mut timings)
            }
            _ => self.add_slots(&|| standing.goes_on(), share, batches, &mut sum, &mut timings),
        };
        if let Err(error) = added {
            self.kept = Some(sum);
            return Err(error);
        }
        // The all-reduce leaves nothing of it where it breaks.
        let spare = (!standing.is_alone()).then(|| sum.copy());
        let (started, began) = (Instant::now(), SystemTime::now());
        self.doing.begin(Activity::Reduce(plan.step));
        let buffer = sum.buffer;
        self.reduced_bytes = buffer.bytes() as u64;
        if let Err(error) = standing.sum(&buffer.tensor()) {
            self.kept = spare;
            if let Some(traced) = traced {
                traced.broken_phase("all-reduce", began, in_one_line(&error));
            }
            return Err(error.into());
        }
        self.doing.begin(Activity::Apply(plan.step));
        timings.reduce += started.elapsed();
        if let Some(traced) = traced {
            traced.phase("all-reduce", began);
        }
        let (started, began) = (Instant::now(), SystemTime::now());
        let report = self.apply(state, plan, buffer);
        timings.apply = started.elapsed();
        if let Some(traced) = traced {
            traced.phase("apply", began);
        }
        Ok(Report { timings, ..report })
    }

    /// Sums this rank's slots: forward, backward, score, quantisation. Nobody waits for it.
    ///
    /// # Errors
    /// [`StepError`].
    pub fn accumulate(
        &mut self,
        job: &Job,
        state: &State,
        plan: &RankPlan,
        batches: Vec<BatchTicket>,
        timings: &mut StepTimings,
        traced: Option<&Traced>,
    ) -> Result<StepBuffer, StepError> {
        self.options.timed = traced.is_some();
        let mut sum = Sum::new(job, state, plan);
        self.add_slots(&|| Ok(()), Share { job, state, plan, traced }, batches, &mut sum, timings)?;
        Ok(sum.buffer)
    }

    /// Slots of the step after these that need not be run again over this state.
    #[must_use]
    pub fn computed(&self, state: &State) -> Option<HeldShare> {
        let kept = self.kept.as_ref().filter(|kept| (kept.step, kept.chain) == (state.applied, state.chain))?;
        Some(HeldShare { step: kept.step, plan: kept.plan, slots: kept.slots.iter().copied().collect() })
    }

    /// Applies what was reduced. A step with a bad slot is skipped: samples consumed, nothing moves.
    pub fn apply(&self, state: &mut State, plan: &RankPlan, buffer: StepBuffer) -> Report {
        let reduced = buffer.into_reduced(&state.store);
        state.chain = chain(state.chain, [reduced.to_bytes()]);
        if reduced.is_valid() {
            let lr = self.schedule.lr(plan.step.0);
            let applied = self.optimizer.step(&mut state.store, &reduced, lr);
            applied.expect("a step whose slots are valid can be applied");
        }
        state.applied = plan.step.next();
        if state.applied.0.is_multiple_of(self.save_steps) {
            state.chain = chain(state.chain, state.content());
        }
        let outcomes = reduced.outcomes().iter().map(outcome).collect();
        let timings = StepTimings::default();
        Report { step: plan.step, plan: plan.digest, reduced: state.chain, outcomes, timings }
    }
}

fn outcome(slot: &SlotOutcome) -> Outcome {
    Outcome { score: slot.score, loss: slot.loss, grad_norm: slot.grad_norm, valid: slot.valid }
}

/// Bytes that several processors digest together.
const LARGE: usize = 16 << 20;

/// RD-3: the digest of a step covers what was reduced in all steps up to it; at checkpoints also what that was applied to.
fn chain(before: Digest, parts: impl IntoIterator<Item = Vec<u8>>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.0);
    for part in parts {
        match part.len() {
            // What one processor digests in a few milliseconds is not worth waking others for.
            ..LARGE => hasher.update(&part),
            _ => hasher.update_rayon(&part),
        };
    }
    Digest(*hasher.finalize().as_bytes())
}
