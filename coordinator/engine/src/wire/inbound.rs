//! A worker's message as what the law can hear (LAW): checked here, so that the law sees only whole messages.

use esta_proto::{
    Fence, InvalidMessage, SessionId, Step, required,
    v1::{self, worker_message::Body},
};

use crate::run::{Event, Progress, Ready, Report};

/// What a worker's message is to a coordinator.
#[derive(Debug, Clone, PartialEq)]
pub enum FromWorker {
    /// For the law.
    Event(Event),
    /// For the rendezvous store of the fence's generation.
    Store(Fence, v1::StoreRequest),
    /// The worker leaves, and says why.
    Leaving(v1::Leaving),
}

/// Reads a message of a session that has said hello.
///
/// # Errors
/// [`InvalidMessage`] naming what is missing or malformed.
pub fn from_worker(session: SessionId, message: v1::WorkerMessage) -> Result<FromWorker, InvalidMessage> {
    let fence = || required(message.fence, "WorkerMessage", "fence").map(Fence::from);
    let event = match required(message.body, "WorkerMessage", "body")? {
        Body::Hello(_) => return Err(InvalidMessage::Missing { message: "Session", field: "a single Hello" }),
        Body::GroupReady(ready) => Event::GroupReady(session, fence()?, Ready::try_from(&ready)?),
        Body::GroupFailed(failed) => Event::GroupFailed(session, fence()?, failed.reason),
        Body::GroupPrepared(_) => Event::GroupPrepared(session, fence()?),
        Body::StepReport(report) => Event::Reported(session, Report::try_from(&report)?),
        Body::CheckpointSaved(saved) => Event::CheckpointSaved(session, Step(saved.step)),
        Body::FinaleDone(done) => Event::FinaleDone(session, done.writer),
        Body::Store(request) => return Ok(FromWorker::Store(fence()?, request)),
        Body::Leaving(leaving) => return Ok(FromWorker::Leaving(leaving)),
        Body::Heartbeat(heartbeat) => Event::Heard(session, Progress::from(&heartbeat)),
        Body::Draining(_) => Event::Draining(session),
    };
    Ok(FromWorker::Event(event))
}
