//! A small job, and workers that train nothing: their scores are a function of (step, slot), their reduced
//! gradients of the plan, so every run of the job must make the same table.

#![allow(dead_code, reason = "each test program uses its part")]

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use esta_client::{Client, Credentials};
use esta_coordinator::{
    coordinator::{Coordinator, Opened, StartError},
    leader::Ending,
    observer::{Observation, Observers, Receiver, channel},
    rpc::Entrance,
    store::{self, Site, StoreAddress, StoreError, Term, Whereabouts},
};
use esta_engine::{
    law::Law,
    plan::{RankPlan, Reporter},
    run::{Form, Ledger, Origin, Patience, Ready, Recovered, Report, StepRecord, StepTimings},
    spec::JobSpec,
    table::{Outcome, Table},
};
use esta_proto::{
    Digest, Fence, PROTOCOL, Step,
    v1::{self, CoordinatorMessage, JoinRequest, WorkerMessage, coordinator_message::Body, worker_message},
};
use esta_tests::EtcdServer;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

/// Nothing here takes longer than this unless it is broken.
pub const DEADLINE: Duration = Duration::from_secs(60);
pub const SAMPLES: u64 = 100;
pub const STEPS: u64 = 40;

/// Two anchors of three blocks, 40 steps of four slots.
pub fn law() -> Arc<Law> {
    law_with(|_| {})
}

pub fn law_with(change: impl FnOnce(&mut JobSpec)) -> Arc<Law> {
    let arch = |width: u32| serde_json::json!({"image_size": 8, "patch_size": 4, "embed_dim": width, "depth": 3, "num_heads": 2});
    let spec = serde_json::json!({
        "name": "tiny",
        "family": {"anchors": [
            {"name": "a", "arch": arch(8), "weights": "a"},
            {"name": "b", "arch": arch(16), "weights": "b"},
        ]},
        "budgets": {"gap": 1e4},
        "train": {"max_steps": STEPS, "batch_size": 8},
        // These workers say nothing between their reports.
        "timeouts": {
            "heartbeat": 10, "keepalive": 100, "phase": 200, "collective": 300, "drain": 400,
            "renew": 0.5, "fence": 4, "lease": 5,
        },
        "data": {"num_classes": 2, "train": {"layout": "idx", "path": "x"}},
    });
    let mut spec: JobSpec = serde_json::from_value(spec).expect("the job is whole");
    change(&mut spec);
    Arc::new(Law::new(spec).expect("the job is valid"))
}

/// A coordinator under test with what it lets observers see.
pub struct Served {
    pub coordinator: Coordinator,
    pub address: SocketAddr,
    pub seen: Receiver,
}

/// Where a test's records are kept.
pub struct Place {
    pub folder: TempDir,
    pub etcd: Option<EtcdServer>,
}

impl Place {
    pub fn in_a_file() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), etcd: None }
    }

    pub fn on_etcd() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let etcd = EtcdServer::start(folder.path()).expect("etcd starts");
        Self { folder, etcd: Some(etcd) }
    }

    /// On an etcd whose data may take so many bytes.
    pub fn with_room_for(bytes: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let etcd = EtcdServer::start_with_room(folder.path(), bytes).expect("etcd starts");
        Self { folder, etcd: Some(etcd) }
    }

    pub fn is_shared(&self) -> bool {
        self.etcd.is_some()
    }

    /// As `--store` takes it.
    pub fn address(&self) -> StoreAddress {
        match &self.etcd {
            Some(etcd) => etcd.store("run").parse().expect("it is an address"),
            None => StoreAddress::Redb(self.folder.path().join(store::RECORD_FILE)),
        }
    }

    /// Begins a term here, once nobody else leads.
    pub async fn lead(&self, law: &Law) -> Result<Term, StoreError> {
        let site = Site::open(Some(&self.address()), law).await?;
        site.lead(law, &at("http://127.0.0.1:1"), &|_| ()).await
    }
}

/// A coordinator that says it is found there.
pub fn at(address: &str) -> Whereabouts {
    Whereabouts { address: address.to_owned(), page: Some(format!("{address}/page")) }
}

pub async fn serve(law: &Arc<Law>, place: &Place, workers: u32) -> Served {
    try_serve(law, place, workers, local()).await.expect("the coordinator starts")
}

pub async fn try_serve(law: &Arc<Law>, place: &Place, workers: u32, on: SocketAddr) -> Result<Served, StartError> {
    try_serve_at(Entrance::open(on), law, place, workers).await
}

/// Serves where callers have something to show.
pub async fn try_serve_at(
    entrance: Entrance,
    law: &Arc<Law>,
    place: &Place,
    workers: u32,
) -> Result<Served, StartError> {
    let (observer, seen) = channel();
    let patience = Patience { workers, grace: DEADLINE };
    let opened = Opened::under(law.clone(), place.lead(law).await?)?;
    let coordinator = Coordinator::start(opened, entrance, patience, Observers::new(vec![observer])).await?;
    Ok(Served { address: coordinator.address(), coordinator, seen })
}

pub fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

impl Served {
    pub async fn ended(&mut self) -> Ending {
        tokio::time::timeout(DEADLINE, self.coordinator.ended()).await.expect("the run ends")
    }

    /// Stops the coordinator and waits until it has let go of everything.
    pub async fn ended_by_stop(mut self) -> Ending {
        self.coordinator.stop();
        self.ended().await
    }

    /// Waits until this many steps are durable.
    pub async fn until_durable(&mut self, steps: u64) {
        let seen = std::mem::replace(&mut self.seen, channel().1);
        let wait = move || {
            loop {
                match seen.recv_timeout(DEADLINE).expect("steps go on") {
                    Observation::Committed { steps: group, .. }
                        if group.last().is_some_and(|s| s.step.0 + 1 >= steps) =>
                    {
                        return seen;
                    }
                    _ => {}
                }
            }
        };
        self.seen = tokio::task::spawn_blocking(wait).await.expect("the observer lives");
    }
}

/// The steps on record and the table they make.
pub async fn recorded(law: &Arc<Law>, place: &Place) -> (Vec<StepRecord>, Table) {
    replayed(law, store::read(&place.address()).await.expect("the record is readable").1)
}

/// The steps on record in a run's folder and the table they make.
pub fn recorded_in(law: &Arc<Law>, run_dir: &Path) -> (Vec<StepRecord>, Table) {
    replayed(law, store::read_only(&run_dir.join(store::RECORD_FILE)).expect("the record is readable").1)
}

fn replayed(law: &Arc<Law>, recovered: Recovered) -> (Vec<StepRecord>, Table) {
    let ledger = Ledger::replay(law.clone(), law.total_steps(SAMPLES), recovered.steps.clone()).expect("it replays");
    (recovered.steps, ledger.table().clone())
}

/// Everything the table says, to the bit.
pub fn bits(table: &Table) -> Vec<(u64, u64, [Option<u64>; 3])> {
    let row = |row: &esta_engine::table::Row| {
        let numbers = [row.importance, row.loss, row.grad_norm].map(|number| number.map(f64::to_bits));
        (row.visits, row.real_visits, numbers)
    };
    table.rows().iter().map(row).collect()
}

/// What a slot's training would have reported.
fn outcome(step: Step, slot: u32) -> Outcome {
    let hash = blake3::hash(format!("{step} {slot}").as_bytes());
    let number = |at: usize| {
        let bytes: [u8; 4] = hash.as_bytes()[at..at + 4].try_into().expect("a hash has 32 bytes");
        f64::from(u32::from_le_bytes(bytes)) / 1e9
    };
    Outcome { score: number(0), loss: number(4), grad_norm: number(8), valid: true }
}

/// What the last word of a session was.
#[derive(Debug)]
pub enum Last {
    Stopped(v1::Stop),
    Broken(Status),
    Ended,
}

/// A worker process's memory: it outlives its sessions.
pub struct FakeWorker {
    pub name: String,
    pub incarnation: u64,
    pub layout: Digest,
    pub applied: Option<Step>,
    rests_at: Option<Step>,
    retained: Vec<Report>,
}

/// An open session of any worker.
pub struct Session {
    pub outbound: mpsc::UnboundedSender<WorkerMessage>,
    pub inbound: Streaming<CoordinatorMessage>,
}

impl Session {
    pub fn send(&self, fence: Fence, body: worker_message::Body) {
        let message = WorkerMessage { fence: Some(fence.into()), traceparent: String::new(), body: Some(body) };
        // A session that the coordinator has ended takes nothing more.
        self.outbound.send(message).ok();
    }

    pub async fn next(&mut self) -> Result<Option<CoordinatorMessage>, Status> {
        tokio::time::timeout(DEADLINE, self.inbound.message()).await.expect("the coordinator says something")
    }
}

pub async fn connect(address: SocketAddr) -> Client {
    let plain = Credentials::default().connect(&format!("http://{address}"), |way| way).await;
    plain.expect("the coordinator listens")
}

pub fn join_request(name: &str) -> JoinRequest {
    JoinRequest { protocol: PROTOCOL, name: name.into(), incarnation: 1, version: "test".into() }
}

/// Opens a session whose first message is `first`.
pub async fn open(client: &mut Client, first: WorkerMessage) -> Session {
    let (outbound, messages) = mpsc::unbounded_channel();
    outbound.send(first).expect("the other end is held here");
    let stream = client.session(UnboundedReceiverStream::new(messages)).await.expect("a session opens");
    Session { outbound, inbound: stream.into_inner() }
}

/// The fence of the generation that a session is told to form.
pub async fn formed(session: &mut Session) -> Fence {
    loop {
        let message = session.next().await.expect("it stands").expect("it goes on");
        if matches!(message.body, Some(Body::Form(_))) {
            return message.fence.expect("a fence").into();
        }
    }
}

impl FakeWorker {
    pub fn new(name: &str, law: &Law) -> Self {
        let (applied, rests_at, retained) = (None, None, Vec::new());
        Self { name: name.into(), incarnation: 1, layout: law.layout_digest, applied, rests_at, retained }
    }

    /// The same worker, which does nothing about plans of this step and later ones.
    pub fn resting_at(self, step: Option<Step>) -> Self {
        Self { rests_at: step, ..self }
    }

    /// Joins and says hello.
    pub async fn enter(&self, address: SocketAddr) -> Session {
        self.enter_by(&mut connect(address).await).await
    }

    /// Joins and says hello on a connection.
    pub async fn enter_by(&self, client: &mut Client) -> Session {
        let request = JoinRequest { incarnation: self.incarnation, ..join_request(&self.name) };
        let welcome = client.join(request).await.expect("everybody may join").into_inner();
        let hello = v1::Hello {
            session_id: welcome.session_id,
            name: self.name.clone(),
            incarnation: self.incarnation,
            applied: self.applied.map(|step| step.0),
            retained: self.retained.iter().map(Into::into).collect(),
            layout_digest: self.layout.0.to_vec(),
            checkpoints: Vec::new(),
            samples: SAMPLES,
            standing: None,
        };
        let body = Some(worker_message::Body::Hello(hello));
        open(client, WorkerMessage { fence: None, traceparent: String::new(), body }).await
    }

    /// Works on one session until it ends.
    pub async fn work(&mut self, address: SocketAddr) -> Last {
        let session = self.enter(address).await;
        self.work_on(session).await
    }

    /// Works on an open session until it ends.
    pub async fn work_on(&mut self, mut session: Session) -> Last {
        loop {
            match session.next().await {
                Ok(Some(message)) => {
                    if let Some(stop) = self.obey(&session, message) {
                        return Last::Stopped(stop);
                    }
                }
                Ok(None) => return Last::Ended,
                Err(status) => return Last::Broken(status),
            }
        }
    }

    fn obey(&mut self, session: &Session, message: CoordinatorMessage) -> Option<v1::Stop> {
        let fence: Fence = message.fence.expect("every message has a fence").into();
        match message.body.expect("every message has a body") {
            Body::Form(form) => {
                let form = Form::try_from(&form).expect("a whole form");
                let applied = match form.origin {
                    Origin::Memory(step) | Origin::Checkpoint(step) => step,
                    Origin::Fresh => Step(0),
                };
                self.applied = Some(applied);
                session.send(fence, worker_message::Body::GroupReady((&Ready::at(applied)).into()));
            }
            Body::Prepare(prepare) => {
                let coming = Fence { generation: prepare.generation.into(), ..fence };
                session.send(coming, worker_message::Body::GroupPrepared(v1::GroupPrepared {}));
            }
            Body::Plan(plan) if self.rests_at.is_some_and(|rest| plan.step >= rest.0) => {}
            Body::Plan(plan) => self.carry_out(session, fence, &RankPlan::try_from(&plan).expect("a whole plan")),
            Body::Durable(durable) => self.retained.retain(|report| report.step.0 >= durable.next_step),
            Body::Finish(finish) => {
                let done = v1::FinaleDone { writer: finish.writer };
                session.send(fence, worker_message::Body::FinaleDone(done));
            }
            Body::Stop(stop) => return Some(stop),
            Body::Lost(_) | Body::Refused(_) | Body::Store(_) | Body::Discard(_) => {}
        }
        None
    }

    /// Slots of other ranks are learnt in the all-reduce, which is left out: every fake knows every slot's outcome.
    fn carry_out(&mut self, session: &Session, fence: Fence, plan: &RankPlan) {
        self.retained.retain(|report| report.step >= plan.durable);
        let reduced = Digest(*blake3::hash(&plan.digest.0).as_bytes());
        let outcomes = (0..plan.slots_in_step).map(|slot| outcome(plan.step, slot)).collect();
        self.applied = Some(plan.step.next());
        let report = Report { step: plan.step, plan: plan.digest, reduced, outcomes, timings: StepTimings::default() };
        let sent = match plan.reporter {
            Reporter::Yes => report.clone(),
            Reporter::No => Report { outcomes: Vec::new(), ..report.clone() },
        };
        self.retained.push(report);
        session.send(fence, worker_message::Body::StepReport((&sent).into()));
    }
}
