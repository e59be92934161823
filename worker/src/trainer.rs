//! The trainer (HANDS): one OS thread that owns every tensor and carries out the worker's law, in order.
//!
//! It never blocks for good: collectives are polled, and given up as soon as their generation is abandoned.

mod builder;
mod checkpoint;
mod convoy;
mod device;
mod doing;
mod family;
mod finale;
mod group;
mod input;
mod job;
mod keeper;
mod room;
mod shard;
mod state;
mod step;
mod teacher;
mod thread;
mod vocabulary;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use esta_data::BatchTicket;
use esta_engine::{
    run::{Progress, Seat},
    spec::{JobSpec, seconds},
};
use esta_proto::{Digest, Fence, Generation, Step};
use esta_worker_engine::{Reader, TrainerCommand, TrainerEvent};
use tokio::sync::{mpsc::UnboundedReceiver, mpsc::UnboundedSender, mpsc::unbounded_channel, oneshot};

use builder::Builder;
pub use checkpoint::{CheckpointError, CheckpointFolder};
pub use device::{DeviceError, open_device};
pub use doing::Doing;
pub use esta_client::DeviceKind;
pub use family::{Family, read_anchor};
pub use input::tensors;
pub use job::{Job, SetupError};
pub use room::{Room, RoomError};
pub use shard::Shard;
pub use state::{State, StateError};
pub use step::{StepError, Stepper};
pub use vocabulary::{VocabularyError, folder_of as tokenizer_folder};

use crate::{session::StoreCall, telemetry::Part};

/// How long a trainer may take to end what it is at when nothing it does is wanted any more.
const STOPS_WITHIN: Duration = Duration::from_secs(2);
const LOOKS_EVERY: Duration = Duration::from_millis(5);

/// Where and how a worker trains.
#[derive(Debug, Clone)]
pub struct TrainerOptions {
    /// Where tensors live.
    pub device: DeviceKind,
    /// Address other workers reach this one at, for Gloo.
    pub host: Option<String>,
    /// Which node this is: ranks of one name share its blocks, where a job spreads them.
    pub node: String,
}

/// What loading the job found out.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What a coordinator of the job can say.
    pub reader: Reader,
    /// This worker's view of the parameter layout.
    pub layout_digest: Digest,
    /// Samples of the training set.
    pub samples: u64,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Complete checkpoints on disk, by applied steps.
    pub checkpoints: Vec<Step>,
    /// Bytes that the job is planned to take, where that is planned.
    pub planned: Option<u64>,
}

/// A command on its way to the thread, with the batches of its slots being prepared meanwhile.
struct Work {
    command: TrainerCommand,
    batches: Vec<BatchTicket>,
    /// Where a step's trace is kept: the rank's place in it.
    part: Option<Part>,
}

/// The trainer thread, seen from the session.
pub struct Trainer {
    commands: mpsc::Sender<Work>,
    events: UnboundedReceiver<TrainerEvent>,
    abandoned: Abandoned,
    builder: Builder,
    doing: Doing,
    loader: Arc<esta_data::Prefetcher>,
    micro_batch: u64,
    thread: JoinHandle<()>,
}

/// Generations below this are over: whatever is done for them is in vain.
#[derive(Debug, Clone, Default)]
struct Abandoned(Arc<AtomicU64>);

impl Abandoned {
    fn raise(&self, generation: Generation) {
        self.0.fetch_max(generation.0.saturating_add(1), Ordering::Release);
    }

    fn covers(&self, generation: Generation) -> bool {
        generation.0 < self.0.load(Ordering::Acquire)
    }
}

impl Trainer {
    /// Starts the thread and loads the job on it.
    ///
    /// # Errors
    /// [`SetupError`] when the job's files do not load.
    pub async fn start(
        spec: JobSpec,
        options: TrainerOptions,
        calls: UnboundedSender<StoreCall>,
    ) -> Result<(Self, Setup), SetupError> {
        let (commands, work) = mpsc::channel();
        let (said, events) = unbounded_channel();
        let (loaded, setup) = oneshot::channel();
        let (abandoned, doing) = (Abandoned::default(), Doing::default());
        let micro_batch = u64::from(spec.train.batch_size / spec.sampling.slots.max(1));
        let (timeout, sharded) = (seconds(spec.timeouts.collective), spec.is_sharded());
        let builder = Builder::new(options.clone(), (timeout, sharded), calls, &said);
        let context = thread::Context {
            options,
            abandoned: abandoned.clone(),
            builder: builder.clone(),
            doing: doing.clone(),
            events: said,
        };
        let thread = std::thread::Builder::new()
            .name("trainer".to_owned())
            .spawn(move || thread::main(spec, context, loaded, work))
            .map_err(SetupError::Thread)?;
        let (setup, loader) = setup.await.unwrap_or_else(|_| {
            let gone = std::io::Error::other("it ended while loading the job");
            Err(SetupError::Thread(gone))
        })?;
        Ok((Self { commands, events, abandoned, builder, doing, loader, micro_batch, thread }, setup))
    }

    /// Queues a command, with this rank's place in the trace of its step. The batches of a step begin to be prepared at once.
    pub fn queue(&self, command: TrainerCommand, part: Option<Part>) {
        let batches = match &command {
            TrainerCommand::Run(_, plan) => {
                let first = |slot: u64| plan.first_sample + slot * self.micro_batch;
                let range = |slot: u64| first(slot)..first(slot + 1);
                plan.slots.iter().map(|(slot, _)| self.loader.request(range(u64::from(slot.0)))).collect()
            }
            _ => Vec::new(),
        };
        // A thread that is gone has said so: its events have ended.
        drop(self.commands.send(Work { command, batches, part }));
    }

    /// Begins to build a process group to come, beside what the thread is at.
    pub fn prepare(&self, fence: Fence, seat: Seat) {
        self.builder.prepare(fence, seat);
    }

    /// What the thread is at.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.doing.progress()
    }

    /// Whatever the thread does for this generation is in vain.
    pub fn abandon(&self, generation: Generation) {
        self.abandoned.raise(generation);
    }

    /// What the thread says next; `None` when it is gone.
    pub async fn next_event(&mut self) -> Option<TrainerEvent> {
        self.events.recv().await
    }

    /// Ends the thread: nothing it does is wanted any more. One that hangs is left behind after a while, or the process
    /// would outlive its part in the run.
    pub async fn stop(self) {
        self.abandoned.raise(Generation(u64::MAX - 1));
        self.builder.clear();
        drop(self.commands);
        let deadline = tokio::time::Instant::now() + STOPS_WITHIN;
        while !self.thread.is_finished() {
            if tokio::time::Instant::now() >= deadline {
                let progress = self.doing.progress();
                return tracing::warn!(activity = ?progress.activity, since = ?progress.since, "the trainer is left behind");
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
        if self.thread.join().is_err() {
            tracing::error!("the trainer thread panicked");
        }
    }
}

/// An error with its causes, in one line.
fn in_one_line(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}
