//! Where in a data set's files something stands (HANDS), texts' and images' alike.

use std::fmt;
use std::path::PathBuf;

/// A place in a file, counted as the file's own readers count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub path: PathBuf,
    /// The place in it.
    pub position: Position,
}

/// How a place in a file is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The file as a whole.
    Whole,
    /// A line, from 1.
    Line(u64),
    /// An item of a JSON list, from 1.
    Item(u64),
    /// A record of an IDX file, from 0.
    Record(u64),
    /// A row of a parquet file, from 0.
    Row(u64),
}

impl Origin {
    /// The file as a whole.
    #[must_use]
    pub fn whole(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), position: Position::Whole }
    }

    /// A line of a file, from 1.
    #[must_use]
    pub fn line(path: impl Into<PathBuf>, line: u64) -> Self {
        Self { path: path.into(), position: Position::Line(line) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.position {
            Position::Whole => Ok(()),
            Position::Line(line) => write!(f, ", line {line}"),
            Position::Item(item) => write!(f, ", item {item}"),
            Position::Record(record) => write!(f, ", record {record}"),
            Position::Row(row) => write!(f, ", row {row}"),
        }
    }
}
