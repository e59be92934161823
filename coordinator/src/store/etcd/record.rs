//! The record itself (HANDS): fenced transactions of a bounded size, in order.

use std::{collections::BTreeSet, ops::Range, time::Instant};

use esta_engine::run::{Record, Recovered, Snapshot, StepRecord};
use esta_proto::{Generation, LeaderEpoch, Step};
use etcd_client::{Client, Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, Txn, TxnOp};
use tokio::runtime::{Builder, Runtime};

use super::{Etcd, FIRST_CONTACT, FORMAT, Keys, Patience, campaign::Won};
use crate::store::{Meta, RecordStore, StoreError, Tenure, codec, job};

/// Operations of one transaction: etcd takes 128 by default.
const OPERATIONS: usize = 100;
/// Bytes of one transaction and of one page: etcd takes 1.5 MiB, and a client 4 MiB, by default.
const BYTES: usize = 1 << 20;
/// About what a page's step takes besides its slots, and each of these.
const STEP_BYTES: usize = 128;
const SLOT_BYTES: usize = 64;

/// A run's record on etcd, under this term of office. Its methods may be called wherever blocking is in order, and within
/// a runtime of several threads.
pub struct EtcdStore {
    etcd: Etcd,
    /// Drives what is waited for: the program's own runtime may be ending while the last records are written.
    runtime: Option<Runtime>,
    meta: Meta,
    revision: i64,
    tenure: Tenure,
}

/// Something to be written.
struct Operation {
    operation: TxnOp,
    /// Its key, which a transaction may name once; a range stands alone.
    key: Option<Vec<u8>>,
    bytes: usize,
}

impl EtcdStore {
    /// Begins a term: checks whose record this is, and makes this program's format, run and job known.
    pub(super) async fn begin(
        etcd: Etcd,
        won: &Won,
        tenure: Tenure,
        name: &str,
        spec_json: &str,
    ) -> Result<Self, StoreError> {
        let stored = etcd.check(spec_json).await?;
        let run_id = stored.unwrap_or_else(|| job::new_run_id(name));
        let meta = Meta { run_id, spec_json: spec_json.to_owned(), epoch: won.epoch };
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|source| StoreError::Failed {
            place: etcd.place.clone(),
            action: "wait for",
            source: Box::new(source),
        })?;
        let store = Self { etcd, runtime: Some(runtime), meta, revision: won.revision, tenure };
        let keys = &store.etcd.keys;
        let operations = vec![
            put(keys.format(), FORMAT.to_string()),
            put(keys.run_id(), store.meta.run_id.clone()),
            put(keys.spec(), spec_json),
        ];
        store.write(operations).await?;
        Ok(store)
    }

    /// Waits for an answer of the cluster, from a thread of the runtime or from any other.
    fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        let runtime = self.runtime.as_ref().expect("it is there until the end");
        tokio::task::block_in_place(|| runtime.block_on(answer))
    }

    /// Writes operations in order, as few transactions as there can be, each fenced.
    async fn write(&self, operations: Vec<Operation>) -> Result<(), StoreError> {
        let (mut batch, mut keys, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
        for next in operations {
            let alone = next.key.as_ref().is_none_or(|key| keys.contains(key)) || keys.contains::<[u8]>(&[]);
            if !batch.is_empty() && (alone || batch.len() == OPERATIONS || bytes + next.bytes > BYTES) {
                self.transact(std::mem::take(&mut batch)).await?;
                (keys, bytes) = (BTreeSet::new(), 0);
            }
            batch.push(next.operation);
            keys.insert(next.key.unwrap_or_default());
            bytes += next.bytes;
        }
        if batch.is_empty() { Ok(()) } else { self.transact(batch).await }
    }

    /// One transaction, which succeeds only in this term. It may be sent twice where an answer is lost: that changes nothing.
    async fn transact(&self, operations: Vec<TxnOp>) -> Result<(), StoreError> {
        let still = Compare::create_revision(self.etcd.keys.leader(), CompareOp::Equal, self.revision);
        let txn = Txn::new().when([still]).and_then(operations);
        let deposed = || StoreError::Deposed { place: self.etcd.place.clone() };
        loop {
            if !self.tenure.holds() {
                return Err(deposed());
            }
            // Asked again only while this process leads.
            let patience = Patience::Until(Instant::now());
            let write = |client: Client| {
                let txn = txn.clone();
                async move { client.kv_client().txn(txn).await }
            };
            match self.etcd.ask("write to", patience, write).await {
                Ok(answer) if answer.succeeded() => return Ok(()),
                Ok(_) => return Err(deposed()),
                Err(StoreError::Unreachable { .. }) => tokio::time::sleep(super::PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }

    fn operations(&self, record: &Record) -> Result<Vec<Operation>, StoreError> {
        let keys = &self.etcd.keys;
        Ok(match record {
            Record::Step(step) => vec![put(keys.step(step.step), codec::encode(step))],
            Record::Generation(generation, names) => {
                let text = serde_json::to_vec(&(generation.0, names));
                vec![put(keys.generation(), text.map_err(|error| self.etcd.damaged(error.to_string()))?)]
            }
            Record::Checkpoint(step) => vec![put(keys.checkpoint(*step), "")],
            Record::Samples(samples) => vec![put(keys.samples(), samples.to_string())],
            Record::Snapshot(snapshot) => self.snapshot(snapshot),
            Record::Complete => vec![put(keys.complete(), "")],
            // Every step is kept, for whoever asks what happened; only starting again needs fewer.
            Record::Trim(step) => vec![put(keys.trim(), step.0.to_string())],
        })
    }

    /// A snapshot counts from when its last part is there; those before it go then.
    fn snapshot(&self, snapshot: &Snapshot) -> Vec<Operation> {
        let (keys, committed) = (&self.etcd.keys, snapshot.committed);
        let bytes = codec::encode_snapshot(snapshot);
        let parts = bytes.chunks(BYTES / 2).enumerate();
        let mut operations: Vec<Operation> =
            parts.map(|(part, bytes)| put(keys.part(committed, part), bytes)).collect();
        let count = operations.len();
        operations.push(put(keys.snapshot(), format!("{} {count}", committed.0)));
        let before = DeleteOptions::new().with_range(keys.parts(committed));
        let operation = TxnOp::delete(keys.all_parts(), Some(before));
        operations.push(Operation { operation, key: None, bytes: 0 });
        operations
    }
}

impl RecordStore for EtcdStore {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let mut operations = Vec::with_capacity(records.len());
        for record in records {
            operations.extend(self.operations(record)?);
        }
        self.wait(self.write(operations))
    }

    fn load(&self) -> Result<Recovered, StoreError> {
        self.wait(self.etcd.recovered())
    }

    fn steps(&self, range: Range<Step>) -> Result<Vec<StepRecord>, StoreError> {
        self.wait(self.etcd.steps(range))
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        // Nothing is waited for any more, and this may be a thread that must not block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Operation {
    let (key, value) = (key.into(), value.into());
    let bytes = key.len() + value.len();
    Operation { operation: TxnOp::put(key.clone(), value, None), key: Some(key), bytes }
}

impl Etcd {
    /// Checks that what is kept here is of this program and this job; the run's name, if there is one.
    pub(super) async fn check(&self, spec_json: &str) -> Result<Option<String>, StoreError> {
        self.check_format().await?;
        if let Some(stored) = self.text(self.keys.spec(), "spec").await? {
            job::check(&stored, spec_json).map_err(|mismatch| match mismatch {
                job::Mismatch::OtherJob(differences) => {
                    let advice = "name another prefix behind --store, or delete those keys";
                    StoreError::OtherJob { place: self.place.clone(), differences, advice }
                }
                job::Mismatch::Damaged(what) => self.damaged(what),
            })?;
        }
        self.text(self.keys.run_id(), "run_id").await
    }

    async fn check_format(&self) -> Result<(), StoreError> {
        let Some(found) = self.single(self.keys.format(), "format").await? else { return Ok(()) };
        if found <= u64::from(FORMAT) {
            return Ok(());
        }
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        Err(StoreError::Newer { place: self.place.clone(), found, known: FORMAT })
    }

    /// Reads a record without leading: whose it is, and every step of it.
    ///
    /// # Errors
    /// [`StoreError`] when there is none, or it cannot be read.
    pub async fn read(&self) -> Result<(Meta, Recovered), StoreError> {
        self.check_format().await?;
        let (Some(run_id), Some(spec_json)) =
            (self.text(self.keys.run_id(), "run_id").await?, self.text(self.keys.spec(), "spec").await?)
        else {
            return Err(StoreError::Absent { place: self.place.clone() });
        };
        let epoch = LeaderEpoch(self.single(self.keys.epoch(), "epoch").await?.unwrap_or(0));
        let steps = self.steps(Step(0)..Step(u64::MAX)).await?;
        Ok((Meta { run_id, spec_json, epoch }, Recovered { steps, ..self.recovered().await? }))
    }

    /// What it takes to go on: the last snapshot, and the steps since the oldest that anybody may need.
    async fn recovered(&self) -> Result<Recovered, StoreError> {
        let snapshot = self.last_snapshot().await?;
        let trim = Step(self.single(self.keys.trim(), "trim").await?.unwrap_or(0));
        let first = snapshot.as_ref().map_or(Step(0), |snapshot| snapshot.committed.min(trim));
        let (generation, members) = match self.get("read", self.keys.generation()).await?.kvs().first() {
            Some(text) => serde_json::from_slice::<(u64, Vec<String>)>(text.value())
                .map(|(generation, names)| (Generation(generation), names))
                .map_err(|error| self.damaged(format!("generation: {error}")))?,
            None => Default::default(),
        };
        let checkpoints = self.page_through(self.keys.checkpoints(), None, 1000).await?;
        let checkpoint = |key: &KeyValue| Keys::number(key.key()).map(Step);
        let checkpoints = checkpoints.iter().map(checkpoint).collect::<Option<_>>();
        Ok(Recovered {
            snapshot,
            steps: self.steps(first..Step(u64::MAX)).await?,
            generation,
            members,
            samples: self.single(self.keys.samples(), "samples").await?,
            complete: self.text(self.keys.complete(), "complete").await?.is_some(),
            checkpoints: checkpoints.ok_or_else(|| self.damaged("a checkpoint has no number"))?,
        })
    }

    async fn last_snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let Some(text) = self.text(self.keys.snapshot(), "snapshot").await? else { return Ok(None) };
        let place = text.split_once(' ').and_then(|(step, parts)| Some((step.parse().ok()?, parts.parse().ok()?)));
        let (committed, count): (u64, usize) = place.ok_or_else(|| self.damaged("snapshot names no step"))?;
        let parts = self.page_through(self.keys.parts(Step(committed)), None, 2).await?;
        if parts.len() != count {
            return Err(self.damaged(format!("snapshot {committed} has {} of {count} parts", parts.len())));
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.value()).copied().collect();
        codec::decode_snapshot(&bytes).map(Some).map_err(|what| self.damaged(what))
    }

    async fn steps(&self, range: Range<Step>) -> Result<Vec<StepRecord>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let end = if range.end == Step(u64::MAX) { self.keys.beyond_steps() } else { self.keys.step(range.end) };
        let first = self.page_through(self.keys.step(range.start), Some(end.clone()), 1).await;
        let step = |entry: &KeyValue| {
            let step = Keys::number(entry.key()).ok_or_else(|| self.damaged("a step has no number"))?;
            codec::decode(Step(step), entry.value()).map_err(|what| self.damaged(what))
        };
        first?.iter().map(step).collect()
    }

    /// Every entry of a range (or that begins with `from`), in pages of at most so many at first: the sizes of those that
    /// came decide how many come next.
    async fn page_through(&self, from: String, end: Option<String>, most: i64) -> Result<Vec<KeyValue>, StoreError> {
        let mut found: Vec<KeyValue> = Vec::new();
        let mut limit = most;
        let mut next = from.clone().into_bytes();
        let end = end.map_or_else(|| beyond(from.as_bytes()), String::into_bytes);
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(limit);
            let patience = Patience::Until(Instant::now() + FIRST_CONTACT);
            let page = |client: Client| {
                let (from, options) = (next.clone(), options.clone());
                async move { client.kv_client().get(from, Some(options)).await }
            };
            let mut page = self.ask("read", patience, page).await?;
            let more = page.more();
            let page = page.take_kvs();
            let bytes: usize = page.iter().map(|entry| entry.key().len() + entry.value().len()).sum();
            let each = bytes / page.len().max(1) + STEP_BYTES + SLOT_BYTES;
            limit = i64::try_from(BYTES / each).unwrap_or(1).clamp(1, 4096);
            if let Some(last) = page.last() {
                next = [last.key(), b"\0"].concat();
            }
            found.extend(page);
            if !more {
                return Ok(found);
            }
        }
    }

    async fn text(&self, key: String, what: &str) -> Result<Option<String>, StoreError> {
        let answer = self.get("read", key).await?;
        let text = answer.kvs().first().map(|entry| String::from_utf8(entry.value().to_vec()));
        text.transpose().map_err(|_| self.damaged(format!("{what} is no text")))
    }

    async fn single(&self, key: String, what: &str) -> Result<Option<u64>, StoreError> {
        let answer = self.get("read", key).await?;
        answer.kvs().first().map(|entry| self.number(entry.value(), what)).transpose()
    }
}

/// The first key that does not begin with this.
fn beyond(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
