//! One decoded image in memory (HANDS).

use std::path::Path;

use esta_text::Origin;
use image::DynamicImage;

use crate::error::DataError;

/// An image of 8-bit intensities: `bytes` is row-major height x width x channels, channels 1 (grey) or 3 (RGB).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// 1 or 3.
    pub channels: usize,
    /// Intensities, height x width x channels of them.
    pub bytes: Vec<u8>,
}

impl Pixels {
    /// Reads a JPEG or PNG file; the content decides, not the name. Transparency is dropped and deep images come
    /// down to 8 bits, as PIL's `convert("RGB")` does.
    ///
    /// # Errors
    /// [`DataError::Read`] or [`DataError::Image`].
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let bytes = std::fs::read(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
        Self::decode(&bytes, || Origin::whole(path))
    }

    /// Decodes the bytes of a JPEG or PNG file that came from `origin`.
    pub(crate) fn decode(bytes: &[u8], origin: impl Fn() -> Origin) -> Result<Self, DataError> {
        let image = image::load_from_memory(bytes).map_err(|source| DataError::Image { origin: origin(), source })?;
        Ok(Self::from_image(&image))
    }

    fn from_image(image: &DynamicImage) -> Self {
        let (height, width) = (image.height() as usize, image.width() as usize);
        if image.color().has_color() {
            Self { height, width, channels: 3, bytes: image.to_rgb8().into_raw() }
        } else {
            Self { height, width, channels: 1, bytes: image.to_luma8().into_raw() }
        }
    }

    /// Grey by PIL's `convert("L")`: ITU-R 601 luma in 16-bit fixed point, rounded.
    #[must_use]
    pub fn into_grey(self) -> Self {
        if self.channels == 1 {
            return self;
        }
        let luma = |rgb: &[u8]| {
            let weighted = 19_595 * u32::from(rgb[0]) + 38_470 * u32::from(rgb[1]) + 7_471 * u32::from(rgb[2]);
            u8::try_from((weighted + 0x8000) >> 16).expect("the weights sum to 65,536")
        };
        let bytes = self.bytes.chunks_exact(3).map(luma).collect();
        Self { channels: 1, bytes, ..self }
    }

    /// Every intensity v replaced by 255 - v.
    #[must_use]
    pub fn invert(mut self) -> Self {
        self.bytes.iter_mut().for_each(|value| *value = 255 - *value);
        self
    }

    /// Turned clockwise by this many quarter turns.
    #[must_use]
    pub fn rotate(self, quarters: u32) -> Self {
        let (h, w) = (self.height, self.width);
        // Where the pixel at (row, column) of the turned image lies in this one.
        match quarters % 4 {
            0 => self,
            1 => self.gather(w, h, |row, column| (h - 1 - column, row)),
            2 => self.gather(h, w, |row, column| (h - 1 - row, w - 1 - column)),
            _ => self.gather(w, h, |row, column| (column, w - 1 - row)),
        }
    }

    /// The part of `height` x `width` whose upper left corner is (top, left).
    pub(crate) fn crop(&self, (top, left): (usize, usize), height: usize, width: usize) -> Self {
        self.gather(height, width, |row, column| (top + row, left + column))
    }

    fn gather(&self, height: usize, width: usize, from: impl Fn(usize, usize) -> (usize, usize)) -> Self {
        let mut bytes = Vec::with_capacity(height * width * self.channels);
        for row in 0..height {
            for column in 0..width {
                let (r, c) = from(row, column);
                let start = (r * self.width + c) * self.channels;
                bytes.extend_from_slice(&self.bytes[start..start + self.channels]);
            }
        }
        Self { height, width, channels: self.channels, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(height: usize, width: usize, bytes: &[u8]) -> Pixels {
        Pixels { height, width, channels: 1, bytes: bytes.to_vec() }
    }

    #[test]
    fn a_quarter_turn_is_clockwise() {
        let image = grey(2, 3, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(image.clone().rotate(1), grey(3, 2, &[4, 1, 5, 2, 6, 3]));
        assert_eq!(image.clone().rotate(2), grey(2, 3, &[6, 5, 4, 3, 2, 1]));
        assert_eq!(image.rotate(3), grey(3, 2, &[3, 6, 2, 5, 1, 4]));
    }

    #[test]
    fn grey_of_equal_channels_is_the_channel() {
        for value in 0..=255 {
            let rgb = Pixels { height: 1, width: 1, channels: 3, bytes: vec![value; 3] };
            assert_eq!(rgb.into_grey(), grey(1, 1, &[value]));
        }
    }

    #[test]
    fn inverting_twice_changes_nothing() {
        let image = grey(1, 3, &[0, 100, 255]);
        assert_eq!(image.clone().invert(), grey(1, 3, &[255, 155, 0]));
        assert_eq!(image.clone().invert().invert(), image);
    }
}
