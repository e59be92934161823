//! Files that are read again when they change (HANDS): a broken replacement is told once, and what was read before stays.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
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

/// Files that look as they did are read again after this long all the same: not every file system tells what changes.
const BELIEVED: Duration = Duration::from_secs(5);
/// What changed this short a time ago may have changed again within the same tick of its clock.
const TICK: Duration = Duration::from_secs(1);

/// What is made of some small files, made again when they change.
pub struct Watched<T>(Arc<Files<T>>);

struct Files<T> {
    paths: Vec<PathBuf>,
    make: Box<Make<T>>,
    held: Mutex<Held<T>>,
}

struct Held<T> {
    value: Arc<T>,
    /// Digest of what was tried last, or none when a file could not be read.
    tried: Option<blake3::Hash>,
    /// When that was, and how the files looked.
    seen: Option<(SystemTime, Vec<Look>)>,
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    file: (u64, u64),
    length: u64,
    changed: SystemTime,
}

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watched").field(&self.0.paths).finish()
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`FileError`] naming the file.
    pub fn open(
        paths: Vec<PathBuf>,
        make: impl Fn(&[Vec<u8>]) -> Result<T, FileError> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let contents = read(&paths)?;
        let held = Held { value: Arc::new(make(&contents)?), tried: Some(digest(&contents)), seen: None };
        Ok(Self(Arc::new(Files { paths, make: Box::new(make), held: Mutex::new(held) })))
    }

    /// What the files hold at the moment, or held last when they made sense. A disk that is slow keeps nobody waiting but
    /// who asks.
    pub async fn current(&self) -> Arc<T> {
        let files = self.0.clone();
        let looked = tokio::task::spawn_blocking(move || files.look(SystemTime::now()));
        looked.await.unwrap_or_else(|_| self.0.held().value.clone())
    }
}

impl<T> Files<T> {
    fn held(&self) -> MutexGuard<'_, Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, now: SystemTime) -> Arc<T> {
        let mut held = self.held();
        let looks: Option<Vec<Look>> = self.paths.iter().map(|path| Look::at(path)).collect();
        let same = held.seen.as_ref().is_some_and(|(when, seen)| {
            Some(seen) == looks.as_ref() && now.duration_since(*when).is_ok_and(|since| since < BELIEVED)
        });
        if same {
            return held.value.clone();
        }
        let contents = read(&self.paths);
        held.seen = looks.filter(|looks| looks.iter().all(|look| look.is_settled(now))).map(|looks| (now, looks));
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

impl Look {
    fn at(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let changed = Duration::new(file.ctime().try_into().ok()?, file.ctime_nsec().try_into().ok()?);
        Some(Self { file: (file.dev(), file.ino()), length: file.len(), changed: UNIX_EPOCH + changed })
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        now.duration_since(self.changed).is_ok_and(|since| since > TICK)
    }
}

fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, FileError> {
    let one = |path: &PathBuf| fs::read(path).map_err(|source| FileError::Read { path: path.clone(), source });
    paths.iter().map(one).collect()
}

/// Whether a file is another one its content says, not its date. Keys are not kept for it.
fn digest(contents: &[Vec<u8>]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for content in contents {
        hasher.update(&(content.len() as u64).to_le_bytes()).update(content);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A file with a number, what is made of it, and how often it was.
    struct Lab {
        folder: tempfile::TempDir,
        made: Arc<AtomicU32>,
    }

    impl Lab {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().expect("a folder"), made: Arc::default() }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("number")
        }

        fn write(&self, text: &str) {
            fs::write(self.path(), text).expect("writes");
        }

        fn open(&self) -> Result<Watched<u32>, FileError> {
            let (path, made) = (self.path(), self.made.clone());
            Watched::open(vec![path.clone()], move |contents| {
                made.fetch_add(1, Ordering::Relaxed);
                let text = String::from_utf8_lossy(&contents[0]).into_owned();
                text.parse().map_err(|_| FileError::content(&path, "holds no number"))
            })
        }
    }

    #[tokio::test]
    async fn a_change_is_seen_at_once_and_a_broken_one_changes_nothing() {
        let lab = Lab::new();
        assert!(matches!(lab.open(), Err(FileError::Read { .. })));
        lab.write("one");
        let flaw = lab.open().expect_err("no number").to_string();
        assert!(flaw.ends_with("number holds no number"), "{flaw}");

        lab.write("1");
        let watched = lab.open().expect("a number");
        assert_eq!(*watched.current().await, 1);
        lab.write("2");
        assert_eq!(*watched.current().await, 2);
        lab.write("two");
        assert_eq!(*watched.current().await, 2);
        fs::remove_file(lab.path()).expect("it is there");
        assert_eq!(*watched.current().await, 2);
        lab.write("3");
        assert_eq!(*watched.current().await, 3);
    }

    #[test]
    fn a_file_that_looks_as_it_did_is_believed_for_some_seconds() {
        let lab = Lab::new();
        lab.write("1");
        let watched = lab.open().expect("a number");
        let later = SystemTime::now() + TICK + Duration::from_secs(1);
        let seen = |at: SystemTime| {
            watched.0.look(at);
            watched.0.held().seen.as_ref().map(|(when, _)| *when)
        };
        assert_eq!(seen(SystemTime::now()), None, "it may change again within this tick");
        assert_eq!(seen(later), Some(later));
        assert_eq!(seen(later + BELIEVED / 2), Some(later), "it is not read again");
        assert_eq!(seen(later + BELIEVED), Some(later + BELIEVED));
        assert_eq!(lab.made.load(Ordering::Relaxed), 1, "it holds what it held");
        lab.write("27");
        assert_eq!(*watched.0.look(later + BELIEVED), 27, "another length, another moment");
    }
}
