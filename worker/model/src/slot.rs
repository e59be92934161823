//! One slot (TENSOR): loss, gradients of exactly the parameters the stitch touches, and the score taken from these same
//! gradients before any reduction, clipping or loss scale can reach them (SC-1).

mod paced;

pub use paced::PacedSlot;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use esta_engine::groups::GroupKind;
use esta_engine::spec::SaliencyReduction;
use esta_proto::StitchId;
use tch::{Device, Kind, Tensor};
use thiserror::Error;

use crate::input::Input;
use crate::linear::Phase;
use crate::network::{Network, mean_loss};
use crate::params::{GroupParams, ParamStore, runs};
use crate::recompute;
use crate::stitched::{StitchError, StitchedNet};

/// How a slot is computed.
#[derive(Debug, Clone)]
pub struct SlotOptions {
    /// Forward/backward passes the slot is split into; at least 1.
    pub micro_batches: u32,
    /// Power of two that the loss is multiplied by during the backward pass. Scores and gradients are free of it.
    pub loss_scale: f64,
    /// Label smoothing of the cross entropy, 0 to 1.
    pub label_smoothing: f64,
    /// How |w g| becomes one number.
    pub saliency: SaliencyReduction,
    /// Whose answers the slot learns beside the labels.
    pub teacher: Option<Teacher>,
    /// Keep only what enters each block, and compute the rest again on the way back: memory of one block instead of all,
    /// for a second forward pass. The numbers are the same, but that dropout draws block by block.
    pub checkpointing: bool,
    /// Tell apart what forward and backward take; on a device it is waited for between them.
    pub timed: bool,
}

/// In-place distillation: a path of the same family, as it is in this step, teaches the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Teacher {
    /// The path that teaches; its own slots learn from labels alone.
    pub stitch: StitchId,
    /// Share of the teacher's answers in the loss, 0 to 1; at 0 nobody asks it.
    pub weight: f64,
    /// Both sides' logits are divided by this.
    pub temperature: f64,
}

impl Default for SlotOptions {
    fn default() -> Self {
        Self {
            micro_batches: 1,
            loss_scale: 1.0,
            label_smoothing: 0.0,
            saliency: SaliencyReduction::Mean,
            teacher: None,
            checkpointing: false,
            timed: false,
        }
    }
}

/// One slot's work.
#[derive(Debug)]
pub struct Slot<'a> {
    /// Which stitch.
    pub stitch: StitchId,
    /// Images or texts.
    pub input: &'a Input,
    /// `[M]` as i64: classes of B images, or the tokens that texts ask for.
    pub labels: &'a Tensor,
    /// Seed of LoRA dropout; see `Stream::Dropout`. Unused where dropout is 0.
    pub dropout_seed: u64,
}

/// What a slot found. Its gradients are its own: they belong into a `StepBuffer`.
#[derive(Debug)]
pub struct SlotResult {
    /// Which stitch ran.
    pub stitch: StitchId,
    /// Mean cross entropy of the slot's labels, whatever else the slot learned from.
    pub loss: f64,
    /// SNIP saliency Q of the stitch (METHOD.md section 3).
    pub score: f64,
    /// Norm over all touched parameters, before clipping.
    pub grad_norm: f64,
    /// Whether the loss and every gradient is a number. If not, the step is to be skipped.
    pub finite: bool,
    /// f32 gradients of the touched groups, concatenated in layout order.
    pub grads: Tensor,
    /// What the way to the loss took, where that was asked for. The rest is the way back.
    pub forward: Option<Duration>,
}

/// Why a slot cannot be computed.
#[derive(Debug, Error)]
pub enum SlotError {
    /// The stitch is not there.
    #[error("no such stitch")]
    Stitch(#[from] StitchError),
    /// Nothing to learn from.
    #[error("a slot of {samples} samples cannot be split into {micro_batches} passes")]
    Split {
        /// Images or texts of the slot.
        samples: i64,
        /// Passes asked for.
        micro_batches: u32,
    },
}

/// Computes a slot.
///
/// # Errors
/// [`SlotError`] when the stitch is unknown or the batch has fewer samples than passes.
///
/// # Panics
/// On inputs that the architecture does not take, labels outside the classes, and where libtorch fails.
pub fn run_slot(
    net: &StitchedNet,
    store: &ParamStore,
    slot: &Slot<'_>,
    options: &SlotOptions,
) -> Result<SlotResult, SlotError> {
    let pass = Pass::of(net, store, slot, options)?;
    let passes = split(slot, options.micro_batches)?;
    let parts = passes.iter().map(|(input, labels, share)| pass.run(input, labels, *share));
    let result = Measure { store, stitch: slot.stitch, options }.result(&pass.groups, parts);
    Ok(SlotResult { forward: pass.way_there(), ..result })
}

/// The slot's passes: input, labels, share of the slot's labels.
fn split(slot: &Slot<'_>, micro_batches: u32) -> Result<Vec<(Input, Tensor, f64)>, SlotError> {
    let samples = slot.input.len();
    let passes = i64::from(micro_batches);
    if passes == 0 || samples < passes {
        return Err(SlotError::Split { samples, micro_batches });
    }
    let all = slot.labels.size()[0];
    let bounds = |pass: i64| samples * pass / passes;
    let part = |pass: i64| {
        let (input, labels) = slot.input.part(bounds(pass)..bounds(pass + 1));
        let length = labels.end - labels.start;
        (input, slot.labels.narrow(0, labels.start, length), length as f64 / all as f64)
    };
    Ok((0..passes).map(part).collect())
}

/// Forward and backward of one pass.
struct Pass<'a> {
    network: &'a Network,
    groups: Vec<&'a GroupParams>,
    options: &'a SlotOptions,
    teacher: Option<(&'a Network, Teacher)>,
    /// Of dropout.
    seed: i64,
    /// What the ways to the loss took so far, where that is timed.
    forward: Cell<Duration>,
}

impl<'a> Pass<'a> {
    fn of(
        net: &'a StitchedNet,
        store: &'a ParamStore,
        slot: &Slot<'_>,
        options: &'a SlotOptions,
    ) -> Result<Self, SlotError> {
        let teacher = options.teacher.filter(|teacher| teacher.stitch != slot.stitch && teacher.weight > 0.0);
        let teacher = teacher.map(|how| Ok::<_, StitchError>((net.network(how.stitch)?, how))).transpose()?;
        let (network, groups) = (net.network(slot.stitch)?, store.touched(slot.stitch).collect());
        let seed = slot.dropout_seed.cast_signed();
        tch::manual_seed(seed);
        Ok(Self { network, groups, options, teacher, seed, forward: Cell::default() })
    }

    fn leaves(&self) -> Vec<&'a Tensor> {
        self.groups.iter().flat_map(|group| &group.params).map(|param| &param.tensor).collect()
    }

    /// The pass's share of the slot's loss (f64, on the device), and its gradients in one flat tensor.
    fn run(&self, input: &Input, labels: &Tensor, share: f64) -> (Tensor, Tensor) {
        let leaves = self.leaves();
        let teaching = || {
            let (teacher, how) = self.teacher?;
            Some(Teaching { logits: tch::no_grad(|| teacher.forward(input, Phase::Eval)), how })
        };
        let began = Instant::now();
        let learn = |logits: &Tensor| {
            let learned = self.learn(logits, labels, share, teaching);
            self.at_the_loss(logits.device(), || self.forward.get() + began.elapsed());
            learned
        };
        let (loss, grads) = match self.options.checkpointing {
            true => recompute::backward(self.network, input, &leaves, self.seed, learn),
            false => {
                let (loss, target) = learn(&self.network.forward(input, Phase::Train));
                (loss, Tensor::run_backward(&[target], &leaves, false, false))
            }
        };
        self.part(&loss, &grads, share)
    }

    /// A pass has come to its loss: where that is timed, its device is waited for and the ways there took this long.
    fn at_the_loss(&self, device: Device, took: impl FnOnce() -> Duration) {
        if self.options.timed {
            wait_for(device);
            self.forward.set(took());
        }
    }

    /// What the ways to the loss took, where that is timed.
    fn way_there(&self) -> Option<Duration> {
        self.options.timed.then(|| self.forward.get())
    }

    fn part(&self, loss: &Tensor, grads: &[Tensor], share: f64) -> (Tensor, Tensor) {
        let flat: Vec<Tensor> = grads.iter().zip(self.leaves()).map(|(grad, leaf)| flatten(grad, leaf)).collect();
        (loss.detach().to_kind(Kind::Double) * share, Tensor::cat(&flat, 0))
    }

    /// The loss of logits, and what is minimised: its share of the slot's, mixed with a teacher's, scaled.
    fn learn(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        share: f64,
        teaching: impl FnOnce() -> Option<Teaching>,
    ) -> (Tensor, Tensor) {
        let loss = mean_loss(logits, labels, self.options.label_smoothing);
        let factor = share * self.options.loss_scale;
        let learned = match teaching() {
            Some(teaching) => mix(&loss, &teaching.divergence(logits), teaching.how),
            None => loss.shallow_clone(),
        };
        let target = if factor == 1.0 { learned } else { learned * factor };
        (loss, target)
    }
}

/// What a teacher says of a batch.
struct Teaching {
    /// [B, K]
    logits: Tensor,
    how: Teacher,
}

impl Teaching {
    /// T^2 KL(teacher || student) of softened answers, mean over labels: its gradient is of the same size at every T
    /// (Hinton, Vinyals and Dean 2015). Vocabularies may be filled up to different widths: what one of the two cannot say is
    /// not compared.
    fn divergence(&self, logits: &Tensor) -> Tensor {
        let temperature = self.how.temperature;
        let width = logits.size()[1].min(self.logits.size()[1]);
        let softened = |logits: &Tensor| {
            let shared = if logits.size()[1] > width { logits.narrow(1, 0, width) } else { logits.shallow_clone() };
            (shared / temperature).log_softmax(-1, Kind::Float)
        };
        let (teacher, student) = (softened(&self.logits), softened(logits));
        let kl = (teacher.exp() * (&teacher - student)).sum_dim_intlist(-1, false, Kind::Float);
        kl.mean(Kind::Float) * (temperature * temperature)
    }
}

/// What a slot with a teacher minimises.
fn mix(loss: &Tensor, divergence: &Tensor, how: Teacher) -> Tensor {
    loss * (1.0 - how.weight) + divergence * how.weight
}

/// From the passes of a slot to its numbers.
struct Measure<'a> {
    store: &'a ParamStore,
    stitch: StitchId,
    options: &'a SlotOptions,
}

impl Measure<'_> {
    fn result(&self, groups: &[&GroupParams], mut parts: impl Iterator<Item = (Tensor, Tensor)>) -> SlotResult {
        let (mut loss, mut grads) = parts.next().expect("a slot has at least one pass");
        for (part_loss, part_grads) in parts {
            loss += part_loss;
            grads += part_grads;
        }
        if self.options.loss_scale != 1.0 {
            grads *= 1.0 / self.options.loss_scale;
        }
        let measured = measure(self.store, groups, &loss, &grads);
        let score = match self.options.saliency {
            SaliencyReduction::Sum => measured.saliency,
            SaliencyReduction::Mean => measured.saliency / measured.active.max(1) as f64,
        };
        let finite = [measured.loss, measured.grad_norm, score].into_iter().all(f64::is_finite);
        let (loss, grad_norm) = (measured.loss, measured.grad_norm);
        SlotResult { stitch: self.stitch, loss, score, grad_norm, finite, grads, forward: None }
    }
}

/// Waits until a device has done what it was given: elsewhere everything is done when it was called.
pub fn wait_for(device: Device) {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

/// A gradient as a row; zeros where the loss does not depend on the parameter.
fn flatten(grad: &Tensor, leaf: &Tensor) -> Tensor {
    match grad.defined() {
        true => grad.reshape([-1]),
        false => Tensor::zeros([leaf.numel() as i64], (Kind::Float, leaf.device())),
    }
}

/// The numbers of a slot.
struct Measured {
    loss: f64,
    grad_norm: f64,
    saliency: f64,
    active: i64,
}

fn measure(store: &ParamStore, groups: &[&GroupParams], loss: &Tensor, grads: &Tensor) -> Measured {
    let norm = grads.norm_scalaropt_dtype(2, Kind::Double);
    let (saliency, active) = score(&store.values, groups, grads);
    // One transfer for the three numbers.
    let numbers = Vec::<f64>::try_from(Tensor::stack(&[loss.view([]), norm, saliency], 0));
    let [loss, grad_norm, saliency] = numbers.expect("doubles become doubles")[..] else {
        unreachable!("three numbers were stacked")
    };
    Measured { loss, grad_norm, saliency, active }
}

/// Sum of |w g| over everything but heads, and over how many numbers. Products in single precision, their sum in double.
fn score(values: &Tensor, groups: &[&GroupParams], grads: &Tensor) -> (Tensor, i64) {
    let mut sum = Tensor::zeros([], (Kind::Double, grads.device()));
    let mut active = 0;
    for run in runs(groups.iter().copied(), |group| !matches!(group.kind, GroupKind::Head(_))) {
        let saliency = values.narrow(0, run.store, run.len) * grads.narrow(0, run.flat, run.len);
        sum += saliency.abs().sum(Kind::Double);
        active += run.len;
    }
    (sum, active)
}
