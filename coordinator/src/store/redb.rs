//! The record in one redb file (HANDS): `<run dir>/record.redb`.

mod draft;
mod guard;
mod trial;
mod whole;

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use esta_engine::run::{Record, Recovered, StepRecord};
use esta_proto::{Generation, LeaderEpoch, Step};
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    WriteTransaction,
};

use self::guard::guarded;
use super::{Meta, RECORD_FILE, RecordStore, StoreError, codec, job};

/// The format this program writes. Readers refuse a later one.
const FORMAT: u32 = 1;

/// Single values: numbers as little-endian u64, texts as UTF-8.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Committed steps.
const STEPS: TableDefinition<u64, &[u8]> = TableDefinition::new("steps");
/// Names of a generation's workers by rank, as JSON.
const GENERATIONS: TableDefinition<u64, &[u8]> = TableDefinition::new("generations");
/// Complete checkpoints.
const CHECKPOINTS: TableDefinition<u64, ()> = TableDefinition::new("checkpoints");

/// A run's record in a file that this process alone has open.
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
    path: PathBuf,
    meta: Meta,
}

impl RedbStore {
    /// Opens the record in a run's folder, or makes it, and begins a new term of office.
    ///
    /// # Errors
    /// [`StoreError`]: the file is in use, of a later format, of another job, or cannot be written.
    pub fn open(run_dir: &Path, name: &str, spec_json: &str) -> Result<Self, StoreError> {
        Self::open_file(run_dir.join(RECORD_FILE), name, spec_json)
    }

    /// The same in a file of any name.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub fn open_file(path: PathBuf, name: &str, spec_json: &str) -> Result<Self, StoreError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        let begin = |database: &Database| begin_term(database, name, spec_json).map_err(|flaw| flaw.at(&path, "open"));
        let (database, meta) = guarded(&path, || {
            let is_there = path.try_exists().map_err(|error| opening(&path, error.into()))?;
            let made = if is_there { None } else { draft::make(&path, begin)? };
            if let Some(made) = made {
                return Ok(made);
            }
            let database = whole::open(&path).map_err(|error| opening(&path, error))?;
            let meta = begin(&database)?;
            Ok((database, meta))
        })?;
        draft::sweep(&path);
        Ok(Self { database, path, meta })
    }
}

impl RecordStore for RedbStore {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let write = || -> Result<(), Flaw> {
            let transaction = begin_write(&self.database)?;
            records.iter().try_for_each(|record| put(&transaction, record))?;
            Ok(transaction.commit()?)
        };
        write().map_err(|flaw| flaw.at(&self.path, "write"))
    }

    fn load(&self) -> Result<Recovered, StoreError> {
        let read = || recovered(&self.database.begin_read()?);
        guarded(&self.path, || read().map_err(|flaw| flaw.at(&self.path, "read")))
    }

    fn steps(&self, range: Range<Step>) -> Result<Vec<StepRecord>, StoreError> {
        let read = || steps(&self.database.begin_read()?, range.clone());
        guarded(&self.path, || read().map_err(|flaw| flaw.at(&self.path, "read")))
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// Reads a record that no coordinator has open, every step of it; nothing is written.
///
/// # Errors
/// [`StoreError`] when there is none, it is in use, or it cannot be read.
pub fn read_only(path: &Path) -> Result<(Meta, Recovered), StoreError> {
    guarded(path, || read_whole(path))
}

fn read_whole(path: &Path) -> Result<(Meta, Recovered), StoreError> {
    let database = whole::look(path).map_err(|error| opening(path, error))?;
    let read = || -> Result<_, Flaw> {
        let transaction = database.begin_read()?;
        let table = transaction.open_table(META)?;
        check_format(&table)?;
        let epoch = LeaderEpoch(number(&table, "epoch")?.unwrap_or(0));
        let text = |key| Ok::<_, Flaw>(text(&table, key)?.unwrap_or_default());
        let meta = Meta { run_id: text("run_id")?, spec_json: text("spec")?, epoch };
        let whole = Recovered { steps: steps(&transaction, Step(0)..Step(u64::MAX))?, ..recovered(&transaction)? };
        Ok((meta, whole))
    };
    read().map_err(|flaw| flaw.at(path, "read"))
}

/// Checks whose record this is, and makes the next leader's epoch durable before anybody acts under it (MB-1).
fn begin_term(database: &Database, name: &str, spec_json: &str) -> Result<Meta, Flaw> {
    let transaction = begin_write(database)?;
    let meta = {
        let mut table = transaction.open_table(META)?;
        check_format(&table)?;
        let stored = text(&table, "spec")?;
        if let Some(stored) = stored {
            job::check(&stored, spec_json)?;
        }
        let run_id = text(&table, "run_id")?.unwrap_or_else(|| job::new_run_id(name));
        let epoch = LeaderEpoch(number(&table, "epoch")?.unwrap_or(0) + 1);
        table.insert("format", u64::from(FORMAT).to_le_bytes().as_slice())?;
        table.insert("run_id", run_id.as_bytes())?;
        table.insert("spec", spec_json.as_bytes())?;
        table.insert("epoch", epoch.0.to_le_bytes().as_slice())?;
        Meta { run_id, spec_json: spec_json.to_owned(), epoch }
    };
    transaction.open_table(STEPS)?;
    transaction.open_table(GENERATIONS)?;
    transaction.open_table(CHECKPOINTS)?;
    transaction.commit()?;
    Ok(meta)
}

/// Begins a transaction whose commit is synced twice: first what it wrote, then that it counts. Of a file whose commits are synced
/// once, redb takes a last one that is damaged for one that was cut short, and goes on without it: steps that were called durable
/// would be gone, and nobody would know. Steps that come meanwhile share the next transaction, so a slow disk groups more of them.
fn begin_write(database: &Database) -> Result<WriteTransaction, Flaw> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

fn check_format(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<(), Flaw> {
    match number(meta, "format")? {
        Some(found) if found > u64::from(FORMAT) => Err(Flaw::Newer(u32::try_from(found).unwrap_or(u32::MAX))),
        _ => Ok(()),
    }
}

fn put(transaction: &WriteTransaction, record: &Record) -> Result<(), Flaw> {
    match record {
        Record::Step(step) => {
            transaction.open_table(STEPS)?.insert(step.step.0, codec::encode(step).as_slice())?;
        }
        Record::Generation(generation, names) => {
            let names = serde_json::to_vec(names).map_err(|error| Flaw::Damaged(error.to_string()))?;
            transaction.open_table(GENERATIONS)?.insert(generation.0, names.as_slice())?;
        }
        Record::Checkpoint(step) => {
            transaction.open_table(CHECKPOINTS)?.insert(step.0, ())?;
        }
        Record::Samples(samples) => {
            transaction.open_table(META)?.insert("samples", samples.to_le_bytes().as_slice())?;
        }
        Record::Snapshot(snapshot) => {
            transaction.open_table(META)?.insert("snapshot", codec::encode_snapshot(snapshot).as_slice())?;
        }
        Record::Complete => {
            transaction.open_table(META)?.insert("complete", [].as_slice())?;
        }
        // The file keeps every step, for whoever asks what happened; only starting again needs fewer.
        Record::Trim(step) => {
            transaction.open_table(META)?.insert("trim", step.0.to_le_bytes().as_slice())?;
        }
    }
    Ok(())
}

/// What it takes to go on: the last snapshot, and the steps since the oldest that anybody may need.
fn recovered(transaction: &ReadTransaction) -> Result<Recovered, Flaw> {
    let meta = transaction.open_table(META)?;
    let snapshot = meta.get("snapshot")?.map(|bytes| codec::decode_snapshot(bytes.value()));
    let snapshot = snapshot.transpose().map_err(Flaw::Damaged)?;
    let trim = Step(number(&meta, "trim")?.unwrap_or(0));
    let first = snapshot.as_ref().map_or(Step(0), |snapshot| snapshot.committed.min(trim));
    let checkpoints = transaction.open_table(CHECKPOINTS)?;
    let checkpoints = checkpoints.iter()?.map(|entry| Ok::<_, Flaw>(Step(entry?.0.value())));
    let last = transaction.open_table(GENERATIONS)?.last()?.map(|(key, names)| {
        let names = serde_json::from_slice(names.value());
        let names = names.map_err(|error| Flaw::Damaged(format!("generation {}: {error}", key.value())));
        Ok::<_, Flaw>((Generation(key.value()), names?))
    });
    let (generation, members) = last.transpose()?.unwrap_or_default();
    Ok(Recovered {
        snapshot,
        steps: steps(transaction, first..Step(u64::MAX))?,
        generation,
        members,
        samples: number(&meta, "samples")?,
        checkpoints: checkpoints.collect::<Result<_, _>>()?,
        complete: meta.get("complete")?.is_some(),
    })
}

fn steps(transaction: &ReadTransaction, range: Range<Step>) -> Result<Vec<StepRecord>, Flaw> {
    let step = |entry: Result<(redb::AccessGuard<u64>, redb::AccessGuard<&[u8]>), StorageError>| {
        let (key, value) = entry?;
        codec::decode(Step(key.value()), value.value()).map_err(Flaw::Damaged)
    };
    if range.is_empty() {
        return Ok(Vec::new());
    }
    transaction.open_table(STEPS)?.range(range.start.0..range.end.0)?.map(step).collect()
}

fn number(meta: &impl ReadableTable<&'static str, &'static [u8]>, key: &'static str) -> Result<Option<u64>, Flaw> {
    let Some(value) = meta.get(key)? else { return Ok(None) };
    let bytes = value.value().try_into().map_err(|_| Flaw::Damaged(format!("{key} is no number")))?;
    Ok(Some(u64::from_le_bytes(bytes)))
}

fn text(meta: &impl ReadableTable<&'static str, &'static [u8]>, key: &'static str) -> Result<Option<String>, Flaw> {
    let Some(value) = meta.get(key)? else { return Ok(None) };
    let text = String::from_utf8(value.value().to_vec());
    text.map(Some).map_err(|_| Flaw::Damaged(format!("{key} is no text")))
}

/// A [`StoreError`] that does not know its file yet.
enum Flaw {
    Newer(u32),
    OtherJob(String),
    Damaged(String),
    Database(redb::Error),
}

impl From<job::Mismatch> for Flaw {
    fn from(mismatch: job::Mismatch) -> Self {
        match mismatch {
            job::Mismatch::OtherJob(differences) => Self::OtherJob(differences),
            job::Mismatch::Damaged(what) => Self::Damaged(what),
        }
    }
}

impl<E: Into<redb::Error>> From<E> for Flaw {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

impl Flaw {
    fn at(self, path: &Path, action: &'static str) -> StoreError {
        let place = path.display().to_string();
        match self {
            Self::Newer(found) => StoreError::Newer { place, found, known: FORMAT },
            Self::OtherJob(differences) => {
                let advice = "set another output_dir or remove that folder";
                StoreError::OtherJob { place, differences, advice }
            }
            Self::Damaged(what) => StoreError::Damaged { place, what },
            Self::Database(redb::Error::Io(error)) if error.kind() == io::ErrorKind::StorageFull => {
                StoreError::Full { place }
            }
            Self::Database(redb::Error::Corrupted(what)) => StoreError::Damaged { place, what },
            Self::Database(source) => StoreError::Failed { place, action, source: Box::new(source) },
        }
    }
}

fn opening(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { place: path.display().to_string() },
        other => Flaw::from(other).at(path, "open"),
    }
}

#[cfg(test)]
mod tests {
    use esta_engine::run::Snapshot;
    use esta_proto::Digest;
    use esta_sim::mutate::{Mutator, over_seeds};
    use tempfile::TempDir;

    use super::*;

    fn folder() -> TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn step(step: u64) -> Record {
        let (draws, outcomes) = (Vec::new(), Vec::new());
        Record::Step(StepRecord { step: Step(step), table_version: Step(0), draws, outcomes, reduced: Digest([1; 32]) })
    }

    #[test]
    fn mb_1_every_opening_begins_a_later_epoch_of_the_same_run() {
        let folder = folder();
        let first = RedbStore::open(folder.path(), "job", "{}").expect("opens").meta().clone();
        let second = RedbStore::open(folder.path(), "job", "{}").expect("opens").meta().clone();
        assert_eq!((first.epoch, second.epoch), (LeaderEpoch(1), LeaderEpoch(2)));
        assert_eq!(first.run_id, second.run_id);
    }

    #[test]
    fn what_was_appended_is_loaded_after_a_restart() {
        let folder = folder();
        let mut store = RedbStore::open(folder.path(), "job", "{}").expect("opens");
        let names = vec!["a".to_owned()];
        let records = [Record::Samples(7), Record::Generation(Generation(3), names), step(0), step(1)];
        store.append(&records).expect("there is room");
        store.append(&[Record::Checkpoint(Step(2))]).expect("there is room");
        drop(store);
        let recovered = RedbStore::open(folder.path(), "job", "{}").expect("opens").load().expect("reads");
        assert_eq!(recovered.steps.iter().map(|step| step.step.0).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((recovered.generation, recovered.samples), (Generation(3), Some(7)));
        assert_eq!(recovered.members, ["a"]);
        assert_eq!(recovered.checkpoints, [Step(2)]);
        assert_eq!(read_only(&folder.path().join(RECORD_FILE)).expect("reads").1, recovered);
    }

    #[test]
    fn starting_again_reads_the_last_snapshot_and_the_steps_since_the_oldest_checkpoint() {
        let folder = folder();
        let mut store = RedbStore::open(folder.path(), "job", "{}").expect("opens");
        store.append(&(0..30).map(step).collect::<Vec<_>>()).expect("there is room");
        let snapshot = Snapshot { committed: Step(30), rows: Vec::new(), trend: Some(0.5), plans: Vec::new() };
        store.append(&[Record::Trim(Step(20)), Record::Snapshot(Box::new(snapshot.clone()))]).expect("there is room");
        store.append(&(30..34).map(step).collect::<Vec<_>>()).expect("there is room");
        let numbers = |steps: &[StepRecord]| steps.iter().map(|step| step.step.0).collect::<Vec<_>>();
        let recovered = store.load().expect("reads");
        assert_eq!((recovered.snapshot.as_ref(), recovered.durable()), (Some(&snapshot), Step(34)));
        assert_eq!(numbers(&recovered.steps), (20..34).collect::<Vec<_>>());
        assert_eq!(numbers(&store.steps(Step(3)..Step(6)).expect("reads")), [3, 4, 5], "the file forgets nothing");
        drop(store);
        assert_eq!(read_only(&folder.path().join(RECORD_FILE)).expect("reads").1.steps.len(), 34);
    }

    #[test]
    fn a_record_in_use_is_refused() {
        let folder = folder();
        let held = RedbStore::open(folder.path(), "job", "{}").expect("opens");
        let error = RedbStore::open(folder.path(), "job", "{}").expect_err("it is held");
        assert!(matches!(error, StoreError::Locked { .. }), "{error}");
        drop(held);
    }

    #[test]
    fn a_record_of_another_job_is_refused_by_what_differs() {
        let folder = folder();
        drop(RedbStore::open(folder.path(), "job", r#"{"seed":1}"#).expect("opens"));
        let error = RedbStore::open(folder.path(), "job", r#"{"seed":2}"#).expect_err("another seed");
        assert!(error.to_string().contains("seed is 1 there and 2 here"), "{error}");
    }

    #[test]
    fn a_later_format_is_refused() {
        let folder = folder();
        let store = RedbStore::open(folder.path(), "job", "{}").expect("opens");
        let transaction = store.database.begin_write().expect("begins");
        transaction.open_table(META).expect("opens").insert("format", 9u64.to_le_bytes().as_slice()).expect("writes");
        transaction.commit().expect("commits");
        drop(store);
        let error = RedbStore::open(folder.path(), "job", "{}").expect_err("from the future");
        assert!(matches!(error, StoreError::Newer { found: 9, known: 1, .. }), "{error}");
    }

    /// What a reader finds in a file of these bytes.
    fn found(folder: &Path, bytes: &[u8]) -> Result<(LeaderEpoch, Recovered), StoreError> {
        std::fs::write(folder.join(RECORD_FILE), bytes).expect("writes");
        let store = RedbStore::open(folder, "job", "{}")?;
        Ok((store.meta().epoch, store.load()?))
    }

    /// A file of sixty steps as a process that is killed leaves it, and as one that ends in order does.
    fn left(folder: &Path) -> [Vec<u8>; 2] {
        let bytes = || std::fs::read(folder.join(RECORD_FILE)).expect("reads");
        let mut store = RedbStore::open(folder, "job", "{}").expect("opens");
        for first in (0..60).step_by(5) {
            store.append(&(first..first + 5).map(step).collect::<Vec<_>>()).expect("there is room");
        }
        let killed = bytes();
        drop(store);
        [killed, bytes()]
    }

    #[test]
    fn a_spoilt_file_is_refused_or_holds_what_was_written() {
        let folder = folder();
        let left = left(folder.path());
        let whole = found(folder.path(), &left[1]).expect("nothing is wrong with it");
        assert_eq!(found(folder.path(), &left[0]).expect("nothing is wrong with it"), whole);
        over_seeds(150, |seed| {
            let mut mutator = Mutator::new(seed);
            let bytes = mutator.one_of(&left).clone();
            let spoilt = mutator.file(&bytes);
            match found(folder.path(), &spoilt) {
                Ok(other) => assert_eq!(other, whole, "silently another record"),
                Err(StoreError::Damaged { .. } | StoreError::Failed { .. }) => {
                    let kept = std::fs::read(folder.path().join(RECORD_FILE)).expect("reads");
                    assert!(kept == spoilt, "what was refused is not as it was found");
                }
                Err(error) => panic!("{error}"),
            }
            match read_only(&folder.path().join(RECORD_FILE)) {
                Ok((_, other)) => assert_eq!(other, whole.1, "silently another record"),
                Err(StoreError::Damaged { .. } | StoreError::Failed { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        });
    }

    #[test]
    fn a_commit_that_was_damaged_is_not_taken_for_one_that_was_cut_short() {
        let folder = folder();
        let path = folder.path().join(RECORD_FILE);
        let mut store = RedbStore::open(folder.path(), "job", "{}").expect("opens");
        store.append(&[step(0)]).expect("there is room");
        let before = std::fs::read(&path).expect("reads");
        store.append(&[step(1)]).expect("there is room");
        let after = std::fs::read(&path).expect("reads");
        drop(store);
        let whole = found(folder.path(), &after).expect("nothing is wrong with it");
        let pages = (0..after.len()).step_by(4096).skip(1);
        let written = pages.filter(|at| before.get(*at..at + 4096) != after.get(*at..at + 4096));
        let refused = written.filter(|at| {
            let mut spoilt = after.clone();
            spoilt[*at..at + 4096].iter_mut().for_each(|byte| *byte ^= 0xff);
            match found(folder.path(), &spoilt) {
                Ok(other) => {
                    assert_eq!(other, whole, "silently another record");
                    false
                }
                Err(error) => matches!(error, StoreError::Damaged { .. }),
            }
        });
        assert!(refused.count() > 0, "no page of the last commit was spoilt");
    }

    #[test]
    fn whoever_is_killed_while_making_a_record_leaves_none() {
        let folder = folder();
        let path = folder.path().join(RECORD_FILE);
        let drafts = || {
            let names =
                std::fs::read_dir(folder.path()).expect("lists").map(|entry| entry.expect("it is there").file_name());
            names.filter(|name| name != RECORD_FILE).count()
        };
        drop(RedbStore::open_file(folder.path().join("other"), "job", "{}").expect("opens"));
        let whole = std::fs::read(folder.path().join("other")).expect("reads");
        std::fs::remove_file(folder.path().join("other")).expect("it is there");
        // Nothing yet, no magic yet, not all of it yet; of this process's number too, as in a container.
        let own = std::process::id();
        let unmarked: Vec<u8> = [[0; 9].as_slice(), &whole[9..]].concat();
        for half in [b"".as_slice(), &unmarked, &whole[..whole.len() / 2], &whole] {
            for left in ["record.redb.new-1-0".to_owned(), format!("record.redb.new-{own}-0")] {
                std::fs::write(folder.path().join(left), half).expect("writes");
            }
            let store = RedbStore::open(folder.path(), "job", "{}").expect("it is no obstacle");
            assert_eq!((store.meta().epoch, drafts()), (LeaderEpoch(1), 0), "a run of its own, and nothing beside it");
            drop(store);
            std::fs::remove_file(&path).expect("it is there");
        }
        // Named, and the other name not gone yet.
        let store = RedbStore::open(folder.path(), "job", "{}").expect("opens");
        std::fs::hard_link(&path, folder.path().join("record.redb.new-1-0")).expect("links");
        let run = store.meta().run_id.clone();
        drop(store);
        let store = RedbStore::open(folder.path(), "job", "{}").expect("opens");
        assert_eq!((store.meta().run_id.as_str(), store.meta().epoch, drafts()), (run.as_str(), LeaderEpoch(2), 0));
    }

    #[test]
    fn a_record_that_cannot_be_begun_is_none() {
        let folder = folder();
        let path = folder.path().join(RECORD_FILE);
        let full = |_: &Database| Err::<(), _>(StoreError::Full { place: RECORD_FILE.to_owned() });
        assert!(matches!(draft::make(&path, full), Err(StoreError::Full { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).expect("lists").count(), 0);
    }

    #[test]
    fn of_two_who_begin_a_run_one_is_refused_and_the_other_keeps_its_record() {
        let folder = folder();
        let path = folder.path().join(RECORD_FILE);
        let mut held = None;
        let late = draft::make(&path, |_| {
            held = Some(RedbStore::open(folder.path(), "job", "{}").expect("it is faster"));
            Ok(())
        });
        assert!(matches!(late, Ok(None)));
        let held = held.expect("it was faster");
        assert!(matches!(RedbStore::open(folder.path(), "job", "{}"), Err(StoreError::Locked { .. })));
        let run = held.meta().run_id.clone();
        drop(held);
        assert_eq!(RedbStore::open(folder.path(), "job", "{}").expect("opens").meta().run_id, run);
    }

    #[test]
    fn an_empty_file_is_a_record_that_was_lost_and_stays_as_it_is() {
        let folder = folder();
        let path = folder.path().join(RECORD_FILE);
        std::fs::write(&path, b"").expect("writes");
        let line = format!("{} is damaged: it is empty; where no run ever began, remove it", path.display());
        let opened = RedbStore::open(folder.path(), "job", "{}").expect_err("nothing is in it");
        let read = read_only(&path).expect_err("nothing is in it");
        assert_eq!((opened.to_string(), read.to_string()), (line.clone(), line));
        assert_eq!(std::fs::metadata(&path).expect("it is there").len(), 0);
        std::fs::remove_file(&path).expect("it is there");
        RedbStore::open(folder.path(), "job", "{}").expect("a new run");
    }

    #[test]
    fn a_file_that_is_no_record_is_refused_in_one_line() {
        let folder = folder();
        std::fs::write(folder.path().join(RECORD_FILE), b"not a database at all").expect("writes");
        let error = RedbStore::open(folder.path(), "job", "{}").expect_err("it is no record");
        assert!(error.to_string().contains(RECORD_FILE), "{error}");
    }
}
