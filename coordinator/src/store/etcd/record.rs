//! The record itself (HANDS): what each entry is on etcd.

use std::ops::Range;

use esta_engine::run::{Record, Recovered, Snapshot, StepRecord};
use esta_proto::Step;
use etcd_client::{DeleteOptions, TxnOp};
use tokio::runtime::{Builder, Runtime};

use super::{
    Etcd, FORMAT,
    campaign::Won,
    pen::{Operation, Pen},
    room::BYTES,
};
use crate::store::{Meta, RecordStore, StoreError, Tenure, codec, job};

/// A run's record on etcd, under this term of office. Its methods may be called wherever blocking is in order, and within
/// a runtime of several threads.
pub struct EtcdStore {
    etcd: Etcd,
    /// Drives what is waited for: the program's own runtime may be ending while the last records are written.
    runtime: Option<Runtime>,
    meta: Meta,
    pen: Pen,
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
        let mut pen = Pen::of(etcd.clone(), won.revision, tenure).await?;
        let keys = &etcd.keys;
        let operations = vec![
            Operation::put(keys.format(), FORMAT.to_string()),
            Operation::put(keys.run_id(), meta.run_id.clone()),
            Operation::put(keys.spec(), spec_json),
        ];
        pen.write(operations).await?;
        Ok(Self { etcd, runtime: Some(runtime), meta, pen })
    }

    fn operations(&self, record: &Record) -> Result<Vec<Operation>, StoreError> {
        let keys = &self.etcd.keys;
        Ok(match record {
            Record::Step(step) => vec![Operation::put(keys.step(step.step), codec::encode(step))],
            Record::Generation(generation, names) => {
                vec![Operation::put(keys.generation(), self.etcd.generation(*generation, names)?)]
            }
            Record::Checkpoint(step) => vec![Operation::put(keys.checkpoint(*step), "")],
            Record::Samples(samples) => vec![Operation::put(keys.samples(), samples.to_string())],
            Record::Snapshot(snapshot) => self.snapshot(snapshot),
            Record::Complete => vec![Operation::put(keys.complete(), "")],
            // Every step is kept, for whoever asks what happened; only starting again needs fewer.
            Record::Trim(step) => vec![Operation::put(keys.trim(), step.0.to_string())],
        })
    }

    /// A snapshot counts from when its last part is there; those before it go then.
    fn snapshot(&self, snapshot: &Snapshot) -> Vec<Operation> {
        let (keys, committed) = (&self.etcd.keys, snapshot.committed);
        let bytes = codec::encode_snapshot(snapshot);
        let parts = bytes.chunks(BYTES / 2).enumerate();
        let mut operations: Vec<Operation> =
            parts.map(|(part, bytes)| Operation::put(keys.part(committed, part), bytes)).collect();
        let count = operations.len();
        operations.push(Operation::put(keys.snapshot(), format!("{} {count}", committed.0)));
        let before = DeleteOptions::new().with_range(keys.parts(committed));
        operations.push(Operation::over_range(TxnOp::delete(keys.all_parts(), Some(before))));
        operations
    }
}

impl RecordStore for EtcdStore {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let mut operations = Vec::with_capacity(records.len());
        for record in records {
            operations.extend(self.operations(record)?);
        }
        wait(self.runtime.as_ref(), self.pen.write(operations))
    }

    fn load(&self) -> Result<Recovered, StoreError> {
        wait(self.runtime.as_ref(), self.etcd.newest().recovered())
    }

    fn steps(&self, range: Range<Step>) -> Result<Vec<StepRecord>, StoreError> {
        wait(self.runtime.as_ref(), self.etcd.newest().steps(range))
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

/// Waits for an answer of the cluster, from a thread of the runtime or from any other.
fn wait<T>(runtime: Option<&Runtime>, answer: impl Future<Output = T>) -> T {
    let runtime = runtime.expect("it is there until the end");
    tokio::task::block_in_place(|| runtime.block_on(answer))
}
