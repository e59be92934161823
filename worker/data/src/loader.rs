//! Training batches by sample counter (HANDS).

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use esta_text::TextSet;

use esta_engine::order::{DataOrder, EpochCache, Visit};
use esta_engine::spec::DataSpec;
use esta_engine::streams::{self, Stream};

use crate::error::DataError;
use crate::pose::{Pose, Poses};
use crate::samples::{Batch, Intake, Samples};

/// The training set of a job: a batch is a function of (spec, seed, counters), whoever asks and in whatever order, so
/// each epoch visits each sample exactly once across any membership changes (DT-1). A clone shares the samples.
#[derive(Debug, Clone)]
pub struct Loader {
    samples: Arc<Samples>,
    order: DataOrder,
    epochs: Arc<Mutex<EpochCache>>,
    poses: Poses,
}

impl Loader {
    /// Opens the training set of `data` for anchors that take `intake`, in the order of the run's `seed`. Texts of about one
    /// length are visited together in steps of `batch`, where the spec says so.
    ///
    /// # Errors
    /// [`DataError`] naming the file and the place in it.
    pub fn open(data: &DataSpec, intake: &Intake, seed: u64, batch: u32) -> Result<Self, DataError> {
        let samples = Arc::new(Samples::open(&data.train, data, intake)?);
        let len = NonZeroU64::new(samples.len()).expect("a data set is never empty");
        let order = DataOrder { seed, len };
        let grouping = NonZeroU64::new(u64::from(batch)).and_then(|batch| samples.grouping(data, batch));
        let epochs = Arc::new(Mutex::new(EpochCache::grouped(order, grouping)));
        Ok(Self { samples, order, epochs, poses: Poses::new(data) })
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

    /// The order in which counters visit the samples, lengths left aside.
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
