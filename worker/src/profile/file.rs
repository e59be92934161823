//! `latency.json` on disk (HANDS): known to be writable before minutes are spent on measuring.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use esta_engine::profile::Profile;
use thiserror::Error;

/// The file cannot be written.
#[derive(Debug, Error)]
#[error("cannot write {}", path.display())]
pub struct UnwritableProfile {
    path: PathBuf,
    source: io::Error,
}

/// A file that will be written.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    partial: PathBuf,
}

impl Target {
    /// Tries whether a file can be written there; leaves nothing behind and an older one as it is.
    ///
    /// # Errors
    /// [`UnwritableProfile`].
    pub fn at(path: &Path) -> Result<Self, UnwritableProfile> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = path.with_file_name(format!(".{name}.tmp-{}", std::process::id()));
        let target = Self { path: path.to_owned(), partial };
        let tried = match path.is_dir() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => File::create(&target.partial).and_then(|_| fs::remove_file(&target.partial)),
        };
        tried.map_err(|source| target.failed(source)).map(|()| target)
    }

    /// Writes the profile, in one piece or not at all.
    ///
    /// # Errors
    /// [`UnwritableProfile`].
    pub fn write(&self, profile: &Profile) -> Result<(), UnwritableProfile> {
        let text = serde_json::to_string_pretty(profile).map_err(|error| self.failed(error.into()))?;
        let written = fs::write(&self.partial, text + "\n").and_then(|()| fs::rename(&self.partial, &self.path));
        written.map_err(|source| {
            // That the half-written file cannot be removed either adds nothing to the news.
            fs::remove_file(&self.partial).ok();
            self.failed(source)
        })
    }

    /// Where it will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, source: io::Error) -> UnwritableProfile {
        UnwritableProfile { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_takes_no_file_is_known_at_once_and_trying_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Target::at(&dir.path().join("no/such/folder/latency.json")).is_err());
        assert!(Target::at(dir.path()).is_err(), "a folder is no file");
        Target::at(&dir.path().join("latency.json")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
