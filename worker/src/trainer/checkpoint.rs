//! Checkpoints (HANDS): `checkpoint-<step>/`, complete or not there.
//!
//! A checkpoint is written under a temporary name and gets its own once the coordinator's record holds all its steps: a
//! complete checkpoint never runs ahead of the record (DESIGN.md section 4).
//!
//! Where object storage keeps a run, its checkpoints are those that are whole there, and the folder is where they are made and read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use esta_objects::{Kept, ObjectsError, RunPlace, cache};
use esta_proto::{Digest, Step};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// A file or folder.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The state file is no JSON of this form.
    #[error("{path} is no trainer state")]
    State {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// Object storage.
    #[error("the checkpoints that object storage keeps")]
    Kept(#[from] ObjectsError),
    /// Tensors.
    #[error("the tensors of {path}")]
    Tensors {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with them.
        source: esta_model::WeightsError,
    },
    /// Another job made it.
    #[error("{path} belongs to another job: its layout is {found}, this job's is {expected}")]
    Foreign {
        /// The checkpoint.
        path: PathBuf,
        /// Layout digest of the job.
        expected: Digest,
        /// Layout digest on record.
        found: Digest,
    },
}

/// `trainer_state.json` of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Applied steps; Hugging Face's name.
    pub global_step: Step,
    /// Steps of the run; Hugging Face's name.
    pub max_steps: u64,
    /// Chained digest of the reduced buffers up to it.
    pub digest: Digest,
    /// Digest of the parameter layout.
    pub layout: Digest,
    /// By group id: how often it was updated.
    pub touches: Vec<u64>,
}

/// The checkpoints of a run.
#[derive(Debug, Clone)]
pub struct CheckpointFolder {
    run_dir: PathBuf,
    limit: usize,
    kept: Option<Kept>,
}

impl CheckpointFolder {
    /// The checkpoints under a run's folder; at most `limit` are kept.
    #[must_use]
    pub fn new(run_dir: PathBuf, limit: u32) -> Self {
        Self { run_dir, limit: limit as usize, kept: None }
    }

    /// The checkpoints of a run, wherever it is kept.
    #[must_use]
    pub fn of(place: RunPlace, limit: u32) -> Self {
        Self { kept: place.kept, ..Self::new(place.folder, limit) }
    }

    /// The object storage that keeps the run, if one does.
    #[must_use]
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// The folder of the run.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The folder of a complete checkpoint.
    #[must_use]
    pub fn path(&self, step: Step) -> PathBuf {
        self.run_dir.join(name_of(step))
    }

    fn staging(&self, step: Step) -> PathBuf {
        self.run_dir.join(format!(".checkpoint-{step}.{}", std::process::id()))
    }

    /// Complete checkpoints, ascending.
    ///
    /// # Errors
    /// [`CheckpointError::Kept`] when the object storage that keeps them does not say.
    pub fn complete(&self) -> Result<Vec<Step>, CheckpointError> {
        match &self.kept {
            None => Ok(self.complete_here()),
            Some(kept) => {
                let mut steps: Vec<Step> = kept.whole()?.iter().filter_map(|name| step_of(name)).collect();
                steps.sort_unstable();
                Ok(steps)
            }
        }
    }

    fn complete_here(&self) -> Vec<Step> {
        let Ok(entries) = fs::read_dir(&self.run_dir) else { return Vec::new() };
        let step = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let step = step_of(&name)?;
            entry.path().join(STATE_FILE).is_file().then_some(step)
        };
        let mut steps: Vec<Step> = entries.flatten().filter_map(step).collect();
        steps.sort_unstable();
        steps
    }

    /// Writes a checkpoint under its temporary name; `tensors` writes its own files into the folder.
    ///
    /// # Errors
    /// [`CheckpointError`] naming file and cause; nothing complete is harmed.
    pub fn stage(
        &self,
        state: &TrainerState,
        tensors: impl FnOnce(&Path) -> Result<(), esta_model::WeightsError>,
    ) -> Result<(), CheckpointError> {
        let folder = self.staging(state.global_step);
        remove(&folder)?;
        fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
        let written = self.fill(&folder, state, tensors);
        if written.is_err() {
            // Half a checkpoint is of no use, least of all on a full disk.
            drop(fs::remove_dir_all(&folder));
        }
        written
    }

    fn fill(
        &self,
        folder: &Path,
        state: &TrainerState,
        tensors: impl FnOnce(&Path) -> Result<(), esta_model::WeightsError>,
    ) -> Result<(), CheckpointError> {
        tensors(folder).map_err(|source| CheckpointError::Tensors { path: folder.to_owned(), source })?;
        let path = folder.join(STATE_FILE);
        let text =
            serde_json::to_vec_pretty(state).map_err(|source| CheckpointError::State { path: path.clone(), source })?;
        fs::write(&path, text).map_err(io_error("write", &path))?;
        for entry in fs::read_dir(folder).map_err(io_error("list", folder))?.flatten() {
            let file = fs::File::open(entry.path()).map_err(io_error("open", &entry.path()))?;
            file.sync_all().map_err(io_error("make durable", &entry.path()))?;
        }
        // The files are there; that they are in this folder is a fact of the folder.
        sync(folder)
    }

    /// Gives a staged checkpoint its final name, and sends it where the run is kept; then drops the oldest beyond the limit and
    /// what processes that are gone left half done up to here. Doing it twice changes nothing.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn publish(&self, step: Step) -> Result<(), CheckpointError> {
        self.name(step)?;
        self.keep(step)
    }

    /// The first half of [`Self::publish`]: the final name, in this folder.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn name(&self, step: Step) -> Result<(), CheckpointError> {
        let (from, to) = (self.staging(step), self.path(step));
        if self.complete_here().contains(&step) {
            if !from.exists() {
                return Ok(());
            }
            // A state says which bits the tensors have: of a complete checkpoint there is never less.
            if state_text(&from)? == state_text(&to)? {
                return remove(&from);
            }
        }
        remove(&to)?;
        fs::rename(&from, &to).map_err(io_error("rename", &from))?;
        sync(&self.run_dir)
    }

    /// The second half: the way to object storage, and what is dropped after it.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn keep(&self, step: Step) -> Result<(), CheckpointError> {
        if let Some(kept) = &self.kept {
            let name = name_of(step);
            // The same state as is there: of the only whole checkpoint there is never less.
            let same = kept.whole()?.contains(&name) && self.is_same_there(kept, step)?;
            if !same {
                kept.push(&self.run_dir, &name)?;
            }
            let complete = self.complete()?;
            let stay = &complete[complete.len().saturating_sub(self.limit)..];
            let old = |name: &String| step_of(name).is_some_and(|old| old < step && !stay.contains(&old));
            kept.folders()?.iter().filter(|name| old(name)).try_for_each(|name| kept.remove(name))?;
        }
        let complete = self.complete_here();
        for old in &complete[..complete.len().saturating_sub(self.limit)] {
            match self.kept {
                None => remove(&self.path(*old))?,
                Some(_) => cache::forget(&self.path(*old))?,
            }
        }
        self.half_done(step).iter().try_for_each(|folder| remove(folder))
    }

    fn is_same_there(&self, kept: &Kept, step: Step) -> Result<bool, CheckpointError> {
        let here = state_text(&self.path(step))?;
        Ok(kept.read(&format!("{}/{STATE_FILE}", name_of(step)))? == Some(here))
    }

    /// Sees to it that a complete checkpoint lies in its folder.
    ///
    /// # Errors
    /// [`CheckpointError::Kept`] when it does not come.
    pub fn bring(&self, step: Step) -> Result<(), CheckpointError> {
        match &self.kept {
            None => Ok(()),
            Some(kept) => Ok(kept.fetch(&self.run_dir, &name_of(step))?),
        }
    }

    /// Staged checkpoints of any process up to a step: once that one is complete nobody needs them.
    fn half_done(&self, last: Step) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.run_dir) else { return Vec::new() };
        let staged = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let (step, _process) = name.strip_prefix(".checkpoint-")?.split_once('.')?;
            (Step(step.parse().ok()?) <= last).then(|| entry.path())
        };
        entries.flatten().filter_map(staged).collect()
    }

    /// The state of a complete checkpoint, checked against the job's layout.
    ///
    /// # Errors
    /// [`CheckpointError`] naming what is absent, damaged or of another job.
    pub fn read_state(&self, step: Step, layout: Digest) -> Result<TrainerState, CheckpointError> {
        let path = self.path(step).join(STATE_FILE);
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        let state: TrainerState =
            serde_json::from_slice(&text).map_err(|source| CheckpointError::State { path, source })?;
        if state.layout != layout {
            let path = self.path(step);
            return Err(CheckpointError::Foreign { path, expected: layout, found: state.layout });
        }
        Ok(state)
    }
}

const STATE_FILE: &str = "trainer_state.json";

fn name_of(step: Step) -> String {
    format!("checkpoint-{step}")
}

fn step_of(name: &str) -> Option<Step> {
    Some(Step(name.strip_prefix("checkpoint-")?.parse().ok()?))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError + use<> {
    let path = path.to_owned();
    move |source| CheckpointError::Io { action, path, source }
}

fn state_text(folder: &Path) -> Result<Vec<u8>, CheckpointError> {
    let path = folder.join(STATE_FILE);
    fs::read(&path).map_err(io_error("read", &path))
}

/// Makes durable what is in a folder, and under which names.
fn sync(folder: &Path) -> Result<(), CheckpointError> {
    let opened = fs::File::open(folder).map_err(io_error("open", folder))?;
    opened.sync_all().map_err(io_error("make durable", folder))
}

/// Removes a folder. First goes what makes it complete: whoever is killed before the rest is gone leaves none that is taken for one.
fn remove(folder: &Path) -> Result<(), CheckpointError> {
    let absent_is_fine = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", folder)(error)),
        Err(_) => Ok(false),
        Ok(()) => Ok(true),
    };
    if absent_is_fine(fs::remove_file(folder.join(STATE_FILE)))? {
        sync(folder)?;
    }
    absent_is_fine(fs::remove_dir_all(folder)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(step: u64) -> TrainerState {
        let digest = Digest([step as u8; 32]);
        TrainerState { global_step: Step(step), max_steps: 9, digest, layout: Digest([1; 32]), touches: vec![1, 2] }
    }

    #[test]
    fn a_staged_checkpoint_is_not_complete_until_it_is_published() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::new(dir.path().to_owned(), 2);
        folder.stage(&state(5), |_| Ok(())).unwrap();
        assert_eq!(folder.complete().unwrap(), []);
        folder.publish(Step(5)).unwrap();
        assert_eq!(folder.complete().unwrap(), [Step(5)]);
        assert_eq!(folder.read_state(Step(5), Digest([1; 32])).unwrap(), state(5));
        folder.publish(Step(5)).unwrap();
        assert_eq!(folder.complete().unwrap(), [Step(5)]);
    }

    /// Writes the only tensors that a checkpoint has here.
    fn tensors(text: &'static str) -> impl FnOnce(&Path) -> Result<(), esta_model::WeightsError> {
        move |folder| {
            fs::write(folder.join("tensors"), text).unwrap();
            Ok(())
        }
    }

    #[test]
    fn a_complete_checkpoint_stays_where_the_same_one_is_staged_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::new(dir.path().to_owned(), 2);
        for text in ["first", "again"] {
            folder.stage(&state(5), tensors(text)).unwrap();
            folder.publish(Step(5)).unwrap();
        }
        // The bits are the same in a run; here they tell which files these are.
        assert_eq!(fs::read_to_string(folder.path(Step(5)).join("tensors")).unwrap(), "first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the staged one stayed behind");
    }

    #[test]
    fn a_checkpoint_of_another_run_is_replaced_and_half_a_one_too() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::new(dir.path().to_owned(), 2);
        folder.stage(&TrainerState { digest: Digest([9; 32]), ..state(5) }, tensors("another run")).unwrap();
        folder.publish(Step(5)).unwrap();
        folder.stage(&state(5), tensors("this run")).unwrap();
        folder.publish(Step(5)).unwrap();
        assert_eq!(folder.read_state(Step(5), Digest([1; 32])).unwrap(), state(5));
        assert_eq!(fs::read_to_string(folder.path(Step(5)).join("tensors")).unwrap(), "this run");
        fs::remove_file(folder.path(Step(5)).join(STATE_FILE)).unwrap();
        assert_eq!(folder.complete().unwrap(), []);
        folder.stage(&state(5), tensors("this run again")).unwrap();
        folder.publish(Step(5)).unwrap();
        assert_eq!(fs::read_to_string(folder.path(Step(5)).join("tensors")).unwrap(), "this run again");
    }

    #[test]
    fn what_makes_a_checkpoint_complete_is_removed_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::new(dir.path().to_owned(), 1);
        folder.stage(&state(5), tensors("old")).unwrap();
        folder.publish(Step(5)).unwrap();
        // Of a link only the link is removed: there the removal ends half-way, as where somebody is killed.
        let (named, lies) = (folder.path(Step(5)), dir.path().join("elsewhere"));
        fs::rename(&named, &lies).unwrap();
        std::os::unix::fs::symlink(&lies, &named).unwrap();
        assert_eq!(folder.complete().unwrap(), [Step(5)]);
        remove(&named).unwrap();
        let left: Vec<_> = fs::read_dir(&lies).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["tensors"]);
    }

    #[test]
    fn the_oldest_go_beyond_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::new(dir.path().to_owned(), 2);
        for step in [5, 10, 100] {
            folder.stage(&state(step), |_| Ok(())).unwrap();
            folder.publish(Step(step)).unwrap();
        }
        assert_eq!(folder.complete().unwrap(), [Step(10), Step(100)]);
    }

    #[test]
    fn what_a_killed_process_left_half_done_goes_once_a_later_checkpoint_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::new(dir.path().to_owned(), 2);
        for left in [".checkpoint-5.1", ".checkpoint-10.1", ".checkpoint-100.1"] {
            fs::create_dir_all(dir.path().join(left)).unwrap();
        }
        folder.stage(&state(10), |_| Ok(())).unwrap();
        folder.publish(Step(10)).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, [".checkpoint-100.1", "checkpoint-10"], "a later one may still be published");
    }

    #[test]
    fn a_failed_write_leaves_the_complete_ones_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::new(dir.path().to_owned(), 2);
        folder.stage(&state(5), |_| Ok(())).unwrap();
        folder.publish(Step(5)).unwrap();
        let missing = |_: &Path| esta_model::Weights::read(Path::new("/nowhere/at/all")).map(drop);
        folder.stage(&state(10), missing).unwrap_err();
        assert_eq!(folder.complete().unwrap(), [Step(5)]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "half a checkpoint stayed behind");
    }

    #[test]
    fn a_checkpoint_of_another_job_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::new(dir.path().to_owned(), 2);
        folder.stage(&state(5), |_| Ok(())).unwrap();
        folder.publish(Step(5)).unwrap();
        let error = folder.read_state(Step(5), Digest([2; 32])).unwrap_err();
        assert!(error.to_string().contains("belongs to another job"), "{error}");
    }
}
