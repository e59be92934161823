//! One coordinator at work (HANDS): record, leader and server put together, and taken apart in the right order.

use std::{net::SocketAddr, ops::Range, path::Path, sync::Arc, time::Duration};

use esta_engine::{
    law::Law,
    run::{Patience, Recovered, ReplayError, Run, StepRecord},
    spec::{JobSpec, TimeoutSpec},
    table::Table,
};
use esta_objects::RunPlace;
use esta_proto::{Digest, Step};
use futures::future::BoxFuture;
use thiserror::Error;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    http::Board,
    leader::{Ending, Input, Leader},
    observer::Observers,
    rpc::{BindError, Broken, Entrance, Listener, Retired, Service, Welcome},
    store::{Meta, RecordTimes, RedbStore, StoreError, Tenure, Term, Whereabouts, Writer, job},
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
    term: Term,
    recovered: Recovered,
}

impl Opened {
    /// Opens the record in a run's folder and begins a term of office.
    ///
    /// # Errors
    /// [`StoreError`] when it is in use, of another job, or unreadable.
    pub fn open(law: Arc<Law>, run_dir: &Path) -> Result<Self, StoreError> {
        let store = RedbStore::open(run_dir, &law.spec.name, &job::text_of(&law.spec))?;
        Self::under(law, Term::unlimited(store))
    }

    /// Reads what a term has found on record.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub fn under(law: Arc<Law>, term: Term) -> Result<Self, StoreError> {
        let recovered = term.store.load()?;
        Ok(Self { law, term, recovered })
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
        self.term.store.steps(range)
    }

    /// Whose record it is.
    #[must_use]
    pub fn meta(&self) -> &Meta {
        self.term.store.meta()
    }

    /// Lets go of the record without having led.
    pub async fn resign(self) {
        drop(self.term.store);
        self.term.resign.await;
    }
}

/// An address, and what is served there, term after term.
pub struct Front {
    entrance: Entrance,
    service: Service,
    board: Board,
    /// Cancelled after the last leader is gone: the server takes no more calls.
    close: CancellationToken,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Front {
    /// Binds the address and stands by with a job.
    ///
    /// # Errors
    /// [`BindError`] when the address is taken.
    pub async fn open(entrance: Entrance, law: Arc<Law>) -> Result<Self, BindError> {
        let listener = Listener::bind(entrance).await?;
        let (service, close) = (Service::default(), CancellationToken::new());
        let entrance = listener.entrance().clone();
        let serving = (service.clone(), close.clone());
        let board = Board::new(law.clone());
        let server = tokio::spawn(async move { listener.serve(serving.0, &law.spec, serving.1).await });
        Ok(Self { entrance, service, board, close, server })
    }

    /// What is served to workers and operators.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// What is known of the run for whoever looks.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The address that workers connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.entrance.listen
    }

    /// Such as `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.entrance.speaks_tls() { "https" } else { "http" }
    }

    /// Sends callers to whoever leads, where that is known.
    pub fn stand_by(&self, leader: Option<Whereabouts>) {
        self.service.stand_by(leader.as_ref().map(|leader| leader.address.clone()));
        self.board.stand_by(leader);
    }

    /// From here on answers for a complete run.
    pub fn retire(&self, retired: Retired) {
        self.board.retire(&retired);
        self.service.retire(retired);
    }

    /// Ends the server once the workers have read their last messages.
    pub async fn close(&mut self) {
        self.close.cancel();
        if timeout(FAREWELL, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

/// A leader at work behind a front.
pub struct Office {
    stop: CancellationToken,
    leader: JoinHandle<(Ending, Option<Arc<Table>>)>,
    service: Service,
    law: Arc<Law>,
    run_id: String,
    tenure: Tenure,
    resign: Option<BoxFuture<'static, ()>>,
}

impl Office {
    /// Begins to lead.
    ///
    /// # Errors
    /// [`StartError`] when the record does not fit the job.
    pub fn begin(front: &Front, opened: Opened, patience: Patience, observers: Observers) -> Result<Self, StartError> {
        let Opened { law, term: Term { store, tenure, resign }, recovered } = opened;
        let Meta { run_id, spec_json, epoch } = store.meta().clone();
        let (slots, spec_digest) = (law.spec.sampling.slots, identity(&law.spec));
        let run = Run::new(law.clone(), epoch, patience, recovered)?;
        let (inbox, inputs) = mpsc::channel(INBOX);
        let answers = inbox.clone();
        let record = Arc::new(RecordTimes::default());
        let times = record.clone();
        let writer = Writer::start(store, move |written| {
            if let Ok(durable) = &written {
                times.note(durable.steps.len(), durable.took);
            }
            // Nobody listens any more when the leader has gone.
            answers.blocking_send(Input::Written(written)).ok();
        });
        let writer = writer.map_err(StartError::Thread)?;
        let welcome = Welcome { run_id: run_id.clone(), epoch, spec_json, spec_digest, slots };
        let leader = Leader::new(run, &run_id, writer, observers);
        front.service.lead(welcome, inbox, record);
        let stop = CancellationToken::new();
        let leader = tokio::spawn(leader.lead(inputs, stop.clone(), tenure.clone()));
        Ok(Self { stop, leader, service: front.service.clone(), law, run_id, tenure, resign: Some(resign) })
    }

    /// Interrupts the run; it can be resumed.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until the term ends and everything is durable. The service goes on answering for a run that is over: nobody who asks
    /// meets a moment in which no coordinator knows it. The record of such a run is kept until somebody resigns; otherwise whoever
    /// stands by goes on at once.
    pub async fn ended(&mut self) -> Ending {
        let broken = |gone| (Ending::Broken(format!("the leader broke: {gone}")), None);
        let (ending, table) = (&mut self.leader).await.unwrap_or_else(broken);
        let place = RunPlace::of(&self.law.spec.run_dir(), &self.law.spec.name);
        match (&ending, table, place) {
            (Ending::Complete, Some(table), Ok(place)) => {
                let (run_id, law) = (self.run_id.clone(), self.law.clone());
                self.service.retire(Retired { run_id, law, table, place, written: false });
            }
            (Ending::Failed(reason), table, _) => {
                let (run_id, law, reason) = (self.run_id.clone(), self.law.clone(), reason.clone());
                self.service.break_off(Broken { run_id, law, table, reason });
            }
            _ => {
                self.service.stand_by(None);
                self.resign().await;
            }
        }
        ending
    }

    /// Waits until this process may lead no longer, without having let go of the record.
    pub async fn deposed(&self) {
        self.tenure.over().await;
    }

    /// Lets go of the record: where there are others, they answer for the run as well from here on, or try again what failed.
    pub async fn resign(&mut self) {
        if let Some(resign) = self.resign.take() {
            resign.await;
        }
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A coordinator that serves one term at an address of its own.
pub struct Coordinator {
    front: Front,
    office: Office,
}

impl Coordinator {
    /// Binds the address and begins to lead.
    ///
    /// # Errors
    /// [`StartError`] when the address is taken or the record does not fit the job.
    pub async fn start(
        opened: Opened,
        entrance: Entrance,
        patience: Patience,
        observers: Observers,
    ) -> Result<Self, StartError> {
        let front = Front::open(entrance, opened.law.clone()).await?;
        let office = Office::begin(&front, opened, patience, observers)?;
        Ok(Self { front, office })
    }

    /// The address that workers connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.front.address()
    }

    /// Interrupts the run; it can be resumed.
    pub fn stop(&self) {
        self.office.stop();
    }

    /// Waits until the run ends, everything is durable and the workers have read their last messages.
    pub async fn ended(&mut self) -> Ending {
        let ending = self.office.ended().await;
        self.office.resign().await;
        self.front.close().await;
        ending
    }
}

/// Digest of what a worker has to hold on to: everything but the patience of its coordinators.
fn identity(spec: &JobSpec) -> Digest {
    let spec = JobSpec { timeouts: TimeoutSpec::default(), ..spec.clone() };
    Digest(*blake3::hash(job::text_of(&spec).as_bytes()).as_bytes())
}
