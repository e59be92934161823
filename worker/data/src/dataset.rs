//! A set of labelled images (HANDS): the chosen part of what a layout lists, decoded one image at a time.

use std::path::Path;

use esta_engine::spec::{DataSpec, DatasetSpec};

use crate::error::DataError;
use crate::layout::{Images, Listing};
use crate::pixels::Pixels;
use crate::resample::resize;
use crate::select::select;

/// Labelled images in a fixed order, after `classes` and `split`. Never empty.
#[derive(Debug)]
pub struct Dataset {
    images: Images,
    labels: Vec<u32>,
    classes: Vec<String>,
    downsample: Option<usize>,
    quarters: u32,
    invert: bool,
}

impl Dataset {
    /// Opens one set of a job's data section. Labels and the files' shape are checked here; image files are decoded
    /// when they are read.
    ///
    /// # Errors
    /// [`DataError`], naming the file and the place in it.
    pub fn open(data: &DataSpec, set: &DatasetSpec) -> Result<Self, DataError> {
        if !matches!(set.rotate, 0 | 90 | 180 | 270) {
            return Err(DataError::Rotation { path: Path::new(&set.path).to_owned(), degrees: set.rotate });
        }
        if set.downsample == Some(0) {
            return Err(DataError::Downsample { path: Path::new(&set.path).to_owned() });
        }
        let listing = Listing::open(set, &data.train)?;
        let chosen = select(set, data.num_classes, &listing.labels, |record| listing.origin(record))?;
        let records: Vec<usize> = chosen.iter().map(|chosen| chosen.record).collect();
        let labels = chosen.iter().map(|chosen| chosen.label).collect();
        let classes = kept_names(&listing.classes, set.classes.as_deref());
        let (downsample, quarters) = (set.downsample.map(|side| side as usize), set.rotate / 90);
        Ok(Self { images: listing.load(&records)?, labels, classes, downsample, quarters, invert: set.invert })
    }

    /// Number of images, at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> u64 {
        self.labels.len() as u64
    }

    /// The class of every image, below the job's `num_classes`.
    #[must_use]
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// What the classes are called, by their numbers; empty where the files do not say.
    #[must_use]
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// One image, decoded, coarsened, turned and inverted as the spec asks.
    ///
    /// # Errors
    /// [`DataError::Read`] or [`DataError::Image`].
    ///
    /// # Panics
    /// When `index` is not below [`Dataset::len`].
    pub fn image(&self, index: u64) -> Result<Pixels, DataError> {
        let mut image = self.images.read(index as usize)?;
        if let Some(side) = self.downsample {
            image = coarsen(&image, side);
        }
        let image = image.rotate(self.quarters);
        Ok(if self.invert { image.invert() } else { image })
    }
}

/// The names that a `classes` filter leaves, under the numbers it gives.
fn kept_names(names: &[String], kept: Option<&[u32]>) -> Vec<String> {
    let Some(kept) = kept else { return names.to_vec() };
    kept.iter().filter_map(|&class| names.get(class as usize).cloned()).collect()
}

/// What remains of an image seen through `side` x `side` pixels, at its own size.
fn coarsen(image: &Pixels, side: usize) -> Pixels {
    resize(&resize(image, side, side), image.height, image.width)
}
