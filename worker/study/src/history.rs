//! What a run's slots said, in order (HANDS): `draws.parquet` read back, so that rules can be tried without training.

use std::{fs::File, io, path::Path};

use esta_proto::StitchId;
use parquet::{
    column::reader::get_typed_column_reader,
    data_type::{BoolType, DataType, DoubleType, Int32Type, Int64Type},
    file::{
        reader::{FileReader, RowGroupReader},
        serialized_reader::SerializedFileReader,
    },
};

/// One slot of a committed step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Visit {
    /// Its step.
    pub step: u64,
    /// The stitch it ran.
    pub stitch: StitchId,
    /// SNIP saliency.
    pub score: f64,
    /// Mean cross entropy of its images.
    pub loss: f64,
    /// L2 norm of its gradient.
    pub grad_norm: f64,
}

/// A row of the file.
struct Row {
    slot: u64,
    visit: Visit,
    valid: bool,
}

/// The slots of a run's `draws.parquet` that entered its table, ordered by step and slot: a step with an invalid slot is
/// left out whole, as the run skipped it.
///
/// # Errors
/// When the file is missing, damaged or of another form, or when slots are missing in between; the error names the file.
pub fn read(path: &Path) -> io::Result<Vec<Visit>> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    rows(path).and_then(|rows| in_order(&rows).map(|()| entered(&rows))).map_err(named)
}

fn rows(path: &Path) -> io::Result<Vec<Row>> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let mut rows = Vec::new();
    for group in 0..reader.num_row_groups() {
        rows.extend(read_group(reader.get_row_group(group)?.as_ref())?);
    }
    Ok(rows)
}

fn read_group(group: &dyn RowGroupReader) -> io::Result<Vec<Row>> {
    let steps = read_column::<Int64Type>(group, "step")?;
    let slots = read_column::<Int32Type>(group, "slot")?;
    let stitches = read_column::<Int32Type>(group, "stitch")?;
    let scores = read_column::<DoubleType>(group, "score")?;
    let losses = read_column::<DoubleType>(group, "loss")?;
    let norms = read_column::<DoubleType>(group, "grad_norm")?;
    let valid = read_column::<BoolType>(group, "valid")?;
    let row = |i: usize| {
        let visit = Visit {
            step: u64::try_from(steps[i]).map_err(|_| damaged(format!("step {} is below zero", steps[i])))?,
            stitch: StitchId(stitches[i].cast_unsigned()),
            score: scores[i],
            loss: losses[i],
            grad_norm: norms[i],
        };
        let slot = u64::try_from(slots[i]).map_err(|_| damaged(format!("slot {} is below zero", slots[i])))?;
        Ok(Row { slot, visit, valid: valid[i] })
    };
    (0..steps.len()).map(row).collect()
}

/// All values of a column of a group: as many as the group has rows.
fn read_column<T: DataType>(group: &dyn RowGroupReader, name: &str) -> io::Result<Vec<T::T>> {
    let columns = group.metadata().columns();
    let found = columns.iter().position(|column| column.column_path().string() == name);
    let index = found.ok_or_else(|| damaged(format!("there is no column {name}")))?;
    if columns[index].column_type() != T::get_physical_type() {
        return Err(damaged(format!("column {name} is not of the type it has in draws.parquet")));
    }
    let rows = usize::try_from(group.metadata().num_rows()).map_err(io::Error::other)?;
    let mut reader = get_typed_column_reader::<T>(group.get_column_reader(index)?);
    let mut values = Vec::new();
    while values.len() < rows {
        let (records, _, _) = reader.read_records(rows - values.len(), None, None, &mut values)?;
        if records == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("column {name} ends early")));
        }
    }
    Ok(values)
}

/// Every slot follows the one before it, from the first of the first step on.
fn in_order(rows: &[Row]) -> io::Result<()> {
    let place = |row: &Row| (row.visit.step, row.slot);
    if let Some((step, slot)) = rows.first().map(place).filter(|first| *first != (0, 0)) {
        return Err(damaged(format!("it begins with slot {slot} of step {step}")));
    }
    for pair in rows.windows(2) {
        let ((step, slot), next) = (place(&pair[0]), place(&pair[1]));
        if next != (step, slot + 1) && next != (step + 1, 0) {
            return Err(damaged(format!("slot {} of step {} follows slot {slot} of step {step}", next.1, next.0)));
        }
    }
    Ok(())
}

fn entered(rows: &[Row]) -> Vec<Visit> {
    let steps = rows.chunk_by(|a, b| a.visit.step == b.visit.step);
    steps.filter(|step| step.iter().all(|row| row.valid)).flatten().map(|row| row.visit).collect()
}

fn damaged(flaw: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, flaw)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, path::PathBuf, sync::Arc};

    use parquet::{
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };
    use tempfile::TempDir;

    use super::*;

    pub(crate) const SCHEMA: &str = "message draws { required int64 step; required int32 slot; required int32 stitch;
        required double score; required double loss; required double grad_norm; required boolean valid; }";

    /// Writes (step, slot, stitch, valid) with a loss of `step + slot / 10`, in groups of three rows.
    pub(crate) fn write(folder: &Path, schema: &str, rows: &[(i64, i32, i32, bool)]) -> PathBuf {
        let path = folder.join("draws.parquet");
        let schema = Arc::new(parse_message_type(schema).expect("a schema"));
        let file = File::create(&path).expect("a file");
        let mut writer =
            SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::default())).expect("a writer");
        for rows in rows.chunks(3) {
            let mut group = writer.next_row_group().expect("a group");
            let losses: Vec<f64> = rows.iter().map(|row| row.0 as f64 + f64::from(row.1) / 10.0).collect();
            let mut place = 0;
            while let Some(mut column) = group.next_column().expect("a column") {
                let written = match place {
                    0 => column.typed::<Int64Type>().write_batch(
                        &rows.iter().map(|row| row.0).collect::<Vec<_>>(),
                        None,
                        None,
                    ),
                    1 | 2 => {
                        let ints: Vec<i32> = rows.iter().map(|row| if place == 1 { row.1 } else { row.2 }).collect();
                        column.typed::<Int32Type>().write_batch(&ints, None, None)
                    }
                    3..=5 => column.typed::<DoubleType>().write_batch(&losses, None, None),
                    _ => column.typed::<BoolType>().write_batch(
                        &rows.iter().map(|row| row.3).collect::<Vec<_>>(),
                        None,
                        None,
                    ),
                };
                assert_eq!(written.expect("values are written"), rows.len());
                column.close().expect("the column ends");
                place += 1;
            }
            group.close().expect("the group ends");
        }
        writer.close().expect("the file ends");
        path
    }

    fn said(path: &Path) -> String {
        let said = read(path).expect_err("it cannot be read").to_string();
        assert!(said.starts_with(&path.display().to_string()), "{said:?} names the file");
        said
    }

    #[test]
    fn slots_come_back_in_order_without_the_steps_that_a_run_skipped() {
        let folder = TempDir::new().expect("a folder");
        let rows =
            [(0, 0, 7, true), (0, 1, 3, true), (1, 0, 7, true), (1, 1, 2, false), (2, 0, 5, true), (2, 1, 5, true)];
        let visits = read(&write(folder.path(), SCHEMA, &rows)).expect("it is read");
        let places: Vec<_> = visits.iter().map(|visit| (visit.step, visit.stitch.0)).collect();
        assert_eq!(places, [(0, 7), (0, 3), (2, 5), (2, 5)]);
        assert_eq!((visits[1].loss, visits[3].loss), (0.1, 2.1));
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let folder = TempDir::new().expect("a folder");
        let path = write(folder.path(), SCHEMA, &[(0, 0, 1, true), (0, 1, 1, true)]);
        let bytes = fs::read(&path).expect("it is there");
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("it is cut");
        said(&path);
        fs::remove_file(&path).expect("it is gone");
        assert_eq!(read(&path).expect_err("missing").kind(), io::ErrorKind::NotFound);
        said(&path);
    }

    #[test]
    fn a_file_of_another_form_or_with_slots_missing_says_so() {
        let folder = TempDir::new().expect("a folder");
        let other = SCHEMA.replace("double score", "double importance");
        assert!(said(&write(folder.path(), &other, &[(0, 0, 1, true)])).ends_with("there is no column score"));
        let gap = write(folder.path(), SCHEMA, &[(0, 0, 1, true), (2, 0, 1, true)]);
        assert!(said(&gap).ends_with("slot 0 of step 2 follows slot 0 of step 0"));
        let late = write(folder.path(), SCHEMA, &[(1, 0, 1, true)]);
        assert!(said(&late).ends_with("it begins with slot 0 of step 1"));
    }
}
