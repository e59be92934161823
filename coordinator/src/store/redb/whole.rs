//! Files whose every page is what was written (HANDS): redb looks at a page's checksum only where it repairs, so a flipped
//! bit would otherwise become another record, and nobody would know.

use std::path::Path;

use redb::{Database, DatabaseError, StorageBackend, StorageError, backends::InMemoryBackend};

/// Bytes of a file that are kept in memory: a record is written once and read at starts, however long it grows.
const CACHE: usize = 8 << 20;

/// Opens a file, or makes it: some four milliseconds per thousand steps.
pub(super) fn open(path: &Path) -> Result<Database, DatabaseError> {
    checked(Database::builder().set_cache_size(CACHE).create(path)?)
}

/// A copy of a file in memory: looking at it writes nothing.
pub(super) fn copy(path: &Path) -> Result<Database, DatabaseError> {
    let bytes = std::fs::read(path).map_err(StorageError::Io)?;
    let memory = InMemoryBackend::new();
    memory.set_len(bytes.len() as u64).map_err(StorageError::Io)?;
    memory.write(0, &bytes).map_err(StorageError::Io)?;
    checked(Database::builder().create_with_backend(memory)?)
}

fn checked(mut database: Database) -> Result<Database, DatabaseError> {
    if database.check_integrity()? {
        return Ok(database);
    }
    // What was repaired is an earlier state, and steps that were called durable are missing.
    Err(StorageError::Corrupted("some of its pages are not what was written".to_owned()).into())
}
