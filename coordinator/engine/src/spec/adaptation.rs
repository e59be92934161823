//! The section on adaptation: LoRA pairs and stitch biases (METHOD.md section 2).

use serde::{Deserialize, Serialize};

/// Parameter-efficient stitch fine-tuning: h = W x + (alpha/r) B A x + b + `b_stitch` (METHOD.md section 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct PstSpec {
    /// Rank of the LoRA pairs in blocks.
    pub lora_r: u32,
    /// Scale numerator; `lora_r` when absent, so that the scale is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora_alpha: Option<f64>,
    /// Dropout on the input of the LoRA pairs.
    pub lora_dropout: f64,
    /// Which linear maps of a block carry a pair: attention's projections (the paper), and the MLP's where asked for.
    #[serde(alias = "target_modules")]
    pub targets: Vec<Target>,
    /// Rank of the pair on a stitching layer; 0 trains no pair there.
    pub stitch_r: u32,
    /// Whose the pairs are.
    pub lora: LoraSharing,
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
            lora: LoraSharing::Shared,
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

/// A linear map of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Queries.
    #[serde(alias = "q_proj")]
    Q,
    /// Keys.
    #[serde(alias = "k_proj")]
    K,
    /// Values.
    #[serde(alias = "v_proj")]
    V,
    /// Output projection of attention.
    #[serde(alias = "o_proj")]
    O,
    /// Into the MLP: first map, or gate and up projection. Our option: a network that is small for its target has little to
    /// adapt in attention alone.
    Fc1,
    /// Out of the MLP: second map, or down projection.
    #[serde(alias = "down_proj")]
    Fc2,
}

impl Target {
    /// Whether it is a part of a vision transformer's fused q, k, v projection.
    #[must_use]
    pub fn is_fused(self) -> bool {
        matches!(self, Self::Q | Self::K | Self::V)
    }
}

/// Whose the LoRA pairs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LoraSharing {
    /// One pair per block and stitching layer for all stitches (the paper).
    #[default]
    Shared,
    /// Every stitch has pairs of its own: what the paper compares itself with.
    PerStitch,
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
