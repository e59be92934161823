//! One coordinator at work (HANDS): record, leader and server put together, and taken apart in the right order.

use std::{net::SocketAddr, ops::Range, path::Path, sync::Arc, time::Duration};

use esta_engine::{
    law::Law,
    run::{Patience, Recovered, ReplayError, Run, StepRecord},
    spec::{JobSpec, TimeoutSpec},
};
use esta_proto::{Digest, Step};
use thiserror::Error;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    leader::{Ending, Input, Leader},
    observer::Observers,
    rpc::{BindError, Listener, Service, Welcome},
    store::{Meta, RecordStore, RedbStore, StoreError, Writer},
};

/// Inputs that may wait for the leader; beyond that sessions wait, not the leader.
const INBOX: usize = 1024;

/// How long workers have to read their last messages.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a coordinator cannot begin.
#[derive(Debug, Error)]
pub enum StartError {
    /// The record cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record is not one that this job would have made.
    #[error("the record cannot be continued")]
    Replay(#[from] ReplayError),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives no thread for the record.
    #[error("cannot start a thread for the record")]
    Thread(#[source] std::io::Error),
}

/// An opened record: this process leads the run.
pub struct Opened {
    law: Arc<Law>,
    store: RedbStore,
    recovered: Recovered,
    spec_json: String,
}

impl Opened {
    /// Opens the record in a run's folder and begins a term of office.
    ///
    /// # Errors
    /// [`StoreError`] when it is in use, of another job, or unreadable.
    pub fn open(law: Arc<Law>, run_dir: &Path) -> Result<Self, StoreError> {
        let spec_json = serde_json::to_string(&law.spec).expect("a specification has no key that JSON lacks");
        let store = RedbStore::open(run_dir, &law.spec.name, &spec_json)?;
        let recovered = store.load()?;
        Ok(Self { law, store, recovered, spec_json })
    }

    /// The first step that is not on record.
    #[must_use]
    pub fn resume_from(&self) -> Step {
        self.recovered.durable()
    }

    /// What the record holds.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// The committed steps of a range: also those that going on does not take.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be read.
    pub fn steps(&self, range: Range<Step>) -> Result<Vec<StepRecord>, StoreError> {
        self.store.steps(range)
    }

    /// Whose record it is.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        self.store.meta()
    }
}

/// A coordinator that serves its run.
pub struct Coordinator {
    address: SocketAddr,
    stop: CancellationToken,
    /// Cancelled after the leader is gone: the server takes no more calls.
    close: CancellationToken,
    leader: JoinHandle<Ending>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Coordinator {
    /// Binds the address and begins to lead.
    ///
    /// # Errors
    /// [`StartError`] when the address is taken or the record does not fit the job.
    pub async fn start(
        opened: Opened,
        listen: SocketAddr,
        patience: Patience,
        observers: Observers,
    ) -> Result<Self, StartError> {
        let listener = Listener::bind(listen).await?;
        let Opened { law, store, recovered, spec_json } = opened;
        let meta = store.meta().clone();
        let (slots, spec_digest) = (law.spec.sampling.slots, identity(&law.spec));
        let run = Run::new(law, meta.epoch, patience, recovered)?;
        let (inbox, inputs) = mpsc::channel(INBOX);
        let answers = inbox.clone();
        let writer = Writer::start(Box::new(store), move |written| {
            // Nobody listens any more when the leader has gone.
            answers.blocking_send(Input::Written(written)).ok();
        });
        let writer = writer.map_err(StartError::Thread)?;
        let welcome = Welcome { run_id: meta.run_id.clone(), epoch: meta.epoch, spec_json, spec_digest, slots };
        let (stop, close) = (CancellationToken::new(), CancellationToken::new());
        let leader = Leader::new(run, meta.run_id, writer, observers);
        Ok(Self {
            address: listener.address(),
            leader: tokio::spawn(leader.lead(inputs, stop.clone())),
            server: tokio::spawn(listener.serve(Service::new(welcome, inbox), close.clone())),
            stop,
            close,
        })
    }

    /// The address that workers connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Interrupts the run; it can be resumed.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the run ends, everything is durable and the workers have read their last messages.
    pub async fn ended(&mut self) -> Ending {
        let ending =
            (&mut self.leader).await.unwrap_or_else(|gone| Ending::Failed(format!("the leader broke: {gone}")));
        self.close.cancel();
        if timeout(FAREWELL, &mut self.server).await.is_err() {
            self.server.abort();
        }
        ending
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.stop.cancel();
        self.close.cancel();
    }
}

/// Digest of what a worker has to hold on to: everything but the patience of its coordinators.
fn identity(spec: &JobSpec) -> Digest {
    let spec = JobSpec { timeouts: TimeoutSpec::default(), ..spec.clone() };
    let text = serde_json::to_string(&spec).expect("a specification is JSON");
    Digest(*blake3::hash(text.as_bytes()).as_bytes())
}
