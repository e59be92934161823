//! The coordinator's files of a run on their way to the object storage that keeps it (HANDS): every so often what changed, and all of
//! them at its end. Checkpoints, models and `eval.json` are the workers' to send.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use esta_objects::{Kept, ObjectsError, RunPlace};

use crate::report;

/// How often what changed is sent.
const EVERY: Duration = Duration::from_secs(30);
/// The file that a run's evaluation writes.
const EVALUATION: &str = "eval.json";
/// The folder of its models.
const MODELS: &str = "export";

/// What was sent, and what is to be.
#[derive(Debug)]
struct Archive {
    kept: Kept,
    folder: PathBuf,
    /// By name: length and time of what is there.
    sent: BTreeMap<String, (u64, SystemTime)>,
}

/// Sends on a thread of its own until it is told to end.
pub struct Archivist {
    /// Dropped: the thread ends.
    until: Sender<()>,
    thread: JoinHandle<Archive>,
}

impl Archivist {
    /// Begins to send, if object storage keeps the run.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn begin(place: &RunPlace) -> io::Result<Option<Self>> {
        let Some(kept) = &place.kept else { return Ok(None) };
        let mut archive = Archive { kept: kept.clone(), folder: place.folder.clone(), sent: BTreeMap::new() };
        let (until, told) = channel::<()>();
        let thread = thread::Builder::new().name("archive".into()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = told.recv_timeout(EVERY) {
                if let Err(error) = archive.send() {
                    tracing::warn!(error = line(&error), "the run's files are not sent; this is tried again");
                }
            }
            archive
        })?;
        Ok(Some(Self { until, thread }))
    }

    /// Sends what is left.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn end(self) -> Result<(), ObjectsError> {
        self.stop().map(drop)
    }

    /// Sends what is left of a complete run, its report after all else: where that is, everything is.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn end_with_report(self) -> Result<(), ObjectsError> {
        let Archive { kept, folder, .. } = self.stop()?;
        kept.send(&folder, vec![report::FILE.to_owned()])
    }

    fn stop(self) -> Result<Archive, ObjectsError> {
        drop(self.until);
        let mut archive = self.thread.join().map_err(|_| ObjectsError::Threads(io::Error::other("it broke")))?;
        archive.send()?;
        Ok(archive)
    }
}

impl Archive {
    /// Sends what has changed, but for the report.
    fn send(&mut self) -> Result<(), ObjectsError> {
        let mut found = files(&self.folder).map_err(|source| ObjectsError::File {
            step: "list",
            path: self.folder.clone(),
            source,
        })?;
        found.remove(report::FILE);
        let changed: Vec<String> = found
            .iter()
            .filter(|(name, state)| self.sent.get(*name) != Some(*state))
            .map(|(name, _)| name.clone())
            .collect();
        self.kept.send(&self.folder, changed)?;
        let gone = self.sent.keys().filter(|name| !found.contains_key(*name)).cloned().collect();
        self.kept.remove_files(gone)?;
        self.sent = found;
        Ok(())
    }
}

/// The coordinator's own files in a run's folder, relative to it.
fn files(folder: &Path) -> io::Result<BTreeMap<String, (u64, SystemTime)>> {
    let mut found = BTreeMap::new();
    let mut inner = vec![PathBuf::new()];
    while let Some(below) = inner.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let name = below.join(entry.file_name()).to_string_lossy().into_owned();
            if !is_ours(&name) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                inner.push(name.into());
            } else if kind.is_file() {
                // One that went meanwhile is not sent.
                if let Ok(state) = entry.metadata() {
                    found.insert(name, (state.len(), state.modified()?));
                }
            }
        }
    }
    Ok(found)
}

fn is_ours(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or_default();
    let theirs =
        first == MODELS || first == EVALUATION || first.starts_with("checkpoint-") || first.starts_with("record.");
    let passing = name.split('/').any(|part| part.starts_with('.')) || name.ends_with(".tmp");
    !theirs && !passing
}

/// Brings the coordinator's own files of a run to a machine that has none of them. The record is the truth: what is old in them is
/// filled in from it.
///
/// # Errors
/// [`ObjectsError`].
pub fn bring_files(place: &RunPlace) -> Result<(), ObjectsError> {
    let Some(kept) = &place.kept else { return Ok(()) };
    if place.folder.join("job.json").is_file() {
        return Ok(());
    }
    let ours = kept.list()?.into_iter().filter(|object| is_ours(&object.name));
    ours.into_iter().try_for_each(|object| kept.fetch_file(&place.folder, &object.name).map(drop))
}

/// Takes the report away, here and where it is kept: it tells of a complete run, and this one goes on.
///
/// # Errors
/// [`ObjectsError`].
pub fn forget_report(place: &RunPlace) -> Result<(), ObjectsError> {
    remove(&place.folder.join(report::FILE))?;
    let Some(kept) = &place.kept else { return Ok(()) };
    match kept.list()?.iter().any(|object| object.name == report::FILE) {
        true => kept.remove_files(vec![report::FILE.to_owned()]),
        false => Ok(()),
    }
}

fn remove(path: &Path) -> Result<(), ObjectsError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ObjectsError::File { step: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Brings the coordinator's own files of a run that is over, where they are kept to the last one: then nobody writes them any more, and
/// whatever is here of an earlier term is old. Answers whether they are.
///
/// # Errors
/// [`ObjectsError`].
pub fn bring_outcome(place: &RunPlace) -> Result<bool, ObjectsError> {
    let Some(kept) = &place.kept else { return Ok(true) };
    let ours: Vec<_> = kept.list()?.into_iter().filter(|object| is_ours(&object.name)).collect();
    if !ours.iter().any(|object| object.name == report::FILE) {
        bring_files(place)?;
        return Ok(false);
    }
    ours.iter().try_for_each(|object| kept.fetch_file(&place.folder, &object.name).map(drop))?;
    Ok(true)
}

/// Brings what the run's evaluation found; one of an earlier run in this folder goes.
///
/// # Errors
/// [`ObjectsError`].
pub fn bring_evaluation(place: &RunPlace) -> Result<(), ObjectsError> {
    let Some(kept) = &place.kept else { return Ok(()) };
    if kept.fetch_file(&place.folder, EVALUATION)? {
        return Ok(());
    }
    remove(&place.folder.join(EVALUATION))
}

/// Brings the run's models, if it has any.
///
/// # Errors
/// [`ObjectsError`].
pub fn bring_models(place: &RunPlace) -> Result<(), ObjectsError> {
    let Some(kept) = &place.kept else { return Ok(()) };
    match kept.fetch(&place.folder, MODELS) {
        Err(error) if error.is_absence() => Ok(()),
        fetched => fetched,
    }
}

/// An error with its causes.
pub fn line(error: &ObjectsError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |&cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workers_files_the_record_and_what_is_half_written_are_not_sent() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        for name in ["checkpoint-20", "export/stitch-1", "draws", ".parts-checkpoint-20"] {
            fs::create_dir_all(path.join(name)).expect("made");
        }
        let names = [
            "job.json",
            "draws/part-0000000000.parquet",
            "metrics.jsonl",
            "checkpoint-20/a",
            "export/stitch-1/b",
            "eval.json",
            "record.redb",
            "table.json.tmp",
            ".lock-checkpoint-20",
            ".parts-checkpoint-20/c",
        ];
        names.iter().for_each(|name| fs::write(path.join(name), "").expect("written"));
        let found: Vec<String> = files(path).expect("listed").into_keys().collect();
        assert_eq!(found, ["draws/part-0000000000.parquet", "job.json", "metrics.jsonl"]);
    }
}
