//! Between the law's words and the messages of a session (LAW), at a worker's end: whoever plays a worker uses this.

use esta_engine::run::{Finish, Form, Message, Stop};
use esta_proto::{
    Fence, InvalidMessage, SessionId, Step, required,
    v1::{self, coordinator_message, worker_message},
};

use crate::message::Reply;

/// What a coordinator's message is to the worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Inbound {
    /// For the law.
    Law(Fence, Message),
    /// For whoever waits for the rendezvous store.
    Store(v1::StoreReply),
}

/// The message that says this under a fence, on the session of this number.
#[must_use]
pub fn to_coordinator(fence: Fence, reply: &Reply, session: SessionId) -> v1::WorkerMessage {
    use worker_message::Body;
    let body = match reply {
        Reply::Hello(hello) => Body::Hello(v1::Hello { session_id: session.0, ..hello.into() }),
        Reply::GroupReady(ready) => Body::GroupReady(ready.into()),
        Reply::GroupFailed(reason) => Body::GroupFailed(v1::GroupFailed { reason: reason.clone() }),
        Reply::GroupPrepared => Body::GroupPrepared(v1::GroupPrepared {}),
        Reply::Report(report) => Body::StepReport(report.into()),
        Reply::CheckpointSaved(step) => Body::CheckpointSaved(v1::CheckpointSaved { step: step.0 }),
        Reply::FinaleDone(writer) => Body::FinaleDone(v1::FinaleDone { writer: *writer }),
        Reply::Heartbeat(progress) => Body::Heartbeat(progress.into()),
        Reply::Draining => Body::Draining(v1::Draining {}),
        Reply::Leaving(reason, code) => Body::Leaving(v1::Leaving { reason: reason.clone(), exit_code: *code }),
    };
    envelope(fence, body)
}

/// A message under a fence.
#[must_use]
pub fn envelope(fence: Fence, body: worker_message::Body) -> v1::WorkerMessage {
    v1::WorkerMessage { fence: Some(fence.into()), traceparent: String::new(), body: Some(body) }
}

/// Reads a message.
///
/// # Errors
/// [`InvalidMessage`] naming the field that is absent or misshapen.
pub fn from_coordinator(message: v1::CoordinatorMessage) -> Result<Inbound, InvalidMessage> {
    use coordinator_message::Body;
    let fence = required(message.fence, "CoordinatorMessage", "fence")?.into();
    let law = match required(message.body, "CoordinatorMessage", "body")? {
        Body::Store(reply) => return Ok(Inbound::Store(reply)),
        Body::Form(form) => Message::Form(Form::try_from(&form)?),
        Body::Prepare(prepare) => Message::Prepare(prepare.into()),
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
