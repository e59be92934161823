//! What a run remembers across restarts (HANDS): the record of committed steps and who leads.
//!
//! DESIGN.md section 4: durable at every committed step. The leader's epoch grows with every opening and never restarts
//! (MB-1), so nothing sent under an earlier leader can be taken for this one's.

mod codec;
mod redb;
mod sameness;
mod writer;

use std::{ops::Range, path::PathBuf};

use esta_engine::run::{Record, Recovered, StepRecord};
use esta_proto::{LeaderEpoch, Step};
use thiserror::Error;

pub use self::{
    redb::{RedbStore, read_only},
    writer::{Durable, Writer, Written},
};

/// The file that holds a run's record, inside the run's folder.
pub const RECORD_FILE: &str = "record.redb";

/// Who a record belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Name of the run, made once.
    pub run_id: String,
    /// The resolved specification the record was made for, as JSON.
    pub spec_json: String,
    /// This opening's term of office.
    pub epoch: LeaderEpoch,
}

/// A place that keeps a run's records.
pub trait RecordStore: Send {
    /// Makes these records durable, all or none.
    ///
    /// # Errors
    /// [`StoreError`] when that was not possible; nothing may be appended after that.
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError>;

    /// What it takes to go on.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn load(&self) -> Result<Recovered, StoreError>;

    /// The committed steps of a range, as far as they are kept.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    fn steps(&self, range: Range<Step>) -> Result<Vec<StepRecord>, StoreError>;

    /// Who the record belongs to.
    fn meta(&self) -> &Meta;
}

/// Why a record cannot be kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The run's folder cannot be made.
    #[error("cannot make the folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has the record open.
    #[error("{} is in use: another coordinator runs this job", path.display())]
    Locked {
        /// The record.
        path: PathBuf,
    },
    /// A later version of the program wrote the record.
    #[error("{} has format {found}; this program reads up to {known}", path.display())]
    Newer {
        /// The record.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The record is of another specification.
    #[error(
        "{} holds a run of another job ({differences}); set another output_dir or remove that folder", path.display()
    )]
    OtherJob {
        /// The record.
        path: PathBuf,
        /// The keys that differ, with both values.
        differences: String,
    },
    /// No room is left.
    #[error("no space is left for {}", path.display())]
    Full {
        /// The record.
        path: PathBuf,
    },
    /// What is stored does not decode.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// Which part of it.
        what: String,
    },
    /// The file or the database in it failed.
    #[error("cannot {action} {}", path.display())]
    Failed {
        /// The record.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// Why.
        source: Box<::redb::Error>,
    },
}
