//! Files that are read again when they change (HANDS): a broken replacement is told once, and what was read before stays.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use thiserror::Error;

/// Why a file of certificates, keys or tokens cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} {flaw}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        flaw: String,
    },
    /// Files that do not belong together.
    #[error("the certificate in {} cannot be served with the key in {}", cert.display(), key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl FileError {
    /// A file whose content is wrong.
    pub(super) fn content(path: &Path, flaw: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), flaw: flaw.into() }
    }
}

/// How the contents of files become what is made of them.
type Make<T> = dyn Fn(&[Vec<u8>]) -> Result<T, FileError> + Send + Sync;

/// What is made of some small files, made again when they change.
pub struct Watched<T> {
    paths: Vec<PathBuf>,
    make: Box<Make<T>>,
    held: Mutex<Held<T>>,
}

struct Held<T> {
    value: Arc<T>,
    /// Digest of what was tried last, or none when a file could not be read.
    tried: Option<blake3::Hash>,
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watched").field(&self.paths).finish()
    }
}

impl<T> Watched<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn open(
        paths: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let contents = read(&paths)?;
        let held = Held { value: Arc::new(make(&contents)?), tried: Some(digest(&contents)) };
        Ok(Self { paths, make: Box::new(make), held: Mutex::new(held) })
    }

    /// What the files hold at the moment, or held last when they made sense.
    pub fn current(&self) -> Arc<T> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let contents = read(&self.paths);
        let seen = contents.as_ref().ok().map(|contents| digest(contents));
        if seen != held.tried {
            held.tried = seen;
            match contents.and_then(|contents| (self.make)(&contents)) {
                Ok(value) => {
                    tracing::info!(files = ?self.paths, "read again");
                    held.value = Arc::new(value);
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "a replaced file cannot be used; the one before stays in use");
                }
            }
        }
        held.value.clone()
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, FileError> {
    let one = |path: &PathBuf| fs::read(path).map_err(|source| FileError::Read { path: path.clone(), source });
    paths.iter().map(one).collect()
}

/// Contents are compared, not dates: two changes may share one tick of the clock. Keys are not kept for it.
fn digest(contents: &[Vec<u8>]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for content in contents {
        hasher.update(&(content.len() as u64).to_le_bytes()).update(content);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_at_once_and_a_broken_one_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("number");
        let write = |text: &str| fs::write(&path, text).expect("writes");
        let number = {
            let path = path.clone();
            move |contents: &[Vec<u8>]| {
                let text = String::from_utf8_lossy(&contents[0]).into_owned();
                text.parse::<u32>().map_err(|_| FileError::content(&path, "holds no number"))
            }
        };
        assert!(matches!(Watched::open(vec![path.clone()], number.clone()), Err(FileError::Read { .. })));
        write("one");
        let flaw = Watched::open(vec![path.clone()], number.clone()).expect_err("no number").to_string();
        assert!(flaw.ends_with("number holds no number"), "{flaw}");

        write("1");
        let watched = Watched::open(vec![path.clone()], number).expect("a number");
        assert_eq!(*watched.current(), 1);
        write("2");
        assert_eq!(*watched.current(), 2);
        write("two");
        assert_eq!(*watched.current(), 2);
        fs::remove_file(&path).expect("it is there");
        assert_eq!(*watched.current(), 2);
        write("3");
        assert_eq!(*watched.current(), 3);
    }
}
