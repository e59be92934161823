//! The growing form of `draws.parquet` (HANDS): part files that a crash cannot hurt, merged when the run is over.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use esta_engine::run::StepRecord;
use esta_proto::Step;

use super::draws::{self, Draws};

/// Steps of a part file, and of a row group of the merged one.
pub const PART_STEPS: u64 = 2048;

/// Where a run's draws lie.
#[derive(Debug, Clone)]
pub struct DrawFiles {
    merged: PathBuf,
    folder: PathBuf,
}

impl DrawFiles {
    /// The draws of a run.
    #[must_use]
    pub fn of(run_dir: &Path) -> Self {
        Self { merged: run_dir.join("draws.parquet"), folder: run_dir.join("draws") }
    }

    /// All rows on disk, from the merged file or from the parts of a run that has not finished.
    ///
    /// # Errors
    /// When a file is damaged.
    pub fn read(&self) -> io::Result<Draws> {
        if self.merged.exists() {
            return draws::read(&self.merged);
        }
        let mut all = Draws::default();
        for part in self.parts()? {
            all.extend(draws::read(&part)?);
        }
        Ok(all)
    }

    fn part(&self, first: u64) -> PathBuf {
        self.folder.join(format!("part-{first:010}.parquet"))
    }

    /// The part files in ascending order of steps.
    fn parts(&self) -> io::Result<Vec<PathBuf>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let paths: io::Result<Vec<PathBuf>> =
            fs::read_dir(&self.folder)?.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut parts = paths?;
        parts.retain(|path| path.extension().is_some_and(|extension| extension == "parquet"));
        parts.sort();
        Ok(parts)
    }
}

/// Collects rows and writes a part whenever [`PART_STEPS`] steps are full.
#[derive(Debug)]
pub struct DrawLog {
    files: DrawFiles,
    buffer: Draws,
    /// First step of the buffer.
    first: u64,
    /// The step whose rows are due.
    next: u64,
}

impl DrawLog {
    /// Keeps what is on disk of steps below `end`, as far as it reaches without a gap.
    ///
    /// # Errors
    /// When files cannot be written; a damaged part is not an error but where the kept rows end.
    pub fn open(run_dir: &Path, end: Step) -> io::Result<Self> {
        let files = DrawFiles::of(run_dir);
        reopen_merged(&files)?;
        let mut next = 0;
        for part in files.parts()? {
            next = keep_part(&files, &part, next, end.0)?;
        }
        Ok(Self { files, buffer: Draws::default(), first: next, next })
    }

    /// The step whose rows are due next.
    #[must_use]
    pub fn next(&self) -> Step {
        Step(self.next)
    }

    /// Appends a step's rows; one that is not due is in already.
    ///
    /// # Errors
    /// When a full part cannot be written.
    pub fn push(&mut self, record: &StepRecord) -> io::Result<()> {
        if record.step.0 < self.next {
            return Ok(());
        }
        if self.buffer.is_empty() {
            self.first = record.step.0;
        }
        self.buffer.push(record);
        self.next = record.step.0 + 1;
        if self.next - self.first >= PART_STEPS { self.flush() } else { Ok(()) }
    }

    /// Writes what is collected as a part.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            reopen_merged(&self.files)?;
            fs::create_dir_all(&self.files.folder)?;
            draws::write(&self.files.part(self.first), std::iter::once(Ok(self.buffer.clone())))?;
            self.buffer = Draws::default();
        }
        self.first = self.next;
        Ok(())
    }

    /// Merges all parts into `draws.parquet`, one row group each; nothing to do when that has been done.
    ///
    /// # Errors
    /// When a part cannot be read or the file cannot be written; the parts stay then.
    pub fn merge(&mut self) -> io::Result<()> {
        self.flush()?;
        let parts = self.files.parts()?;
        if parts.is_empty() && self.files.merged.exists() {
            return Ok(());
        }
        draws::write(&self.files.merged, parts.iter().map(|part| draws::read(part)))?;
        if self.files.folder.exists() {
            fs::remove_dir_all(&self.files.folder)?;
        }
        Ok(())
    }
}

/// A finished file becomes the first part again. Parts beside it are what [`DrawLog::merge`] could not remove.
fn reopen_merged(files: &DrawFiles) -> io::Result<()> {
    if !files.merged.exists() {
        return Ok(());
    }
    if files.folder.exists() {
        fs::remove_dir_all(&files.folder)?;
    }
    fs::create_dir_all(&files.folder)?;
    fs::rename(&files.merged, files.part(0))
}

/// Trims a part that should begin at step `next` to steps below `end`; answers the step that is due after it.
fn keep_part(files: &DrawFiles, part: &Path, next: u64, end: u64) -> io::Result<u64> {
    let rows = draws::read(part).ok().filter(|rows| rows.step.first() == Some(&next.cast_signed()));
    let Some(mut rows) = rows.filter(|_| next < end && part == files.part(next)) else {
        fs::remove_file(part)?;
        return Ok(next);
    };
    let before = rows.len();
    rows.truncate_at(end.cast_signed());
    let last = rows.step.last().map_or(next, |step| step.cast_unsigned() + 1);
    if rows.len() < before {
        draws::write(part, std::iter::once(Ok(rows)))?;
    }
    Ok(last)
}
