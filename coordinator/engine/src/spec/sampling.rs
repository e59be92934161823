//! The sections on budgets, sampling, scores and reduction: what a step runs and how its slots become one update.

use serde::{Deserialize, Serialize};

use super::LatencyBudgetSpec;

/// Bins of the catalog by cost: opened greedily by `gap`, or given by `edges`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum BudgetSpec {
    /// A new bin when the cost exceeds the bin's first by more than this many MACs.
    Gap(f64),
    /// Upper edges in MACs, ascending; a stitch belongs to the first edge at or above its cost.
    Edges(Vec<f64>),
    /// By parameters of the deployed model instead of MACs.
    Params(ParamBins),
    /// By measured latency instead of MACs.
    Latency(LatencyBudgetSpec),
}

/// Bins of the catalog by parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum ParamBins {
    /// A new bin when the parameters exceed the bin's first by more than this many.
    Gap(f64),
    /// Upper edges in parameters, ascending.
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
    /// Budget first, then by rank of the stitches' own losses, the k-th best with weight 1/k: a bandit that trains what
    /// will be deployed. Our choice.
    Bandit,
}

impl SamplingStrategy {
    /// The column of the table that decides inside a budget, once every stitch of it has had its first visits; none where
    /// chance does.
    #[must_use]
    pub fn reads(self) -> Option<Column> {
        match self {
            Self::Importance => Some(Column::Importance),
            Self::Bandit => Some(Column::Effect),
            Self::Bins | Self::Uniform => None,
        }
    }
}

/// A column of the table (`Row`) by which stitches are drawn or deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The running average of scores.
    Importance,
    /// That of losses.
    Loss,
    /// A stitch's own part of its losses, over all of them.
    Effect,
}

impl Column {
    /// Whether it is a running average, of `sampling.momentum`.
    pub(super) fn is_averaged(self) -> bool {
        match self {
            Self::Importance | Self::Loss => true,
            Self::Effect => false,
        }
    }
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
