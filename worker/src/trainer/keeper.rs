//! Checkpoints on their way to object storage (HANDS): on a thread of their own, so that no step waits for a network.

use std::sync::mpsc::{Receiver, Sender, channel};

use esta_proto::Step;
use esta_worker_engine::TrainerEvent;
use tokio::sync::mpsc::UnboundedSender;

use super::{CheckpointFolder, in_one_line};

/// The way to that thread, which ends with what it was told last.
pub struct Keeper(Option<Sender<Order>>);

enum Order {
    Keep(Step),
    /// Answered once everything before is done.
    Settle(Sender<()>),
}

impl Keeper {
    /// Starts the thread. Without one there are no checkpoints, and that is said of each.
    pub fn start(folder: &CheckpointFolder, events: UnboundedSender<TrainerEvent>) -> Self {
        let (orders, told) = channel();
        let folder = folder.clone();
        let thread = std::thread::Builder::new().name("keeper".to_owned());
        Self(thread.spawn(move || keep(&folder, &told, &events)).ok().map(|_| orders))
    }

    /// Sends a checkpoint that has its name; the law hears of it once it is whole there.
    pub fn keep(&self, step: Step) {
        let told = self.0.as_ref().is_some_and(|orders| orders.send(Order::Keep(step)).is_ok());
        if !told {
            tracing::error!(step = step.0, "no checkpoint: the thread that sends them is gone");
        }
    }

    /// Waits until what it was told is done.
    pub fn settle(&self) {
        let (done, settled) = channel();
        if self.0.as_ref().is_some_and(|orders| orders.send(Order::Settle(done)).is_ok()) {
            // An answer or the thread's end: nothing is on its way then.
            settled.recv().unwrap_or_default();
        }
    }
}

fn keep(folder: &CheckpointFolder, told: &Receiver<Order>, events: &UnboundedSender<TrainerEvent>) {
    for order in told {
        match order {
            Order::Settle(done) => drop(done.send(())),
            Order::Keep(step) => match folder.keep(step) {
                // A session that is gone needs no word.
                Ok(()) => drop(events.send(TrainerEvent::Published(step))),
                // A storage that does not answer costs a checkpoint, not the run: the next one is tried.
                Err(error) => tracing::error!(step = step.0, error = %in_one_line(&error), "no checkpoint"),
            },
        }
    }
}
