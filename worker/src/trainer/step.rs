//! One step on one rank (HANDS): DESIGN.md section 3, rows 5 to 8.
//!
//! What a rank has summed of a step outlives the group that was to reduce it: a slot's quantised gradient depends on
//! nothing but the plan and the state (RD-4), so where the step is done again only what a lost rank had is run again.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

use esta_data::{Batch, BatchTicket, DataError, TextBatch};
use esta_engine::{
    law::Law,
    plan::RankPlan,
    run::{Activity, HeldShare, Report, StepTimings},
    schedule::Schedule,
    spec::{DistillSpec, Mode},
    streams::{self, Stream},
    table::Outcome,
};
use esta_model::{
    AdamW, Input, PacedSlot, Slot, SlotError, SlotOptions, SlotOutcome, SlotResult, StepBuffer, Teacher, Texts,
    run_slot,
};
use esta_proto::{Digest, SlotId, Step, StitchId};
use rand::RngExt;
use tch::{Device, Tensor};
use thiserror::Error;

use crate::telemetry::Traced;

use super::{
    Doing, Job, State,
    convoy::{Convoy, Traveller},
    group::{Broken, Standing},
    in_one_line,
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
    dropout: bool,
    doing: Doing,
    /// Of the step that was not applied, if the last one was not.
    kept: Option<Sum>,
    /// Bytes that the last step reduced.
    reduced_bytes: u64,
}

/// The sum of some slots of a step, over one state.
struct Sum {
    step: Step,
    plan: Digest,
    /// The state's chained digest.
    chain: Digest,
    slots: BTreeSet<SlotId>,
    buffer: StepBuffer,
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

    /// Adds the slots that are missing, as long as anybody waits for them: where a slot takes seconds, the rest of a share
    /// that is in vain is not run.
    fn add_slots(
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

    fn batch(&self, step: Step, slot: SlotId, ticket: BatchTicket) -> Result<Batch, StepError> {
        self.doing.begin(Activity::Batch(step, slot));
        ticket.wait().map_err(|source| StepError::Data { step: step.0, slot, source })
    }

    /// The same where the ranks of a node share its blocks: a round is one slot of each, and all of them go through the rounds
    /// of every one.
    fn add_slots_together(
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

    /// Applies what was reduced. A step with a bad slot is skipped: samples consumed, nothing moves.
    pub fn apply(&self, state: &mut State, plan: &RankPlan, buffer: StepBuffer) -> Report {
        let reduced = buffer.into_reduced(&state.store);
        state.chain = chain(state.chain, &reduced.to_bytes());
        if reduced.is_valid() {
            let lr = self.schedule.lr(plan.step.0);
            let applied = self.optimizer.step(&mut state.store, &reduced, lr);
            applied.expect("a step whose slots are valid can be applied");
        }
        state.applied = plan.step.next();
        let outcomes = reduced.outcomes().iter().map(outcome).collect();
        let timings = StepTimings::default();
        Report { step: plan.step, plan: plan.digest, reduced: state.chain, outcomes, timings }
    }
}

/// A rank's share of a step, over its state.
#[derive(Clone, Copy)]
struct Share<'a> {
    job: &'a Job,
    state: &'a State,
    plan: &'a RankPlan,
    traced: Option<&'a Traced>,
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

impl Sum {
    fn add(&mut self, state: &State, slot: SlotId, result: &SlotResult) {
        self.buffer.add_slot(&state.store, slot, result);
        self.slots.insert(slot);
    }

    fn new(job: &Job, state: &State, plan: &RankPlan) -> Self {
        let buffer = StepBuffer::new(&state.store, &plan.touched, plan.slots_in_step, &job.family.law.spec.reduce);
        Self { step: plan.step, plan: plan.digest, chain: state.chain, slots: BTreeSet::new(), buffer }
    }

    /// Whether a share of a plan over this state can go on from it: it has no slot that now is another rank's (ST-1).
    fn is_of(&self, plan: &RankPlan, state: &State) -> bool {
        let share: BTreeSet<SlotId> = plan.slots.iter().map(|(slot, _)| *slot).collect();
        (self.step, self.plan, self.chain) == (plan.step, plan.digest, state.chain) && self.slots.is_subset(&share)
    }

    fn copy(&self) -> Self {
        Self { slots: self.slots.clone(), buffer: self.buffer.copy(), ..*self }
    }
}

/// The largest anchor, where the job distils from it.
pub(super) fn teacher(law: &Law) -> Option<Teacher> {
    let DistillSpec { weight, temperature } = law.spec.train.distill;
    let largest = law.catalog.stitches().filter(|stitch| stitch.is_anchor()).last()?;
    let teaches = weight > 0.0 && law.spec.mode != Mode::Anchor;
    teaches.then_some(Teacher { stitch: largest.id, weight, temperature })
}

/// What a network takes of a batch, and the labels `[M]` of its images or of the tokens its texts ask for, on the device.
pub fn tensors(batch: &Batch, device: Device) -> (Input, Tensor) {
    let (input, labels) = match batch {
        Batch::Images(batch) => {
            let shape: Vec<i64> = batch.shape.iter().map(|side| *side as i64).collect();
            (Input::Images(Tensor::from_slice(&batch.images).view(&shape[..])), &batch.labels)
        }
        Batch::Texts(TextBatch { tokens, lengths }) => {
            let texts = Texts {
                ids: Tensor::from_slice(&tokens.ids).view([tokens.rows as i64, tokens.width as i64]),
                reads: Tensor::from_slice(&tokens.reads),
                counts: tokens.counts.iter().map(|count| *count as i64).collect(),
                lengths: lengths.iter().map(|length| i64::from(*length)).collect(),
            };
            (Input::Texts(texts), &tokens.labels)
        }
    };
    (input.to_device(device), Tensor::from_slice(labels).to_device(device))
}

fn outcome(slot: &SlotOutcome) -> Outcome {
    Outcome { score: slot.score, loss: slot.loss, grad_norm: slot.grad_norm, valid: slot.valid }
}

/// Bytes of a reduced buffer that several processors digest together.
const LARGE: usize = 16 << 20;

/// RD-3: the digest of a step covers all steps before it.
fn chain(before: Digest, reduced: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.0);
    match reduced.len() {
        // What one processor digests in a few milliseconds is not worth waking others for.
        ..LARGE => hasher.update(reduced),
        _ => hasher.update_rayon(reduced),
    };
    Digest(*hasher.finalize().as_bytes())
}
