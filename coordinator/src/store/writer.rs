//! The thread that writes (HANDS): whatever waits becomes one durable transaction, so a slow disk groups more steps
//! and never holds up the leader.

use std::{
    sync::mpsc::{self, Receiver, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use esta_engine::run::{Record, StepRecord};
use esta_proto::Generation;

use super::{RecordStore, StoreError};

/// What one transaction made durable, or why there will be no more.
pub type Written = Result<Durable, StoreError>;

/// What became durable that somebody waits for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Durable {
    /// Steps, in order.
    pub steps: Vec<StepRecord>,
    /// The last generation among the records.
    pub generation: Option<Generation>,
    /// The end of the run is among them.
    pub complete: bool,
    /// What the write took.
    pub took: Duration,
}

/// Takes records in order and makes them durable on a thread of its own.
#[derive(Debug)]
pub struct Writer {
    queue: Option<Sender<Record>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread; `answer` hears of every transaction that held a step, a generation or the end of the run, and of the failure that ends it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        store: Box<dyn RecordStore>,
        answer: impl Fn(Written) + Send + 'static,
    ) -> Result<Self, std::io::Error> {
        let (queue, records) = mpsc::channel();
        let thread = thread::Builder::new().name("record".into()).spawn(move || write(store, &records, answer))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues a record. After a failure records are dropped: the failure was answered.
    pub fn persist(&self, record: Record) {
        if let Some(queue) = &self.queue {
            queue.send(record).ok();
        }
    }
}

/// Everything queued is durable, and the file closed, when a writer is gone.
impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn write(mut store: Box<dyn RecordStore>, records: &Receiver<Record>, answer: impl Fn(Written)) {
    while let Ok(first) = records.recv() {
        let begin = Instant::now();
        let group: Vec<Record> = std::iter::once(first).chain(records.try_iter()).collect();
        if let Err(error) = store.append(&group) {
            return answer(Err(error));
        }
        let mut durable = Durable { took: begin.elapsed(), ..Durable::default() };
        for record in group {
            match record {
                Record::Step(step) => durable.steps.push(step),
                Record::Generation(generation, _) => durable.generation = Some(generation),
                Record::Complete => durable.complete = true,
                Record::Checkpoint(_) | Record::Samples(_) | Record::Snapshot(_) | Record::Trim(_) => {}
            }
        }
        if !durable.steps.is_empty() || durable.generation.is_some() || durable.complete {
            answer(Ok(durable));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, sync::mpsc::channel};

    use esta_engine::run::Recovered;
    use esta_proto::{Digest, LeaderEpoch, Step};

    use super::{
        super::{Meta, RECORD_FILE},
        *,
    };

    /// Counts transactions; fails from the given one on, as a full disk does.
    struct Disk {
        appended: Sender<usize>,
        room: usize,
        gate: Receiver<()>,
        meta: Meta,
    }

    impl RecordStore for Disk {
        fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
            self.gate.recv().ok();
            if self.room == 0 {
                return Err(StoreError::Full { place: RECORD_FILE.into() });
            }
            self.room -= 1;
            self.appended.send(records.len()).ok();
            Ok(())
        }

        fn load(&self) -> Result<Recovered, StoreError> {
            Ok(Recovered::default())
        }

        fn steps(&self, _: Range<Step>) -> Result<Vec<StepRecord>, StoreError> {
            Ok(Vec::new())
        }

        fn meta(&self) -> &Meta {
            &self.meta
        }
    }

    fn disk(room: usize) -> (Box<Disk>, Sender<()>, Receiver<usize>) {
        let ((appended, sizes), (open, gate)) = (channel(), channel());
        let meta = Meta { run_id: "r".into(), spec_json: "{}".into(), epoch: LeaderEpoch(1) };
        (Box::new(Disk { appended, room, gate, meta }), open, sizes)
    }

    fn step(step: u64) -> Record {
        let (draws, outcomes) = (Vec::new(), Vec::new());
        Record::Step(StepRecord { step: Step(step), table_version: Step(0), draws, outcomes, reduced: Digest([0; 32]) })
    }

    #[test]
    fn what_waits_while_the_disk_is_busy_becomes_one_transaction() {
        let (disk, open, sizes) = disk(9);
        let (answers, written) = channel();
        let writer = Writer::start(disk, move |group| answers.send(group).expect("heard")).expect("a thread");
        (0..5).map(step).for_each(|record| writer.persist(record));
        drop(open);
        drop(writer);
        let steps: Vec<u64> =
            written.iter().flat_map(|group| group.expect("room").steps).map(|step| step.step.0).collect();
        assert_eq!(steps, [0, 1, 2, 3, 4]);
        assert!(sizes.iter().count() <= 2, "the first alone at worst, then all that waited");
    }

    #[test]
    fn a_full_disk_is_answered_once_and_nothing_after_it_is_called_durable() {
        let (disk, open, _sizes) = disk(0);
        drop(open);
        let (answers, written) = channel();
        let writer = Writer::start(disk, move |group| answers.send(group).expect("heard")).expect("a thread");
        writer.persist(step(0));
        let first = written.recv().expect("an answer");
        assert!(matches!(first, Err(StoreError::Full { .. })));
        writer.persist(step(1));
        drop(writer);
        assert!(written.recv().is_err());
    }
}
