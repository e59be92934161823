//! Training batches by sample counter (HANDS).

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use esta_engine::order::{DataOrder, EpochCache, Visit};
use esta_engine::spec::DataSpec;
use esta_engine::streams::{self, Stream};

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::pose::{Pose, Poses};
use crate::samples::{Batch, Samples};
use crate::transform::InputShape;

/// The training set of a job: a batch is a function of (spec, seed, counters), whoever asks and in whatever order, so
/// each epoch visits each sample exactly once across any membership changes (DT-1). A clone shares the images.
#[derive(Debug, Clone)]
pub struct Loader {
    samples: Arc<Samples>,
    order: DataOrder,
    epochs: Arc<Mutex<EpochCache>>,
    poses: Poses,
}

impl Loader {
    /// Opens the training set of `data` for anchors that take `shape`, in the order of the run's `seed`.
    ///
    /// # Errors
    /// [`DataError`] of [`Dataset::open`] and [`Loader::new`].
    pub fn open(data: &DataSpec, shape: InputShape, seed: u64) -> Result<Self, DataError> {
        Self::new(Arc::new(Dataset::open(data, &data.train)?), data, shape, seed)
    }

    /// The loader of an open set.
    ///
    /// # Errors
    /// [`DataError`] of [`Transform::new`](crate::Transform::new).
    pub fn new(dataset: Arc<Dataset>, data: &DataSpec, shape: InputShape, seed: u64) -> Result<Self, DataError> {
        let len = NonZeroU64::new(dataset.len()).expect("a data set is never empty");
        let order = DataOrder { seed, len };
        let samples = Arc::new(Samples::new(dataset, data, shape)?);
        let epochs = Arc::new(Mutex::new(EpochCache::new(order)));
        Ok(Self { samples, order, epochs, poses: Poses::new(data) })
    }

    /// The set itself.
    #[must_use]
    pub fn dataset(&self) -> &Dataset {
        self.samples.dataset()
    }

    /// The order in which counters visit the samples.
    #[must_use]
    pub fn order(&self) -> DataOrder {
        self.order
    }

    /// The batch of these committed sample counters; it may straddle epochs.
    ///
    /// # Errors
    /// [`DataError`] of the first image that cannot be read.
    pub fn batch(&self, counters: Range<u64>) -> Result<Batch, DataError> {
        let visits = self.visits(counters);
        let picks: Vec<(u64, Pose)> = visits.into_iter().map(|visit| (visit.index, self.pose(visit))).collect();
        self.samples.batch(&picks)
    }

    /// The samples of these indices as they are, never augmented: what stitching layers are fitted on.
    ///
    /// # Errors
    /// [`DataError`] of the first image that cannot be read.
    ///
    /// # Panics
    /// When an index is not below the set's length.
    pub fn plain(&self, indices: impl IntoIterator<Item = u64>) -> Result<Batch, DataError> {
        let picks: Vec<(u64, Pose)> = indices.into_iter().map(|index| (index, Pose::PLAIN)).collect();
        self.samples.batch(&picks)
    }

    fn visits(&self, counters: Range<u64>) -> Vec<Visit> {
        // A panic while a permutation is computed leaves the cache as it was.
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        counters.map(|counter| epochs.sample(counter)).collect()
    }

    fn pose(&self, visit: Visit) -> Pose {
        if self.poses.are_plain() {
            return Pose::PLAIN;
        }
        let index = visit.epoch.wrapping_mul(self.order.len.get()).wrapping_add(visit.index);
        self.poses.draw(&mut streams::rng(self.order.seed, Stream::Augment, index))
    }
}
