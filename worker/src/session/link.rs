//! One connection to a coordinator (HANDS): join, open the stream, translate messages.

use std::time::Duration;

use esta_client::{Client, Credentials, DialError, weigh};
use esta_engine::{
    run::{Finish, Form, Message, Stop},
    spec::JobSpec,
};
use esta_proto::{
    Fence, InvalidMessage, LEADER, PROTOCOL, Step,
    v1::{self, coordinator_message::Body, worker_message},
};
use esta_worker_engine::Reply;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Streaming, transport::Endpoint};

/// Why there is no session.
#[derive(Debug, Error)]
pub enum LinkError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The coordinator refused a call.
    #[error("the coordinator at {address} refused to {call}: {}", .source.message())]
    Refused {
        /// The address.
        address: String,
        /// What was asked.
        call: &'static str,
        /// Its status.
        source: Box<tonic::Status>,
    },
    /// The job it serves cannot be read by this program.
    #[error("the job served by {address} cannot be read: another version of the program made it")]
    Spec {
        /// The address.
        address: String,
        /// What the parser says.
        source: serde_json::Error,
    },
}

impl LinkError {
    /// Whether trying again can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_passing(),
            Self::Refused { source, .. } => weigh(source).is_passing(),
            Self::Spec { .. } => false,
        }
    }

    /// Whether it is about certificates or tokens.
    #[must_use]
    pub fn is_about_trust(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_about_trust(),
            Self::Refused { source, .. } => weigh(source).is_about_trust(),
            Self::Spec { .. } => false,
        }
    }

    /// Where a coordinator that stands by says the leader serves.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        let Self::Refused { source, .. } = self else { return None };
        source.metadata().get(LEADER)?.to_str().ok().map(str::to_owned)
    }
}

/// Who introduces itself.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Unique among live workers.
    pub name: String,
    /// Grows with every process of that name.
    pub incarnation: u64,
}

/// A coordinator that accepted the introduction.
pub struct Joined {
    address: String,
    client: Client,
    /// The job.
    pub spec: JobSpec,
    /// Digest of the job but for its time-outs: a run of another digest is another run.
    pub spec_digest: Vec<u8>,
    /// This worker would be a hot spare.
    pub spare: bool,
    session_id: u64,
}

/// Both directions of an open session.
pub struct Link {
    /// What is sent; dropping it ends the session.
    pub outbound: mpsc::UnboundedSender<v1::WorkerMessage>,
    /// What arrives.
    pub inbound: Streaming<v1::CoordinatorMessage>,
    session_id: u64,
}

/// Connects to one address and introduces the worker.
///
/// # Errors
/// [`LinkError`] naming the address and the step that failed.
pub async fn join(address: &str, caller: &Caller, credentials: &Credentials) -> Result<Joined, LinkError> {
    let mut client = credentials.connect(address, patient).await?;
    let request = v1::JoinRequest {
        protocol: PROTOCOL,
        name: caller.name.clone(),
        incarnation: caller.incarnation,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let response = client.join(request).await.map_err(|source| refused(address, "join", source))?.into_inner();
    let spec = serde_json::from_str(&response.spec_json)
        .map_err(|source| LinkError::Spec { address: address.to_owned(), source })?;
    Ok(Joined {
        address: address.to_owned(),
        client,
        spec,
        spec_digest: response.spec_digest,
        spare: response.spare,
        session_id: response.session_id,
    })
}

/// How long a silent coordinator is waited for.
fn patient(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
}

impl Joined {
    /// Opens the session's stream; `first` is sent as its first message.
    ///
    /// # Errors
    /// [`LinkError::Refused`] when the coordinator does not take it.
    pub async fn open(mut self, first: (Fence, Reply)) -> Result<Link, LinkError> {
        let (outbound, queue) = mpsc::unbounded_channel();
        // The stream answers only once it has seen a message.
        let hello = encode(first.0, &first.1, self.session_id);
        outbound.send(hello).unwrap_or_else(|_| unreachable!("the receiver is held right here"));
        let answer = self.client.session(UnboundedReceiverStream::new(queue)).await;
        let inbound = answer.map_err(|source| refused(&self.address, "open a session", source))?.into_inner();
        Ok(Link { outbound, inbound, session_id: self.session_id })
    }
}

impl Link {
    /// Queues a reply; false when the session is gone.
    pub fn send(&self, fence: Fence, reply: &Reply) -> bool {
        self.outbound.send(encode(fence, reply, self.session_id)).is_ok()
    }

    /// Queues a request of the rendezvous store under the fence of its generation; false when the session is gone.
    pub fn send_store(&self, fence: Fence, request: v1::StoreRequest) -> bool {
        self.outbound.send(envelope(fence, worker_message::Body::Store(request))).is_ok()
    }
}

fn refused(address: &str, call: &'static str, source: tonic::Status) -> LinkError {
    LinkError::Refused { address: address.to_owned(), call, source: Box::new(source) }
}

fn envelope(fence: Fence, body: worker_message::Body) -> v1::WorkerMessage {
    v1::WorkerMessage { fence: Some(fence.into()), traceparent: String::new(), body: Some(body) }
}

fn encode(fence: Fence, reply: &Reply, session_id: u64) -> v1::WorkerMessage {
    use worker_message::Body;
    let body = match reply {
        Reply::Hello(hello) => Body::Hello(v1::Hello { session_id, ..hello.into() }),
        Reply::GroupReady(step) => Body::GroupReady(v1::GroupReady { applied: step.0 }),
        Reply::GroupFailed(reason) => Body::GroupFailed(v1::GroupFailed { reason: reason.clone() }),
        Reply::Report(report) => Body::StepReport(report.into()),
        Reply::CheckpointSaved(step) => Body::CheckpointSaved(v1::CheckpointSaved { step: step.0 }),
        Reply::FinaleDone => Body::FinaleDone(v1::FinaleDone {}),
        Reply::Heartbeat(progress) => Body::Heartbeat(progress.into()),
        Reply::Draining => Body::Draining(v1::Draining {}),
        Reply::Leaving(reason, code) => Body::Leaving(v1::Leaving { reason: reason.clone(), exit_code: *code }),
    };
    envelope(fence, body)
}

/// What a coordinator's message is to the worker.
pub enum Inbound {
    /// For the law.
    Law(Fence, Message),
    /// For whoever waits for the rendezvous store.
    Store(v1::StoreReply),
}

/// Reads a message.
///
/// # Errors
/// [`InvalidMessage`] naming the field that is absent or misshapen.
pub fn decode(message: v1::CoordinatorMessage) -> Result<Inbound, InvalidMessage> {
    let fence = esta_proto::required(message.fence, "CoordinatorMessage", "fence")?.into();
    let law = match esta_proto::required(message.body, "CoordinatorMessage", "body")? {
        Body::Store(reply) => return Ok(Inbound::Store(reply)),
        Body::Form(form) => Message::Form(Form::try_from(&form)?),
        Body::Plan(plan) => Message::Plan((&plan).try_into()?),
        Body::Durable(durable) => Message::Durable(durable.next_step.into()),
        Body::Lost(lost) => Message::Lost(lost.reason),
        Body::Discard(discard) => Message::Discard(Step(discard.applied)),
        Body::Refused(refused) => Message::Refused(refused.reason),
        Body::Finish(finish) => Message::Finish(Finish::try_from(&finish)?),
        Body::Stop(stop) => Message::Stop(Stop { reason: stop.reason, exit_code: stop.exit_code }),
    };
    Ok(Inbound::Law(fence, law))
}
