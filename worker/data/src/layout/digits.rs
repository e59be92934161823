//! scikit-learn's `digits.csv.gz` (HANDS): per line the 64 intensities 0..=16 of an 8x8 image and its label.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord};
use esta_text::{Origin, Position};

use super::{Grey, Listing, Source, open};
use crate::error::DataError;

const SIDE: usize = 8;
const WHITE: i64 = 16;

/// Reads the file; intensity v becomes round(255 v / 16).
pub(super) fn list(path: &Path) -> Result<Listing, DataError> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(open(path)?);
    let (mut bytes, mut labels) = (Vec::new(), Vec::new());
    for (at, record) in (1..).zip(reader.records()) {
        let origin = Origin::line(path, at);
        let record = record.map_err(|source| DataError::Csv { origin: origin.clone(), source })?;
        let numbers = parse(&record, &origin)?;
        bytes.extend(numbers[..SIDE * SIDE].iter().map(|v| ((255 * v + WHITE / 2) / WHITE) as u8));
        labels.push(numbers[SIDE * SIDE]);
    }
    let count_from = |record| Position::Line(record + 1);
    let grey = Grey { path: path.to_owned(), count_from, height: SIDE, width: SIDE, bytes };
    Ok(Listing::unnamed(labels, Source::Memory(grey)))
}

fn parse(record: &StringRecord, origin: &Origin) -> Result<Vec<i64>, DataError> {
    let expected = SIDE * SIDE + 1;
    if record.len() != expected {
        return Err(DataError::Fields { origin: origin.clone(), found: record.len(), expected });
    }
    let number = |(field, text): (usize, &str)| {
        let most = if field == expected { i64::from(u32::MAX) } else { WHITE };
        let parsed = text.trim().parse::<i64>().ok().filter(|number| (0..=most).contains(number));
        parsed.ok_or_else(|| DataError::Number { origin: origin.clone(), field, text: text.to_owned(), most })
    };
    (1..).zip(record).map(number).collect()
}
