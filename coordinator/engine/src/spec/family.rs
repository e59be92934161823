//! The `family` section: anchors, stitching space, start of the stitching layers.

use serde::{Deserialize, Serialize};

use crate::arch::{LlamaArch, VitArch};

/// The anchors, smallest cost first, and how they are stitched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FamilySpec {
    /// The anchors in order of cost.
    pub anchors: Vec<AnchorSpec>,
    /// Which stitches exist.
    #[serde(default)]
    pub space: SpaceSpec,
    /// How stitching layers start.
    #[serde(default)]
    pub stitch_init: StitchInit,
}

/// One pre-trained network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct AnchorSpec {
    /// Short name for tables and plots.
    pub name: String,
    /// A name whose shape is known: timm's, such as `vit_tiny_patch16_224.augreg_in21k`, or a hub's, such as
    /// `Qwen/Qwen3-0.6B`. Or give `arch` or `config`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// A vision transformer's shape in numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arch: Option<VitArch>,
    /// A language model's shape in Hugging Face's words. Whoever loads the job takes it from `config.json` of the weights'
    /// folder where the job gives no shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<LlamaArch>,
    /// Vision: a safetensors file with timm's names, or a folder holding `model.safetensors`. Language: a Hugging Face
    /// folder, or a hub name such as `Qwen/Qwen3-0.6B`, which a worker fetches where it is not in the Hugging Face cache.
    pub weights: String,
}

/// A stitching space (METHOD.md section 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SpaceSpec {
    /// Which rule enumerates the stitches.
    #[serde(default)]
    pub kind: SpaceKind,
    /// Blocks in a window (`snnet`, `esta`).
    #[serde(default = "two")]
    pub window: u32,
    /// Blocks a window moves by (`snnet`, `esta`).
    #[serde(default = "one")]
    pub stride: u32,
    /// Only neighbouring anchors are stitched (`snnet`, `esta`). Off: every ordered pair, and chains of three anchors.
    #[serde(default = "yes")]
    pub nearest: bool,
}

impl Default for SpaceSpec {
    fn default() -> Self {
        Self { kind: SpaceKind::default(), window: 2, stride: 1, nearest: true }
    }
}

/// The rules by which stitches are enumerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SpaceKind {
    /// SN-Net v1's sliding windows over equal depths.
    Snnet,
    /// `snnet` without the pairs whose front anchor runs all its blocks: our choice, after the paper's Fig. 2.
    #[default]
    Esta,
    /// SN-Net v2: both directions, up to two stitching layers.
    Twoway,
    /// Unequal depths: enter the end anchor at the proportional place. Our choice.
    Proportional,
    /// SN-Net v1's own rule for unequal depths.
    Unpaired,
}

/// How stitching layers start: the least-squares map between the anchors' activations (METHOD.md section 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StitchInit {
    /// How a layer shared by several positions is solved.
    #[serde(default)]
    pub method: FitMethod,
    /// Training images used for the fit.
    #[serde(default = "hundred")]
    pub samples: u32,
    /// Ridge added to the diagonal, relative to its mean.
    #[serde(default = "tiny")]
    pub ridge: f64,
    /// Gradient steps by which each layer is then fitted on the end anchor's final features, on the same images and
    /// without labels. Our choice; 0 keeps the least-squares start.
    #[serde(default)]
    pub refine_steps: u32,
}

impl Default for StitchInit {
    fn default() -> Self {
        Self { method: FitMethod::default(), samples: 100, ridge: tiny(), refine_steps: 0 }
    }
}

/// How one layer serves several positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum FitMethod {
    /// One least-squares problem over the rows of all positions. Our choice.
    #[default]
    Joint,
    /// The mean of the positions' own solutions, as SN-Net does.
    Mean,
}

fn one() -> u32 {
    1
}

fn two() -> u32 {
    2
}

fn hundred() -> u32 {
    100
}

fn tiny() -> f64 {
    1e-6
}

fn yes() -> bool {
    true
}
