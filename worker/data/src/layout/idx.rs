//! IDX pairs as MNIST and Fashion-MNIST use (HANDS): big-endian header, then bytes.

use std::path::Path;

use esta_text::Position;

use super::{Grey, Listing, Source, open, take};
use crate::error::DataError;

/// What an IDX file may hold; the magic number is two zeros, the type (8: unsigned byte) and the number of dimensions.
#[derive(Clone, Copy)]
enum Kind {
    Labels,
    Images,
}

impl Kind {
    fn dims(self) -> usize {
        match self {
            Self::Labels => 1,
            Self::Images => 3,
        }
    }

    fn magic(self) -> u32 {
        0x0800 + self.dims() as u32
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Labels => "labels: unsigned bytes in 1 dimension",
            Self::Images => "images: unsigned bytes in 3 dimensions",
        }
    }
}

/// Reads a pair of files.
pub(super) fn list(images: &Path, labels: &Path) -> Result<Listing, DataError> {
    let (dims, bytes) = read(images, Kind::Images)?;
    let (_, label_bytes) = read(labels, Kind::Labels)?;
    let (count, height, width) = (dims[0], dims[1], dims[2]);
    if count != label_bytes.len() as u64 {
        let (images_path, labels_path) = (images.to_owned(), labels.to_owned());
        return Err(DataError::Pairing { images_path, images: count, labels_path, labels: label_bytes.len() as u64 });
    }
    if height == 0 || width == 0 {
        return Err(DataError::EmptyImages { path: images.to_owned(), height, width });
    }
    let (height, width) = (height as usize, width as usize);
    let grey = Grey { path: labels.to_owned(), count_from: Position::Record, height, width, bytes };
    Ok(Listing::unnamed(label_bytes.into_iter().map(i64::from).collect(), Source::Memory(grey)))
}

/// The dimensions and content of one file.
fn read(path: &Path, kind: Kind) -> Result<(Vec<u64>, Vec<u8>), DataError> {
    let mut reader = open(path)?;
    let header_len = 4 + 4 * kind.dims() as u64;
    let header = take(&mut *reader, header_len, path)?;
    let words: Vec<u32> =
        header.chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().expect("four"))).collect();
    let magic = words.first().copied();
    if let Some(found) = magic.filter(|&found| found != kind.magic()) {
        return Err(DataError::Magic { path: path.to_owned(), found, expected: kind.magic(), meaning: kind.meaning() });
    }
    let short = |found: u64, expected: u64| DataError::Length { path: path.to_owned(), found, expected };
    if (header.len() as u64) < header_len {
        return Err(short(header.len() as u64, header_len));
    }
    let dims: Vec<u64> = words[1..].iter().map(|&word| u64::from(word)).collect();
    let promised = dims.iter().fold(1_u64, |product, &dim| product.saturating_mul(dim));
    let bytes = take(&mut *reader, promised.saturating_add(1), path)?;
    if bytes.len() as u64 != promised {
        return Err(short(header_len + bytes.len() as u64, header_len.saturating_add(promised)));
    }
    Ok((dims, bytes))
}
