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
    collect::{CollectError, collect, collect_again},
    keep,
    plan::{Cell, Study},
    selection,
};

/// Results of other numbers are not these: raised by hand when results made before are no longer to be taken for these.
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
    let with_key = |cell: Cell| {
        let key = key(&job_of(&cell)?);
        Ok((cell, key))
    };
    study.cells().into_iter().map(with_key).collect()
}

/// The job of a cell.
///
/// # Errors
/// [`RunError::Cell`] when it is flawed.
pub fn job_of(cell: &Cell) -> Result<JobSpec, RunError> {
    let law = load(&cell.config, &cell.set);
    law.map(|law| law.spec).map_err(|source| RunError::Cell { cell: cell.id.name(), source })
}

/// The job of a file as it stands.
///
/// # Errors
/// [`RunError::Cell`] when it is flawed.
pub fn job_file(file: &Path) -> Result<JobSpec, RunError> {
    let law = load(file, &[]);
    law.map(|law| law.spec).map_err(|source| RunError::Cell { cell: file.display().to_string(), source })
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

/// Runs one cell and keeps its result; a failure in one line. A run that has ended and only lacks its result is collected.
fn one(cell: &Cell, key: &str, site: &Site) -> Result<(), String> {
    let folder = site.folder.join("cells").join(cell.id.name());
    let cannot = |error: io::Error| format!("cannot use {}: {error}", folder.display());
    if has_ended(&folder, key) {
        match collect(&folder, &cell.id, key) {
            Ok(result) => return kept(&result, &folder, site),
            Err(error) => eprintln!("{}: cannot be collected and is run anew: {}", cell.id.name(), chain(&error)),
        }
    }
    begin(&folder, key).map_err(cannot)?;
    let log = folder.with_extension("log");
    let status = execute(cell, &folder, &log, site).map_err(|error| format!("cannot be started: {error}"))?;
    if !status.success() {
        return Err(format!("{status}: {}", last_line(&log)));
    }
    let result = collect(&folder, &cell.id, key).map_err(|error| chain(&error))?;
    kept(&result, &folder, site)
}

/// Keeps a result, and its costs in the run's folder: they are what cannot be read there once checkpoints are gone.
fn kept(result: &CellResult, folder: &Path, site: &Site) -> Result<(), String> {
    let cannot = |error: io::Error| format!("its result cannot be written: {error}");
    keep::write(&folder.join(COSTS), &result.costs).map_err(cannot)?;
    result.save(&site.folder.join("results")).map_err(cannot)?;
    if site.keep == Keep::Evidence {
        lighten(folder).map_err(|error| format!("cannot clear {}: {error}", folder.display()))?;
    }
    Ok(())
}

/// Reads finished runs once more for rules that were added after they ended, without training; how many gained by it.
/// A result whose run's folder is gone, damaged or that of another job stays as it is.
///
/// # Errors
/// When a result cannot be read or written.
pub fn refresh(cells: &[(Cell, String)], folder: &Path) -> Result<usize, RunError> {
    let mut gained = 0;
    for old in finished(cells, folder)?.into_iter().filter(|result| !selection::has_every_rule(result)) {
        let run = folder.join("cells").join(old.id.name());
        if !has_ended(&run, &old.key) {
            continue;
        }
        match collect_again(&run, &old) {
            Ok(new) if new != old => {
                new.save(&folder.join("results")).map_err(|source| RunError::Folder { path: run, source })?;
                gained += 1;
            }
            Ok(_) => {}
            Err(error) => eprintln!("{}: its run cannot be read again: {}", old.id.name(), chain(&error)),
        }
    }
    Ok(gained)
}

/// What a cell's folder is marked with: the key of its job.
const MARK: &str = "cell.key";
/// Marks a run that took several sittings.
pub(crate) const RESUMED: &str = "cell.resumed";
/// The costs of a run that has been collected.
pub(crate) const COSTS: &str = "costs.json";

fn is_of(folder: &Path, key: &str) -> bool {
    fs::read_to_string(folder.join(MARK)).is_ok_and(|old| old == key)
}

/// Whether a folder holds a run of this job that has come to its end.
fn has_ended(folder: &Path, key: &str) -> bool {
    is_of(folder, key) && folder.join("eval.json").exists()
}

/// A run that was cut off goes on in its folder; one under another job, or that has ended, is begun anew.
fn begin(folder: &Path, key: &str) -> io::Result<()> {
    if is_of(folder, key) && !has_ended(folder, key) {
        return fs::write(folder.join(RESUMED), []);
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    fs::write(folder.join(MARK), key)
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

/// The coordinator's program: `ESTA_COORDINATOR_PROGRAM`, or the one beside this one.
fn coordinator() -> PathBuf {
    if let Some(program) = env::var_os("ESTA_COORDINATOR_PROGRAM") {
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
    use esta_engine::law::Law;

    use super::*;
    use crate::{axes, cell::Costs, evidence::COMMITTED, history, plan::CellId};

    /// A study's folder with the one cell of a job whose run has ended and whose checkpoints are gone.
    struct Ended {
        folder: tempfile::TempDir,
        cells: Vec<(Cell, String)>,
        costs: Costs,
    }

    impl Ended {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let config = folder.path().join("job.yaml");
            fs::write(&config, axes::tests::JOB).expect("writes");
            let id = CellId { target: "t".into(), arm: "a".into(), part: String::new(), seed: 7 };
            let cell = Cell { id, config, set: Vec::new() };
            let spec = job_of(&cell).expect("a sound job");
            let key = key(&spec);
            let run = folder.path().join("cells").join(cell.id.name());
            fs::create_dir_all(&run).expect("makes");
            let stitches = Law::new(spec.clone()).expect("a sound job").catalog.stitches().count() as i32;
            let results: Vec<_> = (0..stitches)
                .map(|stitch| serde_json::json!({"stitch": stitch, "accuracy": 0.5, "halves": [0.5, 0.5]}))
                .collect();
            let eval = serde_json::json!({"images": 8, "seconds": 1.0, "results": results});
            let table = serde_json::json!({"version": 30, "rows": []});
            let costs = Costs { train_seconds: 3.0, cpu_seconds: Some(2.0), state_bytes: 99, ..Costs::default() };
            keep::write(&run.join("job.json"), &spec).expect("writes");
            keep::write(&run.join("eval.json"), &eval).expect("writes");
            keep::write(&run.join("table.json"), &table).expect("writes");
            keep::write(&run.join(COSTS), &costs).expect("writes");
            fs::write(run.join(MARK), &key).expect("writes");
            let draws: Vec<_> = (0..30 * i64::from(stitches))
                .map(|slot| (slot / 4, (slot % 4) as i32, (slot % i64::from(stitches)) as i32, true))
                .collect();
            history::tests::write(&run, history::tests::SCHEMA, &draws);
            Self { folder, cells: vec![(cell, key)], costs }
        }

        fn result(&self) -> CellResult {
            finished(&self.cells, self.folder.path()).expect("reads").pop().expect("a result")
        }
    }

    #[test]
    fn a_run_that_only_lacks_its_result_is_collected_and_not_run_again() {
        let ended = Ended::new();
        let site = Site {
            folder: ended.folder.path().to_owned(),
            jobs: 1,
            workers: 1,
            device: "cpu".into(),
            keep: Keep::Evidence,
        };
        // There is no coordinator here: a run would fail.
        run(&ended.cells, &site).expect("nothing is run");
        assert_eq!(ended.result().costs, ended.costs);
        assert!(selection::has_every_rule(&ended.result()));
    }

    #[test]
    fn a_rule_that_came_later_is_read_from_the_run_that_is_still_there() {
        let ended = Ended::new();
        let run = ended.folder.path().join("cells").join(ended.cells[0].0.id.name());
        let whole = collect(&run, &ended.cells[0].0.id, &ended.cells[0].1).expect("a result");
        let mut old = whole.clone();
        old.costs.state_bytes = 7;
        old.stitches.iter_mut().for_each(|stitch| stitch.values.retain(|rule, _| rule != "effect-late"));
        old.save(&ended.folder.path().join("results")).expect("writes");
        assert_eq!(refresh(&ended.cells, ended.folder.path()).expect("reads"), 1);
        assert_eq!(ended.result().stitches, whole.stitches);
        assert_eq!(ended.result().costs, old.costs, "what it took is not what is left");
        assert_eq!(refresh(&ended.cells, ended.folder.path()).expect("reads"), 0);
        old.save(&ended.folder.path().join("results")).expect("writes");
        fs::remove_dir_all(run).expect("removes");
        assert_eq!(refresh(&ended.cells, ended.folder.path()).expect("reads"), 0, "and none where it is gone");
    }

    /// A key that came after them and is written where it says nothing new would make other jobs of theirs.
    #[test]
    fn the_committed_evidence_is_of_the_jobs_as_they_are_now() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for name in COMMITTED {
            let study = Study::read(&root.join(format!("configs/studies/{name}.yaml"))).expect("a study");
            let cells = keyed(&study).expect("sound jobs");
            let folder = tempfile::tempdir().expect("a folder");
            let results = root.join(format!("docs/evidence/{name}.jsonl"));
            let taken = adopt(&cells, &results, folder.path()).expect("readable");
            assert_eq!(taken, cells.len(), "{name}: as many results as cells");
        }
    }
}
