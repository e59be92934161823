//! Held-out samples (HANDS): every one once, in the set's order, unaugmented.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use esta_engine::spec::{DataSpec, DatasetSpec};
use esta_text::TextSet;

use crate::error::DataError;
use crate::pose::Pose;
use crate::samples::{Batch, Intake, Samples};

/// A set for evaluation. A clone shares the samples.
#[derive(Debug, Clone)]
pub struct HeldOut {
    samples: Arc<Samples>,
}

impl HeldOut {
    /// Opens the held-out set of `data`; none when the spec has none.
    ///
    /// # Errors
    /// [`DataError`] naming the file and the place in it.
    pub fn open(data: &DataSpec, intake: &Intake) -> Result<Option<Self>, DataError> {
        data.eval.as_ref().map(|set| Self::of(set, data, intake)).transpose()
    }

    /// Opens the validation slice of `data`; none when the spec has none.
    ///
    /// # Errors
    /// [`DataError`] naming the file and the place in it.
    pub fn validation(data: &DataSpec, intake: &Intake) -> Result<Option<Self>, DataError> {
        data.validation.as_ref().map(|set| Self::of(set, data, intake)).transpose()
    }

    fn of(set: &DatasetSpec, data: &DataSpec, intake: &Intake) -> Result<Self, DataError> {
        Ok(Self { samples: Arc::new(Samples::judged(set, data, intake)?) })
    }

    /// Samples of the set; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub fn len(&self) -> u64 {
        self.samples.len()
    }

    /// The texts, where it is a set of those.
    #[must_use]
    pub fn texts(&self) -> Option<&TextSet> {
        self.samples.texts()
    }

    /// What the classes of images are called, by their numbers; empty where the files do not say.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        self.samples.classes()
    }

    /// The samples of a range, for ranks that share an evaluation.
    ///
    /// # Errors
    /// [`DataError`] of the first image that cannot be read.
    ///
    /// # Panics
    /// When the range ends beyond the set.
    pub fn batch(&self, range: Range<u64>) -> Result<Batch, DataError> {
        let picks: Vec<(u64, Pose)> = range.map(|index| (index, Pose::PLAIN)).collect();
        self.samples.batch(&picks)
    }

    /// All samples in order, `size` at a time; the last chunk holds what remains.
    pub fn chunks(&self, size: NonZeroU32) -> impl Iterator<Item = Result<Batch, DataError>> + '_ {
        let (len, size) = (self.len(), u64::from(size.get()));
        (0..len.div_ceil(size)).map(move |chunk| self.batch(chunk * size..len.min((chunk + 1) * size)))
    }
}
