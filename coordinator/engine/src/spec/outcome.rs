//! The sections on what a run ends with: the palette and its evaluation.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::Column;

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
    /// Lowest own part of the training loss, the run's common trend removed (`Row::effect`). Our choice.
    Auto,
}

impl PaletteRule {
    /// All of them, the paper's first.
    pub const ALL: [Self; 3] = [Self::Snip, Self::Loss, Self::Auto];

    /// Its name in a job file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Snip => "snip",
            Self::Loss => "loss",
            Self::Auto => "auto",
        }
    }

    /// The column of the table that it goes by.
    #[must_use]
    pub fn reads(self) -> Column {
        match self {
            Self::Snip => Column::Importance,
            Self::Loss => Column::Loss,
            Self::Auto => Column::Effect,
        }
    }

    /// The rule of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
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
    /// Threads of the evaluation at a run's end; as many as the machine has cores when absent. Runs side by side on one
    /// machine do better with one each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<NonZeroU32>,
    /// Export the palette's models as standalone folders.
    pub export: bool,
    /// Language models: measure the largest anchor ended after each of its blocks too. Costs an evaluation per block.
    #[serde(skip_serializing_if = "super::is_off")]
    pub exits: bool,
    /// Training images on which every evaluated stitch is measured too: its loss, and how far its answers are from those
    /// of the anchors. Nothing is chosen by it; a study tries rules with it. 0 measures nothing.
    #[serde(skip_serializing_if = "nothing")]
    pub probe_images: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn nothing(count: &u32) -> bool {
    *count == 0
}

impl Default for EvalSpec {
    fn default() -> Self {
        Self {
            stitches: EvalStitches::Palette,
            batch_size: 128,
            threads: None,
            export: true,
            exits: false,
            probe_images: 0,
        }
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
