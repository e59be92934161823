//! A worker's message as the leader's input (HANDS): checked here, so that the law sees only whole messages.

use esta_engine::run::{Event, Progress, Report};
use esta_proto::{
    Fence, InvalidMessage, SessionId, Step, required,
    v1::{WorkerMessage, worker_message::Body},
};

use crate::leader::Input;

/// What a message means.
///
/// # Errors
/// [`InvalidMessage`] naming what is missing or malformed.
pub(super) fn input(session: SessionId, message: WorkerMessage) -> Result<Input, InvalidMessage> {
    let fence = || required(message.fence, "WorkerMessage", "fence").map(Fence::from);
    let event = match required(message.body, "WorkerMessage", "body")? {
        Body::Hello(_) => return Err(InvalidMessage::Missing { message: "Session", field: "a single Hello" }),
        Body::GroupReady(ready) => Event::GroupReady(session, fence()?, Step(ready.applied)),
        Body::GroupFailed(failed) => Event::GroupFailed(session, fence()?, failed.reason),
        Body::StepReport(report) => Event::Reported(session, Report::try_from(&report)?),
        Body::CheckpointSaved(saved) => Event::CheckpointSaved(session, Step(saved.step)),
        Body::FinaleDone(_) => Event::FinaleDone(session),
        Body::Store(request) => return Ok(Input::Rendezvous(session, fence()?, request)),
        Body::Leaving(leaving) => return Ok(Input::Leaving(session, leaving)),
        Body::Heartbeat(heartbeat) => Event::Heard(session, Progress::from(&heartbeat)),
        Body::Draining(_) => Event::Draining(session),
    };
    Ok(Input::Happened(session, event))
}

#[cfg(test)]
mod tests {
    use esta_engine::run::Activity;
    use esta_proto::v1::{GroupReady, Heartbeat, StepReport};

    use super::*;

    fn message(body: Body) -> WorkerMessage {
        WorkerMessage { fence: None, traceparent: String::new(), body: Some(body) }
    }

    fn flaw(message: WorkerMessage) -> String {
        input(SessionId(1), message).err().expect("it is malformed").to_string()
    }

    #[test]
    fn what_is_malformed_is_named() {
        assert_eq!(flaw(WorkerMessage::default()), "WorkerMessage lacks its field body");
        assert_eq!(flaw(message(Body::GroupReady(GroupReady { applied: 3 }))), "WorkerMessage lacks its field fence");
        let short = StepReport { plan_digest: vec![1; 5], ..StepReport::default() };
        assert_eq!(flaw(message(Body::StepReport(short))), "StepReport.plan_digest has 5 bytes; a digest has 32");
    }

    #[test]
    fn an_activity_from_the_future_is_a_sign_of_life_and_nothing_else() {
        let heartbeat = Heartbeat { activity: 99, since_ms: 7, ..Heartbeat::default() };
        let Ok(Input::Happened(_, event)) = input(SessionId(1), message(Body::Heartbeat(heartbeat))) else {
            panic!("it is well-formed")
        };
        let expected = Progress { activity: Activity::Idle, since: std::time::Duration::from_millis(7) };
        assert_eq!(event, Event::Heard(SessionId(1), expected));
    }
}
