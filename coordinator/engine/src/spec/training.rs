//! The sections on adaptation, sampling, scores, reduction, optimisation, palette and evaluation.

use serde::{Deserialize, Serialize};

/// Parameter-efficient stitch fine-tuning: h = W x + (alpha/r) B A x + b + `b_stitch` (METHOD.md section 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PstSpec {
    /// Rank of the LoRA pairs in attention.
    pub lora_r: u32,
    /// Scale numerator; `lora_r` when absent, so that the scale is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
    /// Dropout on the input of the LoRA pairs.
    pub lora_dropout: f64,
    /// Which attention projections carry a pair.
    #[serde(alias = "target_modules")]
    pub targets: Vec<Target>,
    /// Rank of the pair on a stitching layer; 0 trains no pair there.
    pub stitch_r: u32,
    /// Where a stitch's own biases sit.
    pub bias: PstBias,
}

impl Default for PstSpec {
    fn default() -> Self {
        Self {
            lora_r: 8,
            lora_alpha: None,
            lora_dropout: 0.0,
            targets: vec![Target::Q, Target::K, Target::V],
            stitch_r: 16,
            bias: PstBias::All,
        }
    }
}

impl PstSpec {
    /// The factor alpha/r on attention pairs.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.lora_alpha.map_or(1.0, |alpha| alpha / f64::from(self.lora_r))
    }
}

/// An attention projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Output projection.
    O,
}

/// Where a stitch's own biases sit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PstBias {
    /// Nowhere.
    None,
    /// On its stitching layers only.
    StitchLayer,
    /// On every LoRA-carrying linear of its path and on its stitching layers. Our choice.
    #[default]
    All,
}

/// Bins of the catalog by cost: opened greedily by `gap`, or given by `edges`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum BudgetSpec {
    /// A new bin when the cost exceeds the bin's first by more than this many MACs.
    Gap(f64),
    /// Upper edges in MACs, ascending; a stitch belongs to the first edge at or above its cost.
    Edges(Vec<f64>),
}

impl Default for BudgetSpec {
    fn default() -> Self {
        Self::Gap(1e9)
    }
}

/// How the slots of a step get their stitches (METHOD.md section 3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SamplingSpec {
    /// Slots of a step, whatever the number of workers.
    pub slots: u32,
    /// Step t draws from the table after step t-1-lookahead; 0 is strict.
    pub lookahead: u32,
    /// Distribution inside a budget.
    pub strategy: SamplingStrategy,
    /// Share of the uniform distribution mixed in; 0 is strict.
    pub epsilon: f64,
    /// Real visits every stitch of a bin gets before the table decides.
    pub warm_visits: u32,
    /// Probability that a slot draws one of the anchors instead of a budget: keeps the smallest from starving.
    pub anchor_floor: f64,
    /// m of the moving averages I <- m I + (1-m) Q.
    pub momentum: f64,
}

impl Default for SamplingSpec {
    fn default() -> Self {
        Self {
            slots: 4,
            lookahead: 1,
            strategy: SamplingStrategy::Importance,
            epsilon: 0.1,
            warm_visits: 2,
            anchor_floor: 0.0,
            momentum: 0.9,
        }
    }
}

/// Distribution over the stitches of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SamplingStrategy {
    /// Proportional to importance (the paper).
    #[default]
    Importance,
    /// Budget first, then uniform inside it.
    Bins,
    /// Uniform over the whole catalog, as SN-Net does.
    Uniform,
}

/// SNIP saliency of a slot.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ScoreSpec {
    /// How |w g| over the active parameters becomes one number.
    pub q: SaliencyReduction,
}

/// How |w g| becomes one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SaliencyReduction {
    /// Mean over the active parameters. Our choice.
    #[default]
    Mean,
    /// Sum over them.
    Sum,
}

/// How the gradients of a step's slots become one update (DESIGN.md section 3, rows 6 and 7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ReduceSpec {
    /// Representation that is summed.
    pub kind: Reduction,
    /// Binary digits after the point of the fixed-point form.
    pub fraction_bits: u32,
    /// What a group's sum is divided by (RD-2).
    pub divisor: Divisor,
}

impl Default for ReduceSpec {
    fn default() -> Self {
        Self { kind: Reduction::Int64, fraction_bits: 40, divisor: Divisor::Contributors }
    }
}

/// Representation of gradients while they are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// Fixed point: the sum is the same for every number and grouping of ranks (RD-4).
    #[default]
    Int64,
    /// Floating point: half the bytes, not reproducible across memberships.
    F32,
}

/// What a group's gradient sum is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Divisor {
    /// The slots of the step that touch the group. Our choice.
    #[default]
    Contributors,
    /// All slots of the step, as data-parallel SN-Net does.
    Slots,
}

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
    /// Images of one step over all its slots; `sampling.slots` divides it.
    #[serde(default = "sixty_four", alias = "train_batch_size")]
    pub batch_size: u32,
    /// Forward/backward passes one slot is split into to save memory.
    #[serde(default = "one")]
    pub gradient_accumulation_steps: u32,
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

/// What is chosen at the end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PaletteSpec {
    /// The rule that picks a stitch per budget.
    pub rule: PaletteRule,
}

/// A rule that picks one stitch of a budget from the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PaletteRule {
    /// Highest importance (the paper).
    #[default]
    Snip,
    /// Lowest running training loss. Our choice.
    Loss,
}

/// What is measured at the end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct EvalSpec {
    /// Which stitches are evaluated on the held-out images.
    pub stitches: EvalStitches,
    /// Images per forward pass.
    pub batch_size: u32,
    /// Export the palette's models as standalone folders.
    pub export: bool,
}

impl Default for EvalSpec {
    fn default() -> Self {
        Self { stitches: EvalStitches::Palette, batch_size: 128, export: true }
    }
}

/// Which stitches are evaluated at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EvalStitches {
    /// None.
    None,
    /// Those that any rule picks, and the anchors.
    #[default]
    Palette,
    /// The whole catalog: regrets can be computed.
    All,
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
