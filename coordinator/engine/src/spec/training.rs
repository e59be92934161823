//! The section on optimisation.

use serde::{Deserialize, Serialize};

/// Optimisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Passes over the training set; or give `max_steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_train_epochs: Option<f64>,
    /// Steps; overrides `num_train_epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Images or texts of one step over all its slots; `sampling.slots` divides it.
    #[serde(default = "sixty_four", alias = "train_batch_size")]
    pub batch_size: u32,
    /// Forward/backward passes one slot is split into to save memory.
    #[serde(default = "one")]
    pub gradient_accumulation_steps: u32,
    /// Keep only what enters each block and compute the rest again on the way back: activations of one block instead of
    /// all, for a second forward pass.
    #[serde(default, skip_serializing_if = "super::is_off")]
    pub gradient_checkpointing: bool,
    /// Peak learning rate.
    #[serde(default = "one_e_minus_3", alias = "lr")]
    pub learning_rate: f64,
    /// Decoupled weight decay.
    #[serde(default = "one_e_minus_4")]
    pub weight_decay: f64,
    /// First moment's decay.
    #[serde(default = "beta1")]
    pub adam_beta1: f64,
    /// Second moment's decay.
    #[serde(default = "beta2")]
    pub adam_beta2: f64,
    /// Denominator's floor.
    #[serde(default = "epsilon")]
    pub adam_epsilon: f64,
    /// Shape of the learning rate after warm-up.
    #[serde(default)]
    pub lr_scheduler_type: LrSchedule,
    /// Share of the steps spent warming up.
    #[serde(default = "tenth")]
    pub warmup_ratio: f64,
    /// Clip the norm over all touched parameters to this; 0 does not clip.
    #[serde(default)]
    pub max_grad_norm: f64,
    /// Arithmetic of the forward and backward pass.
    #[serde(default)]
    pub precision: Precision,
    /// Label smoothing of the cross entropy.
    #[serde(default)]
    pub label_smoothing_factor: f64,
    /// `mode: anchor`: train every weight instead of LoRA.
    #[serde(default)]
    pub full: bool,
    /// How classification heads start.
    #[serde(default)]
    pub head_init: HeadInit,
    /// In-place distillation from the largest anchor, `mode: pst` and `snnet`.
    #[serde(default)]
    pub distill: DistillSpec,
    /// Language models: a worker whose memory plan exceeds what is free does not start.
    #[serde(default = "yes", skip_serializing_if = "super::is_on")]
    pub check_memory: bool,
    /// libtorch's intra-op threads per worker; fixed because sums depend on it.
    #[serde(default = "one")]
    pub intra_op_threads: u32,
    /// Steps between checkpoints.
    #[serde(default = "five_hundred")]
    pub save_steps: u64,
    /// Complete checkpoints kept.
    #[serde(default = "three")]
    pub save_total_limit: u32,
    /// Steps between lines of `metrics.jsonl`.
    #[serde(default = "ten")]
    pub logging_steps: u64,
}

/// In-place distillation: every slot but the largest anchor's own also learns what the largest anchor, as it is in that
/// step, answers on the slot's images. Costs a forward pass of the largest anchor per slot. Our choice; off by default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DistillSpec {
    /// Share of the largest anchor's answers in the loss; 0 does not distil.
    pub weight: f64,
    /// Both sides' logits are divided by this.
    pub temperature: f64,
}

impl Default for DistillSpec {
    fn default() -> Self {
        Self { weight: 0.0, temperature: 1.0 }
    }
}

/// Shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    /// Half a cosine down to zero.
    #[default]
    Cosine,
    /// A line down to zero.
    Linear,
    /// Flat.
    Constant,
}

/// How classification heads start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HeadInit {
    /// Zero weights and biases.
    #[default]
    Zero,
    /// A closed-form ridge regression of one-hot labels on the anchor's frozen features of the training set.
    Ridge,
}

/// Arithmetic of the forward and backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single precision.
    #[default]
    #[serde(alias = "fp32")]
    F32,
    /// bfloat16 matrix products by explicit casts; parameters and sums stay in single precision.
    Bf16,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn ten() -> u64 {
    10
}

fn sixty_four() -> u32 {
    64
}

fn five_hundred() -> u64 {
    500
}

fn tenth() -> f64 {
    0.1
}

fn one_e_minus_3() -> f64 {
    1e-3
}

fn one_e_minus_4() -> f64 {
    1e-4
}

fn beta1() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.999
}

fn epsilon() -> f64 {
    1e-8
}
