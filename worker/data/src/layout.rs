//! How files hold a data set (HANDS): one module per layout, each a function from paths to a [`Listing`].

mod digits;
mod folder;
mod idx;
mod list;
mod shards;

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use esta_engine::spec::{DatasetSpec, Layout};
use esta_text::{Origin, Position};
use flate2::bufread::MultiGzDecoder;

use crate::error::DataError;
use crate::pixels::Pixels;
use shards::Shards;

/// A set as its files list it: a label per record, the images not necessarily read.
pub(crate) struct Listing {
    /// Labels as the files give them; nothing is checked against the job's classes.
    pub(crate) labels: Vec<i64>,
    /// What a label stands for, by its number; empty where the files say numbers alone.
    pub(crate) classes: Vec<String>,
    source: Source,
}

/// Where the records of a listing lie.
enum Source {
    Memory(Grey),
    Files(Vec<PathBuf>),
    Shards(Shards),
}

/// Equally large grey images, one after the other.
#[derive(Debug)]
pub(crate) struct Grey {
    path: PathBuf,
    count_from: fn(u64) -> Position,
    height: usize,
    width: usize,
    bytes: Vec<u8>,
}

/// The images in use, in their order: small formats decoded, files read when asked for.
#[derive(Debug)]
pub(crate) enum Images {
    /// Grey images of one size.
    Decoded(Grey),
    /// Image files, read and decoded on demand.
    Files(Vec<PathBuf>),
    /// The bytes of image files, decoded on demand.
    Encoded(Vec<(Origin, Vec<u8>)>),
}

impl Listing {
    /// Reads what `spec` names: labels, and images where they cannot be read one by one later. Class folders have the
    /// numbers that they have in `train`, where that is such folders as well.
    pub(crate) fn open(spec: &DatasetSpec, train: &DatasetSpec) -> Result<Self, DataError> {
        let path = Path::new(&spec.path);
        let labels = |layout| {
            let missing = || DataError::LabelsMissing { path: path.to_owned(), layout };
            spec.labels.as_ref().map(Path::new).ok_or_else(missing)
        };
        match spec.layout {
            Layout::Idx => idx::list(path, labels("idx")?),
            Layout::DigitsCsv => digits::list(path),
            Layout::ImageFolder => {
                let numbered_by = if train.layout == Layout::ImageFolder { Path::new(&train.path) } else { path };
                folder::list(path, numbered_by)
            }
            Layout::Parquet => shards::list(path, spec.labels.as_deref()),
            Layout::Alpaca | Layout::Chat | Layout::Text => Err(DataError::Texts { path: path.to_owned() }),
            Layout::ImageList => list::list(path, labels("image_list")?),
        }
    }

    fn unnamed(labels: Vec<i64>, source: Source) -> Self {
        Self { labels, classes: Vec::new(), source }
    }

    /// The place of a record, for messages.
    pub(crate) fn origin(&self, record: usize) -> Origin {
        match &self.source {
            Source::Memory(grey) => Origin { path: grey.path.clone(), position: (grey.count_from)(record as u64) },
            Source::Files(paths) => Origin::whole(&paths[record]),
            Source::Shards(shards) => shards.origin(record),
        }
    }

    /// The images of these records, in this order; the others are dropped.
    pub(crate) fn load(self, records: &[usize]) -> Result<Images, DataError> {
        Ok(match self.source {
            Source::Memory(grey) => Images::Decoded(grey.pick(records)),
            Source::Files(paths) => Images::Files(records.iter().map(|&record| paths[record].clone()).collect()),
            Source::Shards(shards) => Images::Encoded(shards.load(records)?),
        })
    }
}

impl Grey {
    fn pick(mut self, records: &[usize]) -> Self {
        let numel = self.height * self.width;
        self.bytes = records.iter().flat_map(|&at| &self.bytes[at * numel..(at + 1) * numel]).copied().collect();
        self
    }
}

impl Images {
    /// One image, decoded.
    pub(crate) fn read(&self, index: usize) -> Result<Pixels, DataError> {
        match self {
            Self::Decoded(grey) => {
                let (height, width) = (grey.height, grey.width);
                let bytes = grey.bytes[index * height * width..(index + 1) * height * width].to_vec();
                Ok(Pixels { height, width, channels: 1, bytes })
            }
            Self::Files(paths) => Pixels::read(&paths[index]),
            Self::Encoded(images) => Pixels::decode(&images[index].1, || images[index].0.clone()),
        }
    }
}

/// A reader of a file's content, decompressed when the file starts with gzip's magic bytes.
fn open(path: &Path) -> Result<Box<dyn BufRead>, DataError> {
    let mut file = BufReader::new(File::open(path).map_err(read_error(path))?);
    let zipped = file.fill_buf().map_err(read_error(path))?.starts_with(&[0x1f, 0x8b]);
    Ok(if zipped { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) })
}

/// At most `limit` bytes from a reader: a header that lies cannot ask for more memory than the file has bytes.
fn take(reader: &mut dyn BufRead, limit: u64, path: &Path) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    reader.take(limit).read_to_end(&mut bytes).map_err(read_error(path))?;
    Ok(bytes)
}

fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> DataError + use<> {
    let path = path.to_owned();
    move |source| DataError::Read { path, source }
}
