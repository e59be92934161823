//! Records that are being made (HANDS): a run's record is there whole or not at all, wherever whoever makes it is killed.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use redb::Database;

use super::{StoreError, opening, whole};

/// Makes a record under another name, begins it, and gives it its own. None where another process was faster.
pub(super) fn make<T>(
    path: &Path,
    begin: impl FnOnce(&Database) -> Result<T, StoreError>,
) -> Result<Option<(Database, T)>, StoreError> {
    let draft = Draft::beside(path).map_err(|error| opening(path, error.into()))?;
    let database = whole::create(&draft.0).map_err(|error| opening(path, error))?;
    let begun = begin(&database)?;
    // The file is locked, and stays so under its new name.
    let named = draft.publish(path).map_err(|error| opening(path, error.into()))?;
    Ok(named.then_some((database, begun)))
}

/// Drops what processes left that were killed while they made the record, which is there by now.
pub(super) fn sweep(path: &Path) {
    let Ok(entries) = fs::read_dir(folder_of(path)) else { return };
    let stem = stem_of(path);
    let is_draft = |name: &OsString| name.as_encoded_bytes().starts_with(stem.as_encoded_bytes());
    for entry in entries.flatten().filter(|entry| is_draft(&entry.file_name())) {
        // Whoever makes one at this moment is too late in any case.
        fs::remove_file(entry.path()).ok();
    }
}

/// A file that is no record yet, and goes unless it becomes one.
struct Draft(PathBuf);

impl Draft {
    /// A file that nobody else writes: a process id alone is none, where containers share a folder.
    fn beside(path: &Path) -> io::Result<Self> {
        for number in 0_u64.. {
            let mut name = stem_of(path);
            name.push(format!("{}-{number}", std::process::id()));
            let draft = path.with_file_name(name);
            match File::create_new(&draft) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|_| Self(draft)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Gives it its name, unless that is taken; whether it was free.
    fn publish(self, path: &Path) -> io::Result<bool> {
        match fs::hard_link(&self.0, path) {
            Ok(()) => {}
            Err(_) if path.try_exists()? => return Ok(false),
            // A file system without links: there two processes that begin a run in the same moment are not kept apart.
            Err(_) => fs::rename(&self.0, path)?,
        }
        File::open(folder_of(path))?.sync_all()?;
        Ok(true)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

fn stem_of(path: &Path) -> OsString {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new-");
    name
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
