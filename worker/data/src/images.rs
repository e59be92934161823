//! Images at the anchors' input size (HANDS), kept where they are few enough.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use esta_engine::spec::DataSpec;

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::pixels::Pixels;
use crate::pose::Pose;
use crate::transform::{InputShape, Transform};

/// Sets whose resized images fit here are kept, so that each is decoded and resized once per process, not per epoch.
/// VTAB-1k at 224 takes 150 MB.
const KEPT_BYTES: u64 = 512 << 20;

/// Images and labels of one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageBatch {
    /// Normalised images, N x C x H x W.
    pub images: Vec<f32>,
    /// N classes.
    pub labels: Vec<i64>,
    /// N, C, H, W.
    pub shape: [usize; 4],
}

/// A data set and the transform to the anchors' input.
#[derive(Debug)]
pub(crate) struct Images {
    dataset: Arc<Dataset>,
    transform: Transform,
    /// Fitted images by index, filled as they are first seen; none for a set too large to keep.
    fitted: Option<Vec<OnceLock<Pixels>>>,
}

impl Images {
    pub(crate) fn new(dataset: Arc<Dataset>, data: &DataSpec, shape: InputShape) -> Result<Self, DataError> {
        let transform = Transform::new(data, shape)?;
        let fits = dataset.len().saturating_mul(shape.numel() as u64) <= KEPT_BYTES;
        let fitted = fits.then(|| (0..dataset.len()).map(|_| OnceLock::new()).collect());
        Ok(Self { dataset, transform, fitted })
    }

    pub(crate) fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The batch of these samples, in this order. Panics when an index is not below the set's length.
    pub(crate) fn batch(&self, picks: &[(u64, Pose)]) -> Result<ImageBatch, DataError> {
        let InputShape { image_size, channels } = self.transform.shape();
        let numel = self.transform.shape().numel();
        let mut images = vec![0.0; picks.len() * numel];
        for (&(index, pose), out) in picks.iter().zip(images.chunks_exact_mut(numel)) {
            self.transform.write(&pose.turn(self.fitted(index)?), pose.mirror, out);
        }
        let labels = picks.iter().map(|&(index, _)| i64::from(self.dataset.labels()[index as usize])).collect();
        Ok(ImageBatch {
            images,
            labels,
            shape: [picks.len(), channels as usize, image_size as usize, image_size as usize],
        })
    }

    fn fitted(&self, index: u64) -> Result<Cow<'_, Pixels>, DataError> {
        let kept = self.fitted.as_ref().map(|fitted| &fitted[index as usize]);
        if let Some(image) = kept.and_then(OnceLock::get) {
            return Ok(Cow::Borrowed(image));
        }
        let image = self.transform.fit(self.dataset.image(index)?);
        // Two threads may fit the same image at once: they made the same bytes, and either may stay.
        Ok(match kept {
            Some(cell) => Cow::Borrowed(cell.get_or_init(|| image)),
            None => Cow::Owned(image),
        })
    }
}
