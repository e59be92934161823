//! What a run remembers across restarts (HANDS): the record of committed steps and who leads.
//!
//! DESIGN.md section 4: durable at every committed step. The leader's epoch grows with every opening and never restarts
//! (MB-1), so nothing sent under an earlier leader can be taken for this one's.

mod address;
mod codec;
#[cfg(feature = "etcd")]
mod etcd;
pub(crate) mod job;
mod redb;
mod sameness;
mod site;
mod tenure;
mod times;
mod writer;

use std::{ops::Range, path::PathBuf};

use esta_engine::run::{Record, Recovered, StepRecord};
use esta_proto::{LeaderEpoch, Step};
use futures::future::BoxFuture;
use thiserror::Error;

#[cfg(feature = "etcd")]
pub use self::etcd::{Etcd, EtcdStore};
pub use self::{
    address::{StoreAddress, StoreTls},
    redb::{RedbStore, read_only},
    site::{Site, read, record_in},
    tenure::Tenure,
    times::RecordTimes,
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

/// Where a coordinator is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// What workers connect to, such as `http://coordinator-0:7700`.
    pub address: String,
    /// What a browser opens.
    pub page: Option<String>,
}

/// A place that keeps a run's records.
pub trait RecordStore: Send {
    /// Makes these records durable, in order: what is not durable after a failure are the last of them.
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

/// A term of office: this process alone may write the record.
pub struct Term {
    /// The record.
    pub store: Box<dyn RecordStore>,
    /// For how long.
    pub tenure: Tenure,
    /// Lets go of the record, so that whoever stands by need not wait for it: done after the last write.
    pub resign: BoxFuture<'static, ()>,
}

impl Term {
    /// A term that lasts as long as the process: nobody else can open the file.
    #[must_use]
    pub fn unlimited(store: RedbStore) -> Self {
        Self { store: Box::new(store), tenure: Tenure::unlimited(), resign: Box::pin(async {}) }
    }
}

impl std::fmt::Debug for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Term").field("meta", self.store.meta()).finish_non_exhaustive()
    }
}

/// Why a record cannot be kept. `place` is the file, or the address of the store.
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
    /// A record is no object.
    #[error(
        "output_dir is {output_dir}, and the record is kept in a file or on etcd: give `serve` --store redb:PATH or --store etcd://..."
    )]
    NoFile {
        /// The job's.
        output_dir: String,
    },
    /// Another process has the record open.
    #[error("{place} is in use: another coordinator runs this job")]
    Locked {
        /// The record.
        place: String,
    },
    /// A later version of the program wrote the record.
    #[error("{place} has format {found}; this program reads up to {known}")]
    Newer {
        /// The record.
        place: String,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The record is of another specification.
    #[error("{place} holds a run of another job ({differences}); {advice}")]
    OtherJob {
        /// The record.
        place: String,
        /// The keys that differ, with both values.
        differences: String,
        /// What can be done about it.
        advice: &'static str,
    },
    /// No room is left.
    #[error("no space is left for {place}")]
    Full {
        /// The record.
        place: String,
    },
    /// What is stored does not decode.
    #[error("{place} is damaged: {what}")]
    Damaged {
        /// The record.
        place: String,
        /// Which part of it.
        what: String,
    },
    /// Nothing is stored there.
    #[error("{place} holds no run")]
    Absent {
        /// Where one was looked for.
        place: String,
    },
    /// This process leads no more: another one does, or may.
    #[error("another coordinator may lead the run on {place} by now")]
    Deposed {
        /// The record.
        place: String,
    },
    /// Nothing says who may be believed to be the store.
    #[error("{place} needs --store-ca: the certificates of those who may have signed its own")]
    Trust {
        /// The store.
        place: String,
    },
    /// A file that TLS to the store needs.
    #[error("cannot read {}", path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The store does not answer.
    #[error("{place} does not answer")]
    Unreachable {
        /// The record.
        place: String,
        /// The last answer, or that there was none.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The store failed.
    #[error("cannot {action} {place}")]
    Failed {
        /// The record.
        place: String,
        /// What was being done.
        action: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
