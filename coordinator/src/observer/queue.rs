//! The queue to one observer (HANDS). The leader never waits for room in it, and whoever hangs, as on a file system that does
//! not answer, costs so much memory and no more.
//!
//! Of tables only the newest is kept, and that is all an observer needs of them. Steps wait in order; what finds no room is
//! dropped until the observer has caught up, and it hears that something is missing: the record has it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use esta_engine::{
    run::{Notice, StepRecord},
    table::Table,
};
use esta_proto::Step;

use super::Observation;

/// What may wait, in draws: each takes some 64 bytes with what became of it.
const ROOM: usize = 1 << 21;

/// Both ends of a new queue.
#[must_use]
pub fn channel() -> (Sender, Receiver) {
    with_room(ROOM)
}

fn with_room(room: usize) -> (Sender, Receiver) {
    let (queue, waiting) = mpsc::channel();
    let shared = Arc::new(Shared::default());
    (Sender { queue, shared: shared.clone(), room, behind: false }, Receiver { waiting, shared })
}

/// The leader's end.
#[derive(Debug)]
pub struct Sender {
    queue: mpsc::Sender<Queued>,
    shared: Arc<Shared>,
    room: usize,
    /// Something was dropped, and the observer has not caught up yet.
    behind: bool,
}

/// The observer's end. As an iterator it ends when the leader is gone.
#[derive(Debug)]
pub struct Receiver {
    waiting: mpsc::Receiver<Queued>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The weight of everything that waits.
    waiting: AtomicUsize,
    table: Mutex<Option<Arc<Table>>>,
}

/// Something that waits, and its weight.
type Queued = (Waiting, usize);

#[derive(Debug)]
enum Waiting {
    /// A table is added when it is taken.
    Committed {
        steps: Arc<[StepRecord]>,
        total: Step,
        elapsed: Duration,
    },
    Other(Observation),
}

impl Sender {
    /// Tells an observation without waiting; whether somebody still listens.
    pub(super) fn send(&mut self, observation: &Observation) -> bool {
        let weight = weight(observation);
        let waiting = self.shared.waiting.load(Ordering::Relaxed);
        self.behind &= waiting > 0;
        if must_be_heard(observation) || waiting == 0 || (!self.behind && waiting + weight <= self.room) {
            return self.enqueue(observation.clone(), weight);
        }
        if !std::mem::replace(&mut self.behind, true) {
            tracing::warn!(waiting, "whoever watches the run is too far behind: some of it is not told");
            // It weighs something: who is behind has not caught up before it has heard of this.
            return self.enqueue(Observation::Missed, 1);
        }
        true
    }

    fn enqueue(&self, observation: Observation, weight: usize) -> bool {
        let waiting = match observation {
            Observation::Committed { steps, table, total, elapsed } => {
                *self.shared.table() = Some(table);
                Waiting::Committed { steps, total, elapsed }
            }
            other => Waiting::Other(other),
        };
        self.shared.waiting.fetch_add(weight, Ordering::Relaxed);
        self.queue.send((waiting, weight)).is_ok()
    }
}

impl Receiver {
    /// Waits for the next observation, this long at most.
    ///
    /// # Errors
    /// When there was none, or the leader is gone.
    pub fn recv_timeout(&self, patience: Duration) -> Result<Observation, mpsc::RecvTimeoutError> {
        self.waiting.recv_timeout(patience).map(|queued| self.taken(queued))
    }

    fn taken(&self, (waiting, weight): Queued) -> Observation {
        self.shared.waiting.fetch_sub(weight, Ordering::Relaxed);
        match waiting {
            Waiting::Committed { steps, total, elapsed } => {
                let table = self.shared.table().clone().expect("a table is kept before its steps are queued");
                Observation::Committed { steps, table, total, elapsed }
            }
            Waiting::Other(observation) => observation,
        }
    }
}

impl Iterator for Receiver {
    type Item = Observation;

    fn next(&mut self) -> Option<Observation> {
        self.waiting.recv().ok().map(|queued| self.taken(queued))
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Option<Arc<Table>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// About what an observation takes, in draws.
fn weight(observation: &Observation) -> usize {
    match observation {
        Observation::Committed { steps, .. } => steps.iter().map(|step| 1 + step.draws.len()).sum(),
        Observation::Notice(Notice::Formed(_, names) | Notice::Preparing(_, names), _) => 1 + names.len(),
        _ => 1,
    }
}

/// What there is one of, and nobody may miss: what a run was begun with, and what it came to.
fn must_be_heard(observation: &Observation) -> bool {
    matches!(
        observation,
        Observation::Finished { .. } | Observation::Samples(_) | Observation::Notice(Notice::Failed(_), _)
    )
}

#[cfg(test)]
mod tests {
    use esta_proto::Digest;

    use super::*;

    fn table() -> Arc<Table> {
        Arc::new(Table::new(3, 0.9))
    }

    fn committed(step: u64, table: &Arc<Table>) -> Observation {
        let (draws, outcomes) = (Vec::new(), Vec::new());
        let record = StepRecord { step: Step(step), table_version: Step(0), draws, outcomes, reduced: Digest([0; 32]) };
        Observation::Committed {
            steps: [record].into(),
            table: table.clone(),
            total: Step(99),
            elapsed: Duration::ZERO,
        }
    }

    /// A short word for each of them.
    fn told(seen: Receiver) -> String {
        let word = |observation| match observation {
            Observation::Committed { steps, .. } => steps[0].step.to_string(),
            Observation::Missed => "missed".to_owned(),
            Observation::Notice(Notice::Failed(_), _) => "failed".to_owned(),
            other => panic!("{other:?} was not told"),
        };
        seen.map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn whoever_is_behind_keeps_one_table_alive_and_is_told_the_newest() {
        let (mut sender, mut seen) = channel();
        let tables: Vec<_> = (0..100).map(|_| table()).collect();
        for (step, table) in tables.iter().enumerate() {
            assert!(sender.send(&committed(step as u64, table)));
        }
        let alive: Vec<usize> = (0..100).filter(|at| Arc::strong_count(&tables[*at]) > 1).collect();
        assert_eq!(alive, [99], "tables that nobody will look at");
        let Some(Observation::Committed { steps, table, .. }) = seen.next() else { panic!("steps come first") };
        assert!(steps[0].step == Step(0) && Arc::ptr_eq(&table, &tables[99]));
    }

    #[test]
    fn whoever_hangs_misses_steps_and_is_told_so_once_and_never_misses_the_end() {
        let (mut sender, seen) = with_room(3);
        (0..50).for_each(|step| assert!(sender.send(&committed(step, &table()))));
        sender.send(&Observation::Notice(Notice::Skipped(Step(7)), None));
        sender.send(&Observation::Notice(Notice::Failed("full".to_owned()), None));
        drop(sender);
        assert_eq!(told(seen), "0 1 2 missed failed");
    }

    #[test]
    fn whoever_has_caught_up_is_told_everything_again() {
        let (mut sender, mut seen) = with_room(3);
        (0..9).for_each(|step| assert!(sender.send(&committed(step, &table()))));
        assert_eq!(seen.by_ref().take(3).count(), 3);
        sender.send(&committed(9, &table()));
        assert!(matches!(seen.next(), Some(Observation::Missed)), "and step 9 among what is missing");
        (10..12).for_each(|step| assert!(sender.send(&committed(step, &table()))));
        drop(sender);
        assert_eq!(told(seen), "10 11");
    }

    #[test]
    fn who_hung_up_is_told_nothing_more() {
        let (mut sender, seen) = channel();
        drop(seen);
        assert!(!sender.send(&Observation::Again(Step(1))));
    }
}
