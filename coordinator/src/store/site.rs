//! One way to every kind of store (HANDS).

use std::path::{Path, PathBuf};

use esta_engine::{law::Law, run::Recovered};
use esta_objects::Place;

#[cfg(feature = "etcd")]
use super::Etcd;
use super::{Meta, RECORD_FILE, RedbStore, StoreAddress, StoreError, Term, Whereabouts, job, read_only};

/// A store that can be led from, or read.
#[derive(Debug)]
pub enum Site {
    /// A file.
    Redb(PathBuf),
    /// A cluster.
    #[cfg(feature = "etcd")]
    Etcd(Box<Etcd>),
}

impl Site {
    /// The store at an address, or the file in the run's folder when there is none.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] when a cluster does not answer.
    pub async fn open(address: Option<&StoreAddress>, law: &Law) -> Result<Self, StoreError> {
        match address {
            None => Ok(Self::Redb(record_in(&law.spec.run_dir())?)),
            Some(StoreAddress::Redb(path)) => Ok(Self::Redb(path.clone())),
            #[cfg(feature = "etcd")]
            Some(StoreAddress::Etcd { endpoints, prefix, tls }) => {
                let prefix = prefix.clone().unwrap_or_else(|| format!("esta/{}", law.spec.name));
                let etcd = Etcd::connect(endpoints, &prefix, tls, &law.spec.timeouts).await?;
                Ok(Self::Etcd(Box::new(etcd)))
            }
            #[cfg(not(feature = "etcd"))]
            Some(StoreAddress::Etcd { .. }) => unreachable!("such an address does not parse in this program"),
        }
    }

    /// Whether others may stand by for this process.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !matches!(self, Self::Redb(_))
    }

    /// Waits until this process leads, which is found at `own`; `told` hears who leads meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] when the record is in use where it cannot be waited for, of another job, or unreadable.
    pub async fn lead(
        &self,
        law: &Law,
        own: &Whereabouts,
        told: &(dyn Fn(Option<Whereabouts>) + Sync),
    ) -> Result<Term, StoreError> {
        let spec_json = job::text_of(&law.spec);
        match self {
            Self::Redb(path) => Ok(Term::unlimited(RedbStore::open_file(path.clone(), &law.spec.name, &spec_json)?)),
            #[cfg(feature = "etcd")]
            Self::Etcd(etcd) => etcd.campaign(&law.spec.name, &spec_json, own, told).await,
        }
    }
}

/// The record's file in a run's folder.
///
/// # Errors
/// [`StoreError::NoFile`] where that is object storage.
pub fn record_in(output_dir: &str) -> Result<PathBuf, StoreError> {
    match Place::is_meant(output_dir) {
        true => Err(StoreError::NoFile { output_dir: output_dir.to_owned() }),
        false => Ok(Path::new(output_dir).join(RECORD_FILE)),
    }
}

/// Reads a record without leading: whose it is, and every step of it.
///
/// # Errors
/// [`StoreError`] when there is none, it is in use, or it cannot be read.
pub async fn read(address: &StoreAddress) -> Result<(Meta, Recovered), StoreError> {
    match address {
        StoreAddress::Redb(path) => read_only(path),
        #[cfg(feature = "etcd")]
        StoreAddress::Etcd { endpoints, prefix: Some(prefix), tls } => {
            let timeouts = esta_engine::spec::TimeoutSpec::default();
            Etcd::connect(endpoints, prefix, tls, &timeouts).await?.read().await
        }
        StoreAddress::Etcd { endpoints, .. } => Err(StoreError::Absent {
            place: format!("{} without a prefix, such as /esta/<name of the job>,", endpoints.join(",")),
        }),
    }
}
