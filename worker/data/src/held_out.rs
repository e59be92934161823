//! Held-out images (HANDS): every one once, in the set's order, unaugmented.

use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;

use esta_engine::spec::{DataSpec, DatasetSpec};

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::pose::Pose;
use crate::samples::{Batch, Samples};
use crate::transform::InputShape;

/// A set for evaluation. A clone shares the images.
#[derive(Debug, Clone)]
pub struct HeldOut {
    samples: Arc<Samples>,
}

impl HeldOut {
    /// Opens the held-out set of `data`; none when the spec has none.
    ///
    /// # Errors
    /// [`DataError`] of [`Dataset::open`] and [`HeldOut::new`].
    pub fn open(data: &DataSpec, shape: InputShape) -> Result<Option<Self>, DataError> {
        data.eval.as_ref().map(|set| Self::of(set, data, shape)).transpose()
    }

    /// Opens the validation slice of `data`; none when the spec has none.
    ///
    /// # Errors
    /// [`DataError`] of [`Dataset::open`] and [`HeldOut::new`].
    pub fn validation(data: &DataSpec, shape: InputShape) -> Result<Option<Self>, DataError> {
        data.validation.as_ref().map(|set| Self::of(set, data, shape)).transpose()
    }

    fn of(set: &DatasetSpec, data: &DataSpec, shape: InputShape) -> Result<Self, DataError> {
        Self::new(Arc::new(Dataset::open(data, set)?), data, shape)
    }

    /// Any open set, read as held-out images are.
    ///
    /// # Errors
    /// [`DataError`] of [`Transform::new`](crate::Transform::new).
    pub fn new(dataset: Arc<Dataset>, data: &DataSpec, shape: InputShape) -> Result<Self, DataError> {
        Ok(Self { samples: Arc::new(Samples::new(dataset, data, shape)?) })
    }

    /// The set itself.
    #[must_use]
    pub fn dataset(&self) -> &Dataset {
        self.samples.dataset()
    }

    /// The images of a range, for ranks that share an evaluation.
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

    /// All images in order, `size` at a time; the last chunk holds what remains.
    pub fn chunks(&self, size: NonZeroU32) -> impl Iterator<Item = Result<Batch, DataError>> + '_ {
        let (len, size) = (self.dataset().len(), u64::from(size.get()));
        (0..len.div_ceil(size)).map(move |chunk| self.batch(chunk * size..len.min((chunk + 1) * size)))
    }
}
