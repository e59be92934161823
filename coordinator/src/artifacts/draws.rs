//! `draws.parquet` (HANDS): every slot of every committed step, one row each, so that selectors can be tried offline.

use std::{fs::File, io, path::Path, sync::Arc};

use esta_engine::run::StepRecord;
use parquet::{
    basic::Compression,
    column::reader::get_typed_column_reader,
    data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int32Type, Int64Type},
    file::{
        properties::WriterProperties,
        reader::{FileReader, RowGroupReader},
        serialized_reader::SerializedFileReader,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};

use super::atomic;

const SCHEMA: &str = "message draws {
    required int64 step;
    required int32 slot;
    required int32 stitch;
    required int32 budget;
    required double probability;
    required binary reason (utf8);
    required double score;
    required double loss;
    required double grad_norm;
    required boolean valid;
}";

/// Rows as columns of equal length, ordered by (step, slot).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draws {
    /// Step of the slot; 0 is the first.
    pub step: Vec<i64>,
    /// Slot inside its step.
    pub slot: Vec<i32>,
    /// Stitch drawn.
    pub stitch: Vec<i32>,
    /// Its bin.
    pub budget: Vec<i32>,
    /// Probability with which it was drawn.
    pub probability: Vec<f64>,
    /// Why: `importance`, `warm`, `uniform`, `anchor_floor` or `bandit`.
    pub reason: Vec<String>,
    /// SNIP saliency reported.
    pub score: Vec<f64>,
    /// Mean loss over the slot's samples.
    pub loss: Vec<f64>,
    /// L2 norm of the slot's gradient.
    pub grad_norm: Vec<f64>,
    /// False when a gradient was not finite or overflowed.
    pub valid: Vec<bool>,
}

impl Draws {
    /// Rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.step.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.step.is_empty()
    }

    /// Appends the rows of a committed step.
    pub fn push(&mut self, record: &StepRecord) {
        for (slot, (draw, outcome)) in (0..).zip(record.draws.iter().zip(&record.outcomes)) {
            self.step.push(record.step.0.cast_signed());
            self.slot.push(slot);
            self.stitch.push(draw.stitch.0.cast_signed());
            self.budget.push(draw.budget.0.cast_signed());
            self.probability.push(draw.probability);
            self.reason.push(draw.reason.word().to_owned());
            self.score.push(outcome.score);
            self.loss.push(outcome.loss);
            self.grad_norm.push(outcome.grad_norm);
            self.valid.push(outcome.valid);
        }
    }

    /// Drops the rows of steps at or beyond `end`.
    pub fn truncate_at(&mut self, end: i64) {
        let rows = self.step.partition_point(|step| *step < end);
        self.step.truncate(rows);
        self.slot.truncate(rows);
        self.stitch.truncate(rows);
        self.budget.truncate(rows);
        self.probability.truncate(rows);
        self.reason.truncate(rows);
        self.score.truncate(rows);
        self.loss.truncate(rows);
        self.grad_norm.truncate(rows);
        self.valid.truncate(rows);
    }

    /// Appends all rows of another.
    pub fn extend(&mut self, other: Self) {
        self.step.extend(other.step);
        self.slot.extend(other.slot);
        self.stitch.extend(other.stitch);
        self.budget.extend(other.budget);
        self.probability.extend(other.probability);
        self.reason.extend(other.reason);
        self.score.extend(other.score);
        self.loss.extend(other.loss);
        self.grad_norm.extend(other.grad_norm);
        self.valid.extend(other.valid);
    }
}

/// Writes a file of one row group per element of `groups`, atomically.
///
/// # Errors
/// When a group cannot be had or the file cannot be written.
pub fn write(path: &Path, groups: impl Iterator<Item = io::Result<Draws>>) -> io::Result<()> {
    atomic::replace(path, |file| {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = Arc::new(WriterProperties::builder().set_compression(Compression::SNAPPY).build());
        let mut writer = SerializedFileWriter::new(file.try_clone()?, schema, properties)?;
        for draws in groups {
            let mut group = writer.next_row_group()?;
            write_group(&mut group, &draws?)?;
            group.close()?;
        }
        writer.close()?;
        Ok(())
    })
}

fn write_group(group: &mut SerializedRowGroupWriter<'_, File>, draws: &Draws) -> io::Result<()> {
    let reason: Vec<ByteArray> = draws.reason.iter().map(|word| ByteArray::from(word.as_str())).collect();
    write_column::<Int64Type>(group, &draws.step)?;
    write_column::<Int32Type>(group, &draws.slot)?;
    write_column::<Int32Type>(group, &draws.stitch)?;
    write_column::<Int32Type>(group, &draws.budget)?;
    write_column::<DoubleType>(group, &draws.probability)?;
    write_column::<ByteArrayType>(group, &reason)?;
    write_column::<DoubleType>(group, &draws.score)?;
    write_column::<DoubleType>(group, &draws.loss)?;
    write_column::<DoubleType>(group, &draws.grad_norm)?;
    write_column::<BoolType>(group, &draws.valid)
}

fn write_column<T: DataType>(group: &mut SerializedRowGroupWriter<'_, File>, values: &[T::T]) -> io::Result<()> {
    let mut column = group.next_column()?.ok_or_else(|| io::Error::other("the schema has too few columns"))?;
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()?;
    Ok(())
}

/// Reads all rows of a file that [`write()`] wrote.
///
/// # Errors
/// When the file cannot be read or is not of that form.
pub fn read(path: &Path) -> io::Result<Draws> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let mut draws = Draws::default();
    for group in 0..reader.num_row_groups() {
        draws.extend(read_group(reader.get_row_group(group)?.as_ref())?);
    }
    Ok(draws)
}

fn read_group(group: &dyn RowGroupReader) -> io::Result<Draws> {
    let text = |bytes: &ByteArray| bytes.as_utf8().map(str::to_owned);
    Ok(Draws {
        step: read_column::<Int64Type>(group, 0)?,
        slot: read_column::<Int32Type>(group, 1)?,
        stitch: read_column::<Int32Type>(group, 2)?,
        budget: read_column::<Int32Type>(group, 3)?,
        probability: read_column::<DoubleType>(group, 4)?,
        reason: read_column::<ByteArrayType>(group, 5)?.iter().map(text).collect::<Result<_, _>>()?,
        score: read_column::<DoubleType>(group, 6)?,
        loss: read_column::<DoubleType>(group, 7)?,
        grad_norm: read_column::<DoubleType>(group, 8)?,
        valid: read_column::<BoolType>(group, 9)?,
    })
}

fn read_column<T: DataType>(group: &dyn RowGroupReader, index: usize) -> io::Result<Vec<T::T>> {
    let column = group.metadata().columns().get(index).map(parquet::file::metadata::ColumnChunkMetaData::column_type);
    if column != Some(T::get_physical_type()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("column {index} is not that of draws.parquet")));
    }
    let rows = usize::try_from(group.metadata().num_rows()).map_err(io::Error::other)?;
    let mut reader = get_typed_column_reader::<T>(group.get_column_reader(index)?);
    let mut values = Vec::with_capacity(rows);
    while values.len() < rows {
        let (records, _, _) = reader.read_records(rows - values.len(), None, None, &mut values)?;
        if records == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("column {index} ends early")));
        }
    }
    Ok(values)
}
