//! A set ready for the anchors (HANDS): what training and evaluation take their batches from.

use std::num::NonZeroU64;
use std::sync::Arc;

use esta_engine::order::Grouping;
use esta_engine::spec::{DataSpec, DatasetSpec, LossOn};
use esta_text::{TextSet, TokenBatch, Tokenizer};

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::images::{ImageBatch, Images};
use crate::pose::Pose;
use crate::transform::InputShape;

/// What the anchors of a family take; all of them the same.
#[derive(Debug, Clone)]
pub enum Intake {
    /// Images of one size.
    Images(InputShape),
    /// Tokens of this vocabulary.
    Texts(Arc<Tokenizer>),
}

impl From<InputShape> for Intake {
    fn from(shape: InputShape) -> Self {
        Self::Images(shape)
    }
}

/// One slot's work, or one chunk of an evaluation.
#[derive(Debug, Clone, PartialEq)]
pub enum Batch {
    /// Images and their classes.
    Images(ImageBatch),
    /// Token sequences and what is learned of them.
    Texts(TextBatch),
}

/// Token sequences of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextBatch {
    /// The sequences, padded behind.
    pub tokens: TokenBatch,
    /// Tokens of each, padding left out.
    pub lengths: Vec<u32>,
}

/// A set of samples.
#[derive(Debug)]
pub(crate) enum Samples {
    Images(Images),
    Texts { set: TextSet, lengths: Arc<[u32]> },
}

impl Samples {
    pub(crate) fn open(set: &DatasetSpec, data: &DataSpec, intake: &Intake) -> Result<Self, DataError> {
        match (intake, &data.text) {
            (Intake::Images(shape), _) => {
                Ok(Self::Images(Images::new(Arc::new(Dataset::open(data, set)?), data, *shape)?))
            }
            (Intake::Texts(tokenizer), text) => {
                let set = TextSet::open(&text.clone().unwrap_or_default(), set, tokenizer)?;
                let lengths = set.lengths().into();
                Ok(Self::Texts { set, lengths })
            }
        }
    }

    /// A set that models are judged by: on its answers alone, whatever else is learned in training. A model that is asked
    /// writes no prompt, and losses compare only where they are means over the same tokens.
    pub(crate) fn judged(set: &DatasetSpec, data: &DataSpec, intake: &Intake) -> Result<Self, DataError> {
        let mut data = data.clone();
        if let Some(text) = &mut data.text {
            text.loss_on = LossOn::Answers;
        }
        Self::open(set, &data, intake)
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Images(images) => images.dataset().len(),
            Self::Texts { set, .. } => set.len(),
        }
    }

    /// The texts, where it has any.
    pub(crate) fn texts(&self) -> Option<&TextSet> {
        match self {
            Self::Images(_) => None,
            Self::Texts { set, .. } => Some(set),
        }
    }

    /// What its classes are called, where they have names.
    pub(crate) fn classes(&self) -> &[String] {
        match self {
            Self::Images(images) => images.dataset().classes(),
            Self::Texts { .. } => &[],
        }
    }

    /// How its samples are grouped in steps of `batch`, where the spec asks for it.
    pub(crate) fn grouping(&self, data: &DataSpec, batch: NonZeroU64) -> Option<Grouping> {
        match self {
            Self::Texts { lengths, .. } if data.text.as_ref().is_some_and(|text| text.group_by_length) => {
                Some(Grouping { lengths: Arc::clone(lengths), batch })
            }
            Self::Texts { .. } | Self::Images(_) => None,
        }
    }

    /// The batch of these samples, in this order; texts take no pose. Panics when an index is not below the set's length.
    pub(crate) fn batch(&self, picks: &[(u64, Pose)]) -> Result<Batch, DataError> {
        match self {
            Self::Images(images) => images.batch(picks).map(Batch::Images),
            Self::Texts { set, lengths } => {
                let indices: Vec<u64> = picks.iter().map(|&(index, _)| index).collect();
                let lengths = indices.iter().map(|&index| lengths[index as usize]).collect();
                Ok(Batch::Texts(TextBatch { tokens: set.batch(&indices), lengths }))
            }
        }
    }
}
