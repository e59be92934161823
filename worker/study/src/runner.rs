//! Runs the cells of a study (HANDS): each a coordinator with its workers in a folder of its own, several at a time.

use std::{
    collections::VecDeque,
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
};

use esta_config::{ConfigError, load};
use esta_engine::spec::JobSpec;
use indicatif::{ProgressBar, ProgressStyle};
use thiserror::Error;

use crate::{
    cell::CellResult,
    collect::{CollectError, collect},
    plan::{Cell, Study},
};

/// Results of other numbers are not these: raised whenever a change moves what a job comes to.
const NUMBERS: u32 = 2;

/// Where and how cells are run.
#[derive(Debug, Clone)]
pub struct Site {
    /// The study's folder: runs below `cells`, results below `results`.
    pub folder: PathBuf,
    /// Cells at a time.
    pub jobs: usize,
    /// Workers of a cell.
    pub workers: u32,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Whether finished cells' checkpoints and records are kept.
    pub keep: Keep,
}

/// What stays of a finished cell's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Everything.
    Everything,
    /// What the result was read from; checkpoints, record and TensorBoard go.
    Evidence,
}

/// Why a study cannot go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// A job of a cell.
    #[error("the cell {cell} cannot be run")]
    Cell {
        /// The cell.
        cell: String,
        /// What is wrong with its job.
        source: ConfigError,
    },
    /// The folder of the study.
    #[error("cannot use {}", path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Cells failed; the others are done.
    #[error("{} of {wanted} cells failed: {}", failures.len(), first_of(failures))]
    Cells {
        /// Cells that were to be run.
        wanted: usize,
        /// What failed.
        failures: Vec<CellFailure>,
    },
}

fn first_of(failures: &[CellFailure]) -> String {
    failures.first().map_or_else(String::new, |failure| format!("{}: {}", failure.cell, failure.reason))
}

/// A cell that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellFailure {
    /// Its name.
    pub cell: String,
    /// Why, in one line; its log says more.
    pub reason: String,
}

/// A digest of what a job comes to: its resolved specification without its folder and its name.
#[must_use]
pub fn key(spec: &JobSpec) -> String {
    let anonymous = JobSpec { output_dir: None, name: String::new(), ..spec.clone() };
    let text = serde_json::to_string(&anonymous).expect("a specification is JSON");
    blake3::hash(format!("{NUMBERS} {text}").as_bytes()).to_hex()[..16].to_owned()
}

/// Cells with the digest of each one's job: every job is validated before the first is run.
///
/// # Errors
/// [`RunError::Cell`] naming the first cell whose job is flawed.
pub fn keyed(study: &Study) -> Result<Vec<(Cell, String)>, RunError> {
    let with_key = |cell: Cell| match load(&cell.config, &cell.set) {
        Ok(law) => Ok((cell, key(&law.spec))),
        Err(source) => Err(RunError::Cell { cell: cell.id.name(), source }),
    };
    study.cells().into_iter().map(with_key).collect()
}

/// Results that are there, by the study's order of cells.
///
/// # Errors
/// When a result's file is damaged.
pub fn finished(cells: &[(Cell, String)], folder: &Path) -> Result<Vec<CellResult>, RunError> {
    let results = folder.join("results");
    let find = |(cell, key): &(Cell, String)| {
        let path = CellResult::path(&results, &cell.id);
        CellResult::find(&results, &cell.id, key).map_err(|source| RunError::Folder { path, source }).transpose()
    };
    cells.iter().filter_map(find).collect()
}

/// Takes results made elsewhere, one JSON object per line, where their jobs are the same; how many were taken.
///
/// # Errors
/// When the file cannot be read or a result not written.
pub fn adopt(cells: &[(Cell, String)], file: &Path, folder: &Path) -> Result<usize, RunError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RunError::Folder { path, source }
    };
    let results = folder.join("results");
    let text = fs::read_to_string(file).map_err(failed(file))?;
    let mut taken = 0;
    for line in text.lines() {
        let result: CellResult = serde_json::from_str(line).map_err(|error| failed(file)(error.into()))?;
        let wanted = cells.iter().any(|(cell, key)| cell.id == result.id && *key == result.key);
        if wanted && CellResult::find(&results, &result.id, &result.key).map_err(failed(&results))?.is_none() {
            result.save(&results).map_err(failed(&results))?;
            taken += 1;
        }
    }
    Ok(taken)
}

/// Writes all results as one file, one JSON object per line: what is committed beside the page.
///
/// # Errors
/// When the file cannot be written.
pub fn bundle(results: &[CellResult], file: &Path) -> io::Result<()> {
    let partial = file.with_extension("jsonl.tmp");
    let mut out = io::BufWriter::new(fs::File::create(&partial)?);
    for result in results {
        serde_json::to_writer(&mut out, result)?;
        out.write_all(b"\n")?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(partial, file)
}

/// Runs every cell that has no result, `site.jobs` at a time. A cell that was cut off goes on where it was.
///
/// # Errors
/// [`RunError::Cells`] when any failed, after the others were run.
pub fn run(cells: &[(Cell, String)], site: &Site) -> Result<(), RunError> {
    let there: Vec<_> = finished(cells, &site.folder)?.into_iter().map(|result| result.id).collect();
    let due: VecDeque<&(Cell, String)> = cells.iter().filter(|(cell, _)| !there.contains(&cell.id)).collect();
    let wanted = due.len();
    let bar = bar(cells.len(), there.len());
    let (queue, failures) = (Mutex::new(due), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..site.jobs.max(1) {
            scope.spawn(|| {
                while let Some((cell, key)) = next() {
                    bar.set_message(cell.id.name());
                    bar.tick();
                    if let Err(reason) = one(cell, key, site) {
                        let failure = CellFailure { cell: cell.id.name(), reason };
                        bar.suspend(|| eprintln!("{}: {}", failure.cell, failure.reason));
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                    }
                    bar.inc(1);
                    // Where there is no terminal a line says how far it is.
                    if bar.is_hidden() {
                        let left = bar.eta().as_secs() / 60;
                        eprintln!(
                            "{} of {} cells, about {left} min left: {}",
                            bar.position(),
                            cells.len(),
                            cell.id.name()
                        );
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort_by(|a: &CellFailure, b| a.cell.cmp(&b.cell));
    if failures.is_empty() { Ok(()) } else { Err(RunError::Cells { wanted, failures }) }
}

fn bar(all: usize, done: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} cells, {elapsed} so far, left {eta}: {msg}");
    let bar = ProgressBar::new(all as u64).with_position(done as u64);
    bar.reset_eta();
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Runs one cell and keeps its result; a failure in one line.
fn one(cell: &Cell, key: &str, site: &Site) -> Result<(), String> {
    let folder = site.folder.join("cells").join(cell.id.name());
    let begun = begin(&folder, key).map_err(|error| format!("cannot use {}: {error}", folder.display()))?;
    let log = folder.with_extension("log");
    let status = execute(cell, &folder, &log, site).map_err(|error| format!("cannot be started: {error}"))?;
    if !status.success() {
        return Err(format!("{status}: {}", last_line(&log)));
    }
    let mut result = collect(&folder, &cell.id, key).map_err(|error| chain(&error))?;
    if begun == Begun::Before {
        // Of the last sitting alone.
        (result.costs.cpu_seconds, result.costs.peak_memory) = (None, None);
    }
    result.save(&site.folder.join("results")).map_err(|error| format!("its result cannot be written: {error}"))?;
    if site.keep == Keep::Evidence {
        lighten(&folder).map_err(|error| format!("cannot clear {}: {error}", folder.display()))?;
    }
    Ok(())
}

/// When a cell's run was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    /// Now, in an empty folder.
    Now,
    /// In an earlier sitting, which this one goes on with.
    Before,
}

/// A folder begun under another job is begun anew.
fn begin(folder: &Path, key: &str) -> io::Result<Begun> {
    let mark = folder.join("cell.key");
    if fs::read_to_string(&mark).is_ok_and(|old| old == key) && !folder.join("eval.json").exists() {
        return Ok(Begun::Before);
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(mark, key)?;
    Ok(Begun::Now)
}

fn execute(cell: &Cell, folder: &Path, log: &Path, site: &Site) -> io::Result<ExitStatus> {
    let mut command = Command::new(coordinator());
    command.arg("run").arg("--config").arg(&cell.config);
    command.args(["--workers", &site.workers.to_string(), "--device", &site.device]);
    for setting in &cell.set {
        command.args(["--set", setting]);
    }
    command.arg("--set").arg(format!("output_dir={}", folder.display()));
    let log = fs::File::create(log)?;
    // The run ends with this process, however that ends: its end of the pipe closes.
    command.arg("--leash").stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
    let mut run = command.spawn()?;
    let leash = run.stdin.take();
    let status = run.wait();
    drop(leash);
    status
}

/// The coordinator's program: `ESTA_COORDINATOR`, or the one beside this one.
fn coordinator() -> PathBuf {
    if let Some(program) = env::var_os("ESTA_COORDINATOR") {
        return program.into();
    }
    let beside = env::current_exe().ok().and_then(|own| own.parent().map(|folder| folder.join("esta-coordinator")));
    beside.unwrap_or_else(|| "esta-coordinator".into())
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
}

/// Removes what no result is read from.
fn lighten(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("checkpoint-") || name == "tensorboard" {
            fs::remove_dir_all(&path)?;
        } else if name == "record.redb" {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn chain(error: &CollectError) -> String {
    let mut words = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that came after them and is written where it says nothing new would make other jobs of theirs.
    #[test]
    fn the_committed_evidence_is_of_the_jobs_as_they_are_now() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let study = Study::read(&root.join("configs/studies/offline.yaml")).expect("a study");
        let cells = keyed(&study).expect("sound jobs");
        let folder = tempfile::tempdir().expect("a folder");
        let taken = adopt(&cells, &root.join("docs/evidence/offline.jsonl"), folder.path()).expect("readable");
        assert_eq!(taken, cells.len(), "as many results as cells");
    }
}
