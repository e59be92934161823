//! The `Coordinator` service (HANDS): what this coordinator is at the moment, and how it answers each call in that role.

use std::sync::{Arc, PoisonError, RwLock};

use esta_engine::{
    budget::Price,
    latency::Latency,
    law::Law,
    run::{Ledger, Run},
    spec::PaletteRule,
    table::Table,
};
use esta_objects::RunPlace;
use esta_proto::{
    COMPLETE, FAILED, LEADER, PROTOCOL,
    v1::{
        self, JoinRequest, JoinResponse, PaletteRequest, PaletteResponse, PullRequest, StatusRequest, StatusResponse,
        WorkerMessage, coordinator_server::Coordinator,
    },
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataValue};

use super::{
    outbox::{self, Outgoing},
    pull::{self, Parts},
    reception::{Reception, Welcome},
    status,
};
use crate::{leader::Input, palette, security::Caller, store::RecordTimes, telemetry::TurnedAway};

/// The service; clones are in the same role.
#[derive(Debug, Clone, Default)]
pub struct Service {
    role: Arc<RwLock<Role>>,
    turned_away: TurnedAway,
}

/// What this coordinator is at the moment.
#[derive(Debug)]
enum Role {
    /// Another one leads, at this address where it is known.
    StandingBy(Option<String>),
    /// It leads.
    Leading(Reception),
    /// The run is complete, and it answers what is asked of it as it ended.
    Retired(Arc<Retired>),
    /// The run cannot go on, and it says so to whoever asks.
    Broken(Arc<Broken>),
}

/// A run that cannot go on.
#[derive(Debug)]
pub struct Broken {
    /// Name of the run.
    pub run_id: String,
    /// What the job is.
    pub law: Arc<Law>,
    /// The final table, if there is any.
    pub table: Option<Arc<Table>>,
    /// Why, in one line.
    pub reason: String,
}

/// A complete run that nobody leads any more.
#[derive(Debug)]
pub struct Retired {
    /// Name of the run.
    pub run_id: String,
    /// What the job is.
    pub law: Arc<Law>,
    /// The final table.
    pub table: Arc<Table>,
    /// Where its files are.
    pub place: RunPlace,
    /// Whether all of them are written.
    pub written: bool,
}

impl Default for Role {
    fn default() -> Self {
        Self::StandingBy(None)
    }
}

impl Service {
    /// From here on calls go to a leader's inbox.
    pub fn lead(&self, welcome: Welcome, leader: mpsc::Sender<Input>, record: Arc<RecordTimes>) {
        let reception = Reception::of(welcome, leader, record);
        *self.role.write().unwrap_or_else(PoisonError::into_inner) = Role::Leading(reception);
    }

    /// From here on callers are sent to whoever leads, where that is known.
    pub fn stand_by(&self, leader: Option<String>) {
        *self.role.write().unwrap_or_else(PoisonError::into_inner) = Role::StandingBy(leader);
    }

    /// From here on questions are answered as the run ended, and workers are not needed.
    pub fn retire(&self, retired: Retired) {
        *self.role.write().unwrap_or_else(PoisonError::into_inner) = Role::Retired(Arc::new(retired));
    }

    /// From here on says of a run that it cannot go on, and why.
    pub fn break_off(&self, broken: Broken) {
        *self.role.write().unwrap_or_else(PoisonError::into_inner) = Role::Broken(Arc::new(broken));
    }

    /// Puts a question to the leader, where this coordinator leads.
    ///
    /// # Errors
    /// [`Status`] where it does not, or is stopping.
    pub async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Run) -> T + Send + 'static) -> Result<T, Status> {
        self.reception()?.ask(question).await
    }

    /// Whether this coordinator is of use: it leads, knows who does, or answers for a run that is over.
    ///
    /// # Errors
    /// Why it is not.
    pub fn is_ready(&self) -> Result<(), String> {
        match &*self.role.read().unwrap_or_else(PoisonError::into_inner) {
            Role::Leading(_) | Role::Retired(_) | Role::Broken(_) | Role::StandingBy(Some(_)) => Ok(()),
            Role::StandingBy(None) => Err("this coordinator stands by, and nobody leads at the moment".to_owned()),
        }
    }

    fn reception(&self) -> Result<Reception, Status> {
        match &*self.role.read().unwrap_or_else(PoisonError::into_inner) {
            Role::Leading(reception) => Ok(reception.clone()),
            Role::StandingBy(leader) => Err(elsewhere(leader.as_deref())),
            Role::Retired(_) => Err(complete()),
            Role::Broken(broken) => Err(failed(&broken.reason)),
        }
    }

    fn retired(&self) -> Option<Arc<Retired>> {
        match &*self.role.read().unwrap_or_else(PoisonError::into_inner) {
            Role::Retired(retired) => Some(retired.clone()),
            Role::Leading(_) | Role::StandingBy(_) | Role::Broken(_) => None,
        }
    }

    /// Of a run that is over: its job, and the table it ended with.
    fn last_table(&self) -> Option<(Arc<Law>, Option<Arc<Table>>)> {
        match &*self.role.read().unwrap_or_else(PoisonError::into_inner) {
            Role::Retired(retired) => Some((retired.law.clone(), Some(retired.table.clone()))),
            Role::Broken(broken) => Some((broken.law.clone(), broken.table.clone())),
            Role::Leading(_) | Role::StandingBy(_) => None,
        }
    }

    /// What `status` says of a run that is over.
    fn outcome(&self) -> Option<serde_json::Value> {
        match &*self.role.read().unwrap_or_else(PoisonError::into_inner) {
            Role::Retired(retired) => {
                let steps = retired.table.version();
                let phase = if retired.written { "complete" } else { "finishing" };
                Some(status::after(&retired.run_id, &retired.law, phase, (steps, Some(steps))))
            }
            Role::Broken(broken) => {
                let steps = broken.table.as_ref().map(|table| table.version()).unwrap_or_default();
                let mut told = status::after(&broken.run_id, &broken.law, "failed", (steps, None));
                told["failed"] = broken.reason.clone().into();
                Some(told)
            }
            Role::Leading(_) | Role::StandingBy(_) => None,
        }
    }
}

#[tonic::async_trait]
impl Coordinator for Service {
    type SessionStream = Outgoing;

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let caller = caller(&request)?;
        let worker = request.into_inner();
        if worker.protocol != PROTOCOL {
            self.turned_away.count("protocol");
            let (theirs, version) = (worker.protocol, worker.version);
            let why = format!(
                "this coordinator {} speaks protocol {PROTOCOL}, the worker {version} speaks {theirs}: use one release",
                env!("CARGO_PKG_VERSION")
            );
            return Err(Status::failed_precondition(why));
        }
        if worker.name.is_empty() {
            return Err(Status::invalid_argument("JoinRequest lacks its field name"));
        }
        if let Err(denied) = caller.may_be_called(&worker.name) {
            self.turned_away.count("credentials");
            tracing::warn!(reason = %denied, "a worker is turned away");
            return Err(denied.into());
        }
        let reception = self.reception()?;
        let live = reception.ask(|run| run.members().live().len()).await?;
        let Welcome { run_id, epoch, spec_json, spec_digest, slots } = (*reception.welcome).clone();
        Ok(Response::new(JoinResponse {
            run_id,
            session_id: reception.next_session(caller, worker.name).0,
            epoch: epoch.0,
            spec_json,
            spec_digest: spec_digest.0.to_vec(),
            spare: live as u64 >= u64::from(slots),
        }))
    }

    async fn session(&self, request: Request<Streaming<WorkerMessage>>) -> Result<Response<Outgoing>, Status> {
        let caller = caller(&request)?;
        let (outbox, outgoing, ended) = outbox::channel();
        tokio::spawn(self.reception()?.converse(caller, request.into_inner(), outbox, ended));
        Ok(Response::new(outgoing))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        if let Some(outcome) = self.outcome() {
            return Ok(Response::new(StatusResponse { json: outcome.to_string() }));
        }
        let reception = self.reception()?;
        let run_id = reception.welcome.run_id.clone();
        let mut told = reception.ask(move |run| status::describe(&run_id, run)).await?;
        told["expected"] = reception.awaited().into();
        told["record"] = reception.record.describe();
        Ok(Response::new(StatusResponse { json: told.to_string() }))
    }

    async fn palette(&self, request: Request<PaletteRequest>) -> Result<Response<PaletteResponse>, Status> {
        let v1::PaletteRequest { at_most, rule, at_most_milliseconds, at_most_params } = request.into_inner();
        let rule = match rule.as_str() {
            "" => None,
            text => Some(palette::parse_rule(text).map_err(Status::invalid_argument)?),
        };
        let no_latency = |_| Status::invalid_argument("at_most_milliseconds is no latency");
        let latency = at_most_milliseconds.map(|millis| Latency::from_millis(millis).ok_or(millis)).transpose();
        let counted = at_most_params.map(Price::Params).or(at_most.map(Price::Macs));
        let at_most = latency.map_err(no_latency)?.map(Price::Latency).or(counted);
        let view = move |law: &Law, table: Option<&Table>| {
            let rule: PaletteRule = rule.unwrap_or(law.spec.palette.rule);
            palette::check_answerable(&law.catalog, at_most, "DIR")?;
            Ok(table.map(|table| palette::entries(law, table, rule, at_most)))
        };
        let entries = match self.last_table() {
            Some((law, table)) => view(&law, table.as_deref()),
            None => self.ask(move |run| view(run.law(), run.ledger().map(Ledger::table))).await?,
        };
        let entries = entries.map_err(|why: String| Status::failed_precondition(why))?.unwrap_or_default();
        let json = serde_json::to_string(&entries).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(PaletteResponse { json }))
    }

    type PullStream = Parts;

    async fn pull(&self, _: Request<PullRequest>) -> Result<Response<Parts>, Status> {
        let Some(retired) = self.retired() else {
            self.reception()?;
            return Err(Status::failed_precondition("the run is not complete: its models are exported at its end"));
        };
        if !retired.written {
            return Err(Status::failed_precondition("the run is not complete: its last files are being written"));
        }
        Ok(Response::new(pull::parts(retired.place.clone()).await?))
    }
}

/// Whom the gate has let through.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    request.extensions().get().cloned().ok_or_else(|| Status::internal("a call came past the gate"))
}

/// Nobody is needed any more.
fn complete() -> Status {
    let mut status = Status::failed_precondition("the run is complete: no worker is needed");
    status.metadata_mut().insert(COMPLETE, MetadataValue::from_static("true"));
    status
}

/// Nobody can be of help any more.
fn failed(reason: &str) -> Status {
    let mut status = Status::failed_precondition(format!("the run failed: {reason}"));
    status.metadata_mut().insert(FAILED, MetadataValue::from_static("true"));
    status
}

/// Sends a caller to whoever leads.
fn elsewhere(leader: Option<&str>) -> Status {
    let Some(leader) = leader else {
        return Status::unavailable("this coordinator stands by, and nobody leads at the moment");
    };
    let mut status = Status::unavailable(format!("this coordinator stands by; {leader} leads"));
    if let Ok(leader) = leader.parse() {
        status.metadata_mut().insert(LEADER, leader);
    }
    status
}
