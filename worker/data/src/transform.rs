//! From a decoded image to a normalised tensor (HANDS), in the steps of timm's evaluation transform.

use esta_engine::spec::{DataSpec, Normalize, Resize};
use esta_engine::statistics::ChannelStatistics;

use crate::error::DataError;
use crate::pixels::Pixels;
use crate::resample::resize;

/// What the anchors take: square images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputShape {
    /// Side in pixels.
    pub image_size: u32,
    /// 1 (grey) or 3 (RGB).
    pub channels: u32,
}

impl InputShape {
    /// Numbers of one image: channels x side x side.
    #[must_use]
    pub fn numel(self) -> usize {
        self.channels as usize * self.side() * self.side()
    }

    fn side(self) -> usize {
        self.image_size as usize
    }
}

/// Whether an image is shown as it is or mirrored left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirror {
    /// As it is.
    Plain,
    /// Left and right exchanged.
    Mirrored,
}

/// Resize, channels and statistics of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Transform {
    shape: InputShape,
    resize: Resize,
    /// Per channel, what each of the 256 intensities becomes.
    levels: Vec<[f32; 256]>,
}

impl Transform {
    /// The transform that `data` asks for.
    ///
    /// # Errors
    /// [`DataError::Shape`], or [`DataError::Statistics`] and [`DataError::Statistic`] when the channel statistics do
    /// not fit the channels.
    pub fn new(data: &DataSpec, shape: InputShape) -> Result<Self, DataError> {
        let InputShape { image_size, channels } = shape;
        if image_size == 0 || !matches!(channels, 1 | 3) {
            return Err(DataError::Shape { channels, image_size });
        }
        let levels = levels(&data.normalize, channels as usize)?;
        Ok(Self { shape, resize: data.resize, levels })
    }

    /// The shape of its results.
    #[must_use]
    pub fn shape(&self) -> InputShape {
        self.shape
    }

    /// The image at the input size, still 8-bit; a grey image stays grey until [`Transform::write`] repeats it.
    #[must_use]
    pub fn fit(&self, image: Pixels) -> Pixels {
        let image = if self.shape.channels == 1 { image.into_grey() } else { image };
        match self.resize {
            Resize::Direct => resize(&image, self.shape.side(), self.shape.side()),
            Resize::CenterCrop => center_crop(&image, self.shape.side()),
        }
    }

    /// Writes a fitted image as normalised channels x height x width.
    ///
    /// # Panics
    /// When `out` does not hold [`InputShape::numel`] numbers.
    pub fn write(&self, image: &Pixels, mirror: Mirror, out: &mut [f32]) {
        assert_eq!(out.len(), self.shape.numel(), "one image's numbers");
        let side = self.shape.side();
        for (channel, (plane, levels)) in out.chunks_exact_mut(side * side).zip(&self.levels).enumerate() {
            // A grey image has one channel, and every plane reads it.
            let channel = channel.min(image.channels - 1);
            let values = image.bytes.iter().skip(channel).step_by(image.channels);
            plane.iter_mut().zip(values).for_each(|(number, &value)| *number = levels[usize::from(value)]);
            if mirror == Mirror::Mirrored {
                plane.chunks_exact_mut(side).for_each(<[f32]>::reverse);
            }
        }
    }
}

/// timm's centre crop at crop_pct 7/8: the shorter side to floor(side * 8 / 7), the longer in proportion, then the
/// middle.
fn center_crop(image: &Pixels, side: usize) -> Pixels {
    let shorter = side * 8 / 7;
    let (height, width) = if image.width <= image.height {
        (shorter * image.height / image.width, shorter)
    } else {
        (shorter, shorter * image.width / image.height)
    };
    let corner = (half_to_even(height - side), half_to_even(width - side));
    resize(image, height, width).crop(corner, side, side)
}

/// Half of n with ties to the even number, as Python's `round` does.
fn half_to_even(n: usize) -> usize {
    n / 2 + usize::from(n % 4 == 3)
}

/// timm's statistics, in its order of operations: v / 255, less the mean, by the deviation, each in f32.
fn levels(normalize: &Normalize, channels: usize) -> Result<Vec<[f32; 256]>, DataError> {
    let ChannelStatistics { mean, std } = normalize.statistics(channels);
    if mean.len() != channels || std.len() != channels {
        return Err(DataError::Statistics { mean: mean.len(), std: std.len(), channels });
    }
    mean.into_iter().zip(std).enumerate().map(|(channel, (mean, std))| level(channel, mean, std)).collect()
}

fn level(channel: usize, mean: f32, std: f32) -> Result<[f32; 256], DataError> {
    if !mean.is_finite() || !std.is_finite() || std <= 0.0 {
        return Err(DataError::Statistic { channel, mean, std });
    }
    let mut table = [0.0; 256];
    for (entry, value) in table.iter_mut().zip(0_u8..=255) {
        *entry = (f32::from(value) / 255.0 - mean) / std;
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(normalize: &str) -> DataSpec {
        let text = format!(
            r#"{{"num_classes": 2, "train": {{"layout": "idx", "path": "x", "labels": "y"}}, "normalize": {normalize}}}"#
        );
        serde_json::from_str(&text).expect("a data section")
    }

    #[test]
    fn a_grey_image_fills_three_channels_with_their_own_statistics() {
        let shape = InputShape { image_size: 2, channels: 3 };
        let transform = Transform::new(&data("\"imagenet\""), shape).unwrap();
        let image = Pixels { height: 2, width: 2, channels: 1, bytes: vec![0, 51, 102, 255] };
        let mut out = vec![0.0; 12];
        transform.write(&transform.fit(image), Mirror::Mirrored, &mut out);
        assert_eq!(out[..4], [51.0_f32, 0.0, 255.0, 102.0].map(|v| (v / 255.0 - 0.485) / 0.229));
        assert_eq!(out[8..], [51.0_f32, 0.0, 255.0, 102.0].map(|v| (v / 255.0 - 0.406) / 0.225));
    }

    #[test]
    fn colours_become_planes() {
        let text = r#"{"values": {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}}"#;
        let transform = Transform::new(&data(text), InputShape { image_size: 1, channels: 3 }).unwrap();
        let mut out = [0.0; 3];
        let image = Pixels { height: 1, width: 1, channels: 3, bytes: vec![0, 51, 255] };
        transform.write(&transform.fit(image), Mirror::Plain, &mut out);
        assert_eq!(out, [0.0, 0.2, 1.0]);
    }

    #[test]
    fn statistics_that_do_not_fit_are_refused_with_their_counts() {
        let shape = InputShape { image_size: 2, channels: 1 };
        let error = Transform::new(&data("\"imagenet\""), shape).unwrap_err();
        assert!(matches!(error, DataError::Statistics { mean: 3, std: 3, channels: 1 }), "{error}");
        let zero = Transform::new(&data(r#"{"values": {"mean": [0.5], "std": [0.0]}}"#), shape).unwrap_err();
        assert!(matches!(zero, DataError::Statistic { channel: 0, .. }), "{zero}");
        let four = Transform::new(&data("\"half\""), InputShape { image_size: 2, channels: 4 }).unwrap_err();
        assert!(matches!(four, DataError::Shape { channels: 4, image_size: 2 }), "{four}");
    }

    #[test]
    fn halves_round_as_in_python() {
        // round(n / 2) for n = 0..=7
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(half_to_even), [0, 0, 1, 2, 2, 2, 3, 4]);
    }
}
