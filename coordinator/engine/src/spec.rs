//! The job specification (LAW): one YAML file, typed. Field names follow Hugging Face's `TrainingArguments` and PEFT
//! where those have a word for it. Reading the file is `esta-config`'s work; what it means is decided here.

mod adaptation;
mod bounds;
mod data;
mod family;
mod latency;
mod model;
mod outcome;
mod sampling;
mod text;
mod timeouts;
mod training;
mod unread;
mod validate;

use serde::{Deserialize, Serialize};

use crate::cost::Task;

pub use adaptation::{LoraSharing, PstBias, PstSpec, Target};
pub use data::{AugmentSpec, DataSpec, DatasetSpec, Layout, Normalize, Resize, Split};
pub use family::{AnchorSpec, FamilySpec, FitMethod, SpaceKind, SpaceSpec, StitchInit};
pub use latency::{LatencyBins, LatencyBudgetSpec};
pub use model::{ModelSpec, Shard};
pub use outcome::{EvalSpec, EvalStitches, PaletteRule, PaletteSpec};
pub use sampling::{
    BudgetSpec, Column, Divisor, ParamBins, ReduceSpec, Reduction, SaliencyReduction, SamplingSpec, SamplingStrategy,
    ScoreSpec,
};
pub use text::{Flawed, LossOn, OverLong, Template, TextSpec};
pub use timeouts::{TimeoutSpec, seconds};
pub use training::{DistillSpec, HeadInit, LrSchedule, Precision, TrainSpec};
pub use validate::SpecError;

/// One job: a family of anchors, a target task, and how to turn the one into a palette for the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Name of the run; also the default folder under `runs/`.
    pub name: String,
    /// Seed of every random stream of the run.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// Where the run writes; `runs/<name>` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_dir: Option<String>,
    /// Which values stand where a job file leaves a key out: `best` where it names no recipe, or `paper` in the modes
    /// that are baselines. A resolved job says every value itself, and this only names where they came from.
    #[serde(default)]
    pub recipe: Recipe,
    /// What is trained: shared LoRA and stitch biases, everything, or one anchor alone.
    #[serde(default)]
    pub mode: Mode,
    /// The anchors and how they are stitched.
    pub family: FamilySpec,
    /// How the anchors lie in memory. Written out only where it is not the default.
    #[serde(default, skip_serializing_if = "ModelSpec::is_default")]
    pub model: ModelSpec,
    /// Parameter-efficient stitch fine-tuning (METHOD.md section 2).
    #[serde(default)]
    pub pst: PstSpec,
    /// Bins of the catalog by cost.
    #[serde(default)]
    pub budgets: BudgetSpec,
    /// How stitches are drawn.
    #[serde(default)]
    pub sampling: SamplingSpec,
    /// How a stitch's importance is measured.
    #[serde(default)]
    pub score: ScoreSpec,
    /// How gradients of slots become one update.
    #[serde(default)]
    pub reduce: ReduceSpec,
    /// Optimisation.
    pub train: TrainSpec,
    /// Source of images and labels, or of texts.
    pub data: DataSpec,
    /// What is chosen at the end.
    #[serde(default)]
    pub palette: PaletteSpec,
    /// What is measured at the end.
    #[serde(default)]
    pub eval: EvalSpec,
    /// How long its parts may be silent or busy. Written out only where it is not the default.
    #[serde(default, skip_serializing_if = "TimeoutSpec::is_default")]
    pub timeouts: TimeoutSpec,
}

/// A named set of values that stands under a job file; the values are `esta-config`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// The paper where its text is known, this project's documented choices elsewhere.
    #[default]
    Paper,
    /// What lifts the front in this project's studies.
    Best,
}

/// What a run trains. No model file knows the mode: it only decides which parameters are in which group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// ESTA: shared LoRA, per-stitch biases, one head per end anchor; everything else frozen.
    #[default]
    Pst,
    /// Direct SN-Net adaptation: every weight is trained, stitches are drawn uniformly over the catalog. A floor for anchors
    /// has no recipe here; one that the job itself gives stands.
    Snnet,
    /// Every anchor alone, no stitches; `train.full` decides between LoRA and full fine-tuning.
    Anchor,
}

// A key that came after the first results is not written where it says nothing new: a job that is silent about it is the job it
// was, and what was made of it is found again by its digest.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_off(switch: &bool) -> bool {
    !*switch
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_on(switch: &bool) -> bool {
    *switch
}

fn default_seed() -> u64 {
    42
}

impl JobSpec {
    /// What its networks are to do.
    #[must_use]
    pub fn task(&self) -> Task {
        match &self.data.text {
            Some(text) => Task::Speak { tokens: text.max_length },
            None => Task::Classify { classes: self.data.num_classes },
        }
    }

    /// The folder the run writes into.
    #[must_use]
    pub fn run_dir(&self) -> String {
        self.output_dir.clone().unwrap_or_else(|| format!("runs/{}", self.name))
    }

    /// How stitches are drawn in this mode: the baselines draw uniformly, whatever `sampling.strategy` says. A floor for
    /// anchors stands in every mode: only a job's own words give a baseline one.
    #[must_use]
    pub fn effective_sampling(&self) -> SamplingSpec {
        let strategy = match self.mode {
            Mode::Pst => self.sampling.strategy,
            Mode::Snnet | Mode::Anchor => SamplingStrategy::Uniform,
        };
        SamplingSpec { strategy, ..self.sampling.clone() }
    }

    /// Whether the frozen blocks of the anchors are spread over the ranks of a node.
    #[must_use]
    pub fn is_sharded(&self) -> bool {
        self.model.shard == Shard::Node
    }

    /// Whether a pass keeps only what enters each block for its way back.
    #[must_use]
    pub fn keeps_little(&self) -> bool {
        self.train.gradient_checkpointing || self.is_sharded()
    }

    /// Whether stitches are evaluated after the last step.
    #[must_use]
    pub fn evaluates(&self) -> bool {
        self.data.eval.is_some() && self.eval.stitches != EvalStitches::None
    }

    /// The type in which frozen matrices lie in memory and on disk: a language model's are kept as they are multiplied, once. A
    /// vision transformer's stay in single precision, in which it is merged for export.
    #[must_use]
    pub fn frozen_precision(&self) -> Precision {
        match self.task() {
            Task::Classify { .. } => Precision::F32,
            Task::Speak { .. } => self.train.precision,
        }
    }

    /// Whether the anchors' own weights are trained (as opposed to adapters on frozen weights).
    #[must_use]
    pub fn trains_everything(&self) -> bool {
        match self.mode {
            Mode::Pst => false,
            Mode::Snnet => true,
            Mode::Anchor => self.train.full,
        }
    }
}
