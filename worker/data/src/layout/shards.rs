//! Hugging Face image parquet (HANDS): rows of an image {bytes, path} and a label, in one file or a folder of shards.

use std::fs::File;
use std::path::{Path, PathBuf};

use esta_text::{Origin, Position};
use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArrayType, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::{Listing, Source, read_error};
use crate::error::DataError;

/// The shards of one set, in byte order of their names.
pub(super) struct Shards(Vec<Shard>);

struct Shard {
    path: PathBuf,
    reader: SerializedFileReader<File>,
    /// Rows of all shards before this one.
    before: usize,
    rows: usize,
    /// Leaf index of the images' bytes.
    image: usize,
    /// Leaf index of the labels.
    label: usize,
}

/// Reads the labels of all shards; `label` names their column, `label` when absent.
pub(super) fn list(path: &Path, label: Option<&str>) -> Result<Listing, DataError> {
    let (mut shards, mut labels) = (Vec::new(), Vec::new());
    for path in files(path)? {
        let shard = Shard::open(path, label.unwrap_or("label"), labels.len())?;
        labels.extend(shard.labels()?);
        shards.push(shard);
    }
    Ok(Listing::unnamed(labels, Source::Shards(Shards(shards))))
}

impl Shards {
    pub(super) fn origin(&self, record: usize) -> Origin {
        let at = self.0.partition_point(|shard| shard.before + shard.rows <= record);
        self.0[at].origin(record - self.0[at].before)
    }

    /// The image files of these records, in this order. They stay encoded in memory: a parquet page cannot be read one
    /// image at a time.
    pub(super) fn load(&self, records: &[usize]) -> Result<Vec<(Origin, Vec<u8>)>, DataError> {
        let mut wanted: Vec<(usize, usize)> = records.iter().copied().zip(0..).collect();
        wanted.sort_unstable();
        let mut wanted = wanted.into_iter().peekable();
        let mut images: Vec<Option<(Origin, Vec<u8>)>> = vec![None; records.len()];
        for shard in &self.0 {
            shard.each_image(|row, bytes| {
                while let Some((_, place)) = wanted.next_if(|&(record, _)| record == shard.before + row) {
                    images[place] = Some((shard.origin(row), bytes.to_vec()));
                }
            })?;
        }
        Ok(images.into_iter().map(|image| image.expect("records come from the listing of these shards")).collect())
    }
}

impl Shard {
    fn open(path: PathBuf, label: &str, before: usize) -> Result<Self, DataError> {
        let file = File::open(&path).map_err(read_error(&path))?;
        let reader = SerializedFileReader::new(file).map_err(parquet_error(&path))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let leaf = |wanted: &str, fits: &dyn Fn(&str, Type) -> bool| {
            let columns = schema.columns();
            let usable = |column: &parquet::schema::types::ColumnDescPtr| {
                column.max_rep_level() == 0 && fits(&column.path().string(), column.physical_type())
            };
            columns.iter().position(usable).ok_or_else(|| DataError::Column {
                path: path.clone(),
                wanted: wanted.to_owned(),
                found: columns.iter().map(|column| format!("{} ({})", column.path(), column.physical_type())).collect(),
            })
        };
        let image = leaf("image.bytes", &|name, kind| name.ends_with(".bytes") && kind == Type::BYTE_ARRAY)?;
        let label = leaf(label, &|name, kind| name == label && matches!(kind, Type::INT32 | Type::INT64))?;
        let rows = reader.metadata().row_groups().iter().map(|group| group.num_rows() as usize).sum();
        Ok(Self { path, reader, before, rows, image, label })
    }

    fn origin(&self, row: usize) -> Origin {
        Origin { path: self.path.clone(), position: Position::Row(row as u64) }
    }

    fn labels(&self) -> Result<Vec<i64>, DataError> {
        let mut labels = Vec::with_capacity(self.rows);
        self.each_group(self.label, |reader, rows, first| {
            match reader {
                ColumnReader::Int32ColumnReader(column) => {
                    labels.extend(self.column(column, rows, first, self.label)?.into_iter().map(i64::from));
                }
                ColumnReader::Int64ColumnReader(column) => {
                    labels.extend(self.column(column, rows, first, self.label)?);
                }
                _ => unreachable!("the label's type was checked when the shard was opened"),
            }
            Ok(())
        })?;
        Ok(labels)
    }

    fn each_image(&self, mut visit: impl FnMut(usize, &[u8])) -> Result<(), DataError> {
        self.each_group(self.image, |reader, rows, first| {
            let ColumnReader::ByteArrayColumnReader(column) = reader else {
                unreachable!("the image's type was checked when the shard was opened");
            };
            let images = self.column::<ByteArrayType>(column, rows, first, self.image)?;
            (first..).zip(&images).for_each(|(row, image)| visit(row, image.data()));
            Ok(())
        })
    }

    /// Visits one column of every row group with its rows and the number of rows before it.
    fn each_group(
        &self,
        leaf: usize,
        mut visit: impl FnMut(ColumnReader, usize, usize) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let mut first = 0;
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group).map_err(parquet_error(&self.path))?;
            let rows = group.metadata().num_rows() as usize;
            visit(group.get_column_reader(leaf).map_err(parquet_error(&self.path))?, rows, first)?;
            first += rows;
        }
        Ok(())
    }

    /// All values of a column chunk; a null is an error that names its row.
    fn column<T: DataType>(
        &self,
        mut column: ColumnReaderImpl<T>,
        rows: usize,
        first: usize,
        leaf: usize,
    ) -> Result<Vec<T::T>, DataError> {
        let descriptor = self.reader.metadata().file_metadata().schema_descr().column(leaf);
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let mut read = 0;
        while read < rows {
            let (records, _, _) = column
                .read_records(rows - read, Some(&mut levels), None, &mut values)
                .map_err(parquet_error(&self.path))?;
            if records == 0 {
                let missing = ParquetError::EOF(format!("{read} of {rows} rows in {}", descriptor.path()));
                return Err(DataError::Parquet { path: self.path.clone(), source: missing });
            }
            read += records;
        }
        match levels.iter().position(|&level| level < descriptor.max_def_level()) {
            Some(row) => Err(DataError::Null { origin: self.origin(first + row), column: descriptor.path().string() }),
            None => Ok(values),
        }
    }
}

/// The shards a path stands for: the file itself, a folder's shards, or `folder/train` for `folder/train-*.parquet`.
fn files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if path.is_dir() {
        let shards = parquet_files(path)?;
        refuse_mixture(path, &shards)?;
        return non_empty(path, shards);
    }
    let split = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let folder = path.parent().filter(|folder| folder.is_dir());
    let (Some(split), Some(folder)) = (split, folder) else {
        return Err(read_error(path)(std::io::ErrorKind::NotFound.into()));
    };
    let shards = parquet_files(folder)?.into_iter().filter(|shard| split_of(shard) == split).collect();
    non_empty(path, shards)
}

fn non_empty(path: &Path, shards: Vec<PathBuf>) -> Result<Vec<PathBuf>, DataError> {
    if shards.is_empty() {
        return Err(read_error(path)(std::io::Error::new(std::io::ErrorKind::NotFound, "no .parquet file")));
    }
    Ok(shards)
}

fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(read_error(folder))? {
        let path = entry.map_err(read_error(folder))?.path();
        if path.extension().is_some_and(|kind| kind == "parquet") {
            paths.push(path);
        }
    }
    paths.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(paths)
}

/// Data sets keep the shards of training and test in one folder: reading both as one set would train on the test.
fn refuse_mixture(folder: &Path, shards: &[PathBuf]) -> Result<(), DataError> {
    let first = shards.first().map(|shard| split_of(shard));
    let other = shards.iter().map(|shard| split_of(shard)).find(|split| Some(split) != first.as_ref());
    match (first, other) {
        (Some(first), Some(second)) => Err(DataError::MixedShards { path: folder.to_owned(), first, second }),
        _ => Ok(()),
    }
}

/// "train" of "train-00000-of-00002.parquet" and of "train-00000-of-00002-0123456789abcdef.parquet".
fn split_of(shard: &Path) -> String {
    let stem = shard.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    stem.split_once("-0").map_or(stem.clone(), |(split, _)| split.to_owned())
}

fn parquet_error(path: &Path) -> impl FnOnce(ParquetError) -> DataError + use<> {
    let path = path.to_owned();
    move |source| DataError::Parquet { path, source }
}
