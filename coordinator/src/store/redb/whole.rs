//! Files whose every page is what was written (HANDS): redb looks at a page's checksum only where it repairs, so a flipped
//! bit would otherwise become another record, and nobody would know.

use std::{fs::File, path::Path};

use redb::{Builder, Database, DatabaseError, StorageError, backends::FileBackend};

use super::trial::{Hold, Trial};

/// Bytes of a file that are kept in memory: a record is written once and read at starts, however long it grows.
const CACHE: usize = 8 << 20;

/// Opens a file: some four milliseconds per thousand steps. One that is refused stays as it is.
pub(super) fn open(path: &Path) -> Result<Database, DatabaseError> {
    drop(tried(path, Hold::Alone)?);
    builder().open(path)
}

/// Makes a record of a file that is empty and this process's own.
pub(super) fn create(path: &Path) -> Result<Database, DatabaseError> {
    builder().create(path)
}

/// A file as it is, or as redb would mend it: looking at it writes nothing, and nobody writes meanwhile.
pub(super) fn look(path: &Path) -> Result<Database, DatabaseError> {
    tried(path, Hold::Shared)
}

fn tried(path: &Path, hold: Hold) -> Result<Database, DatabaseError> {
    // Nothing is written; but whoever wants a file alone has to be able to.
    let file = File::options().read(true).write(hold == Hold::Alone).open(path).map_err(StorageError::Io)?;
    if file.metadata().map_err(StorageError::Io)?.len() == 0 {
        return Err(StorageError::Corrupted("it is empty; where no run ever began, remove it".to_owned()).into());
    }
    let trial = Trial::over(FileBackend::new(file)?, hold).map_err(StorageError::Io)?;
    let mut database = builder().create_with_backend(trial)?;
    if database.check_integrity()? {
        return Ok(database);
    }
    // What was repaired is an earlier state, and steps that were called durable are missing.
    Err(StorageError::Corrupted("some of its pages are not what was written".to_owned()).into())
}

fn builder() -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}
