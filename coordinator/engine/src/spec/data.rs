//! The `data` section: where images and labels, or texts, come from and how they become batches.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::TextSpec;

/// Training data, held-out data and the transforms between a file and a tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Number of classes; labels are 0..classes. Left out where `text` is given.
    #[serde(default, skip_serializing_if = "none")]
    pub num_classes: u32,
    /// How text becomes tokens; left out where the anchors see images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextSpec>,
    /// Labelled images, or texts, to adapt on.
    pub train: DatasetSpec,
    /// Those that the report's accuracies or losses are measured on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval: Option<DatasetSpec>,
    /// A small labelled slice kept from both: every evaluated stitch is scored on it beside, so that a study can try what
    /// choosing by it would gain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<DatasetSpec>,
    /// How images reach the anchors' input size.
    #[serde(default)]
    pub resize: Resize,
    /// Channel statistics.
    #[serde(default)]
    pub normalize: Normalize,
    /// Mirror left and right with probability one half, keyed by (seed, epoch, sample).
    #[serde(default)]
    pub horizontal_flip: bool,
    /// Further changes to training images, keyed as `horizontal_flip` is.
    #[serde(default)]
    pub augment: AugmentSpec,
    /// Threads that prepare batches ahead, per worker.
    #[serde(default = "one")]
    pub loader_threads: u32,
}

/// Changes to every training image anew in each epoch, keyed by (seed, epoch, sample). A switch decides for itself: it
/// never changes what another draws. All off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AugmentSpec {
    /// Turn by 0, 90, 180 or 270 degrees, each with probability one quarter.
    pub rotate: bool,
    /// Replace every intensity v by 1 - v with probability one half.
    pub invert: bool,
}

/// One set of labelled images, or of texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// File layout.
    pub layout: Layout,
    /// File or folder; for `idx` the images' file.
    pub path: String,
    /// `idx`: the labels' file. `image_list`: the list of "path label" lines. `parquet`: the labels' column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<String>,
    /// Take a seeded, class-balanced part of the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Keep only these classes, renumbered 0.. in this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<u32>>,
    /// Shrink every image to this many pixels a side, antialiased bicubic, and enlarge it back to its own size: what a
    /// coarser sensor would have seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downsample: Option<u32>,
    /// Turn every image clockwise by this many degrees: 0, 90, 180 or 270.
    #[serde(default)]
    pub rotate: u32,
    /// Replace every intensity v by 1 - v.
    #[serde(default)]
    pub invert: bool,
}

/// How files hold a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Pairs of IDX files as MNIST and Fashion-MNIST use, gzip accepted.
    Idx,
    /// scikit-learn's `digits.csv.gz`: 64 intensities 0..16 and a label per line.
    DigitsCsv,
    /// One folder per class, classes in byte order of their names.
    ImageFolder,
    /// Hugging Face image parquet: a file or a folder of shards with `image.bytes` and `label`.
    Parquet,
    /// VTAB-1k lists: lines of "relative/path label".
    ImageList,
    /// Instructions in Stanford Alpaca's form, a JSON list or one JSON object per line: `instruction`, `input` (may be
    /// absent or empty), `output`.
    Alpaca,
    /// Conversations, a JSON list or one JSON object per line: `messages`, each with `role` and `content`.
    Chat,
    /// Plain documents, one JSON object per line: `text`. They follow each other, cut into sequences of `max_length`.
    Text,
}

impl Layout {
    /// Whether it holds texts, not images.
    #[must_use]
    pub fn is_text(self) -> bool {
        matches!(self, Self::Alpaca | Self::Chat | Self::Text)
    }
}

/// A part of a set: `count` images after skipping `skip`, in a seeded class-balanced order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Images left out at the front.
    #[serde(default)]
    pub skip: u64,
    /// Images taken; all that remain when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Seed of the order; apart from the job's, so that seeds of a study share their held-out images.
    #[serde(default)]
    pub seed: u64,
}

impl Split {
    /// The places that the split takes in the seeded order of `found` samples.
    ///
    /// # Errors
    /// The count asked for, where fewer remain.
    pub fn places(&self, found: usize) -> Result<Range<usize>, u64> {
        let start = usize::try_from(self.skip).map_or(found, |skip| skip.min(found));
        match self.count {
            None => Ok(start..found),
            Some(count) => {
                let taken = usize::try_from(count).ok().filter(|count| *count <= found - start).ok_or(count)?;
                Ok(start..start + taken)
            }
        }
    }
}

/// How an image reaches the anchors' input size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Straight to the input size, antialiased bicubic (the recipe's choice).
    #[default]
    Direct,
    /// Shorter side to 8/7 of the input, then the centre crop, as timm evaluates.
    CenterCrop,
}

/// Channel statistics applied as (v - mean) / std to intensities 0..1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// mean 0.5, std 0.5 on every channel (`augreg` checkpoints).
    #[default]
    Half,
    /// ImageNet's statistics (DeiT checkpoints).
    Imagenet,
    /// Given per channel.
    Values {
        /// Per-channel mean.
        mean: Vec<f32>,
        /// Per-channel standard deviation.
        std: Vec<f32>,
    },
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn none(count: &u32) -> bool {
    *count == 0
}
