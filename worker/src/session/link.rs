//! One connection to a coordinator (HANDS): join, open the stream.

use std::time::Duration;

use esta_client::{Client, Credentials, DialError, weigh};
use esta_engine::spec::JobSpec;
use esta_proto::{
    COMPLETE, FAILED, Fence, LEADER, LeaderEpoch, PROTOCOL, SessionId,
    v1::{self, worker_message},
};
use esta_telemetry::trace::Context;
use esta_worker_engine::{Reply, wire};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status, Streaming, transport::Endpoint};

use super::call::Call;

/// Why there is no session.
#[derive(Debug, Error)]
pub enum LinkError {
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The coordinator refused a call.
    #[error("the coordinator at {address} refused to {call}: {}", .status.message())]
    Refused {
        /// The address.
        address: String,
        /// What was asked.
        call: &'static str,
        /// Its status.
        status: Box<Status>,
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
            Self::Refused { status, .. } => weigh(status).is_passing(),
            Self::Spec { .. } => false,
        }
    }

    /// Whether it is about certificates or tokens.
    #[must_use]
    pub fn is_about_trust(&self) -> bool {
        match self {
            Self::Dial(error) => error.is_about_trust(),
            Self::Refused { status, .. } => weigh(status).is_about_trust(),
            Self::Spec { .. } => false,
        }
    }

    /// Whether the run is complete: nobody is needed any more.
    #[must_use]
    pub fn says_complete(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.metadata().contains_key(COMPLETE))
    }

    /// Whether the run cannot go on.
    #[must_use]
    pub fn says_failed(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.metadata().contains_key(FAILED))
    }

    /// Where a coordinator that stands by says the leader serves.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        let Self::Refused { status, .. } = self else { return None };
        status.metadata().get(LEADER)?.to_str().ok().map(str::to_owned)
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
    /// The run's name.
    pub run_id: String,
    /// The job.
    pub spec: JobSpec,
    /// Digest of the job but for its time-outs: a run of another digest is another run.
    pub spec_digest: Vec<u8>,
    /// This worker would be a hot spare.
    pub spare: bool,
    epoch: LeaderEpoch,
    session: SessionId,
}

/// Both directions of an open session.
pub struct Link {
    /// What is sent; dropping it ends the session.
    outbound: mpsc::UnboundedSender<v1::WorkerMessage>,
    inbound: Streaming<v1::CoordinatorMessage>,
    call: Call,
    /// Of the leader at the other end.
    pub epoch: LeaderEpoch,
    /// Where it serves.
    pub address: String,
    session: SessionId,
}

/// The call by which a worker introduces itself.
const JOIN: &str = "esta.v1.Coordinator/Join";

/// The call that lasts as long as its session.
const SESSION: &str = "esta.v1.Coordinator/Session";

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
    let mut request = tonic::Request::new(request);
    let call = Call::begin(JOIN, address, Context::of_join());
    if let Some(traceparent) = call.traceparent().and_then(|traceparent| traceparent.parse().ok()) {
        request.metadata_mut().insert("traceparent", traceparent);
    }
    let answer = client.join(request).await;
    call.answered(&answer);
    let response = answer.map_err(|status| refused(address, "join", status))?.into_inner();
    let spec = serde_json::from_str(&response.spec_json)
        .map_err(|source| LinkError::Spec { address: address.to_owned(), source })?;
    Ok(Joined {
        address: address.to_owned(),
        client,
        run_id: response.run_id,
        spec,
        spec_digest: response.spec_digest,
        spare: response.spare,
        epoch: LeaderEpoch(response.epoch),
        session: SessionId(response.session_id),
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
        let hello = wire::to_coordinator(first.0, &first.1, self.session);
        outbound.send(hello).unwrap_or_else(|_| unreachable!("the receiver is held right here"));
        // Its steps have traces of their own.
        let mut call = Call::begin(SESSION, &self.address, None);
        let answer = self.client.session(UnboundedReceiverStream::new(queue)).await;
        let answer = answer.inspect_err(|status| call.ended(status));
        let inbound = answer.map_err(|status| refused(&self.address, "open a session", status))?.into_inner();
        Ok(Link { outbound, inbound, call, epoch: self.epoch, address: self.address, session: self.session })
    }
}

impl Link {
    /// Queues a reply, from a place of a trace where that is kept; false when the session is gone.
    pub fn send(&self, fence: Fence, reply: &Reply, from: Option<Context>) -> bool {
        let message = wire::to_coordinator(fence, reply, self.session);
        let traceparent = from.map(|context| context.to_string()).unwrap_or_default();
        self.outbound.send(v1::WorkerMessage { traceparent, ..message }).is_ok()
    }

    /// The next message; `None` when the coordinator has ended the session, and why when it broke.
    ///
    /// # Errors
    /// The status with which it ended.
    pub async fn next(&mut self) -> Result<Option<v1::CoordinatorMessage>, Status> {
        let message = self.inbound.message().await;
        match &message {
            Ok(Some(_)) => {}
            Ok(None) => self.call.ended(&Status::ok("")),
            Err(status) => self.call.ended(status),
        }
        message
    }

    /// Ends the session after what was sent, so that the coordinator hears the last words.
    pub async fn close(self) {
        let Self { outbound, mut inbound, mut call, .. } = self;
        drop(outbound);
        let end = loop {
            match inbound.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break Status::ok(""),
                Err(status) => break status,
            }
        };
        call.ended(&end);
    }

    /// What the coordinator said last, and whether it ends more than this session.
    ///
    /// # Errors
    /// [`LinkError::Refused`] where every other session would end in the same way.
    pub fn ended(&self, status: Status) -> Result<Status, LinkError> {
        match status.code() {
            // It cannot read what this program says, or may not hear it: it will not next time either.
            Code::InvalidArgument | Code::OutOfRange | Code::PermissionDenied => {
                Err(refused(&self.address, "go on with a session", status))
            }
            _ => Ok(status),
        }
    }

    /// Queues a request of the rendezvous store under the fence of its generation; false when the session is gone.
    pub fn send_store(&self, fence: Fence, request: v1::StoreRequest) -> bool {
        self.outbound.send(wire::envelope(fence, worker_message::Body::Store(request))).is_ok()
    }
}

fn refused(address: &str, call: &'static str, status: Status) -> LinkError {
    LinkError::Refused { address: address.to_owned(), call, status: Box::new(status) }
}
