//! How one visit of an image shows it (HANDS): turned, inverted, mirrored.

use std::borrow::Cow;

use esta_engine::spec::{AugmentSpec, DataSpec};
use rand::{Rng, RngExt};

use crate::pixels::Pixels;
use crate::transform::Mirror;

/// How an image is shown: turned first, then inverted, then mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pose {
    /// Clockwise quarter turns.
    pub quarters: u32,
    /// Whether every intensity v becomes 255 - v.
    pub invert: bool,
    /// Whether left and right are exchanged.
    pub mirror: Mirror,
}

impl Pose {
    /// As it is.
    pub(crate) const PLAIN: Self = Self { quarters: 0, invert: false, mirror: Mirror::Plain };

    /// The fitted, hence square, image turned and inverted; mirroring is left to [`Transform::write`].
    ///
    /// [`Transform::write`]: crate::Transform::write
    pub(crate) fn turn(self, image: Cow<'_, Pixels>) -> Cow<'_, Pixels> {
        if self.quarters == 0 && !self.invert {
            return image;
        }
        let image = image.into_owned().rotate(self.quarters);
        Cow::Owned(if self.invert { image.invert() } else { image })
    }
}

/// Which parts of a pose a job leaves to chance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Poses {
    horizontal_flip: bool,
    augment: AugmentSpec,
}

impl Poses {
    pub(crate) fn new(data: &DataSpec) -> Self {
        Self { horizontal_flip: data.horizontal_flip, augment: data.augment }
    }

    /// Whether every visit is plain.
    pub(crate) fn are_plain(self) -> bool {
        !self.horizontal_flip && self.augment == AugmentSpec::default()
    }

    /// A pose. Always three draws in one order, so that a switch never moves what another sees.
    pub(crate) fn draw(self, rng: &mut impl Rng) -> Pose {
        let (mirrored, quarters, inverted): (bool, u32, bool) = (rng.random(), rng.random_range(0..4), rng.random());
        Pose {
            quarters: if self.augment.rotate { quarters } else { 0 },
            invert: self.augment.invert && inverted,
            mirror: if self.horizontal_flip && mirrored { Mirror::Mirrored } else { Mirror::Plain },
        }
    }
}
