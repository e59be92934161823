//! A worker's message as the leader's input (HANDS).

use esta_engine::wire::{FromWorker, from_worker};
use esta_proto::{InvalidMessage, SessionId, v1::WorkerMessage};
use esta_telemetry::trace::Context;

use crate::leader::Input;

/// What a message means.
///
/// # Errors
/// [`InvalidMessage`] naming what is missing or malformed.
pub(super) fn input(session: SessionId, message: WorkerMessage) -> Result<Input, InvalidMessage> {
    let from = Context::of_message(&message.traceparent);
    Ok(match from_worker(session, message)? {
        FromWorker::Event(event) => Input::Happened(session, event, from),
        FromWorker::Store(fence, request) => Input::Rendezvous(session, fence, request),
        FromWorker::Leaving(leaving) => Input::Leaving(session, leaving),
    })
}

#[cfg(test)]
mod tests {
    use esta_engine::run::{Activity, Event, Progress};
    use esta_proto::v1::{GroupReady, Heartbeat, StepReport, worker_message::Body};

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
        assert_eq!(
            flaw(message(Body::GroupReady(GroupReady { applied: 3, computed: None, chain: None }))),
            "WorkerMessage lacks its field fence"
        );
        let short = StepReport { plan_digest: vec![1; 5], ..StepReport::default() };
        assert_eq!(flaw(message(Body::StepReport(short))), "StepReport.plan_digest has 5 bytes; a digest has 32");
    }

    #[test]
    fn an_activity_from_the_future_is_a_sign_of_life_and_nothing_else() {
        let heartbeat = Heartbeat { activity: 99, since_ms: 7, ..Heartbeat::default() };
        let Ok(Input::Happened(_, event, _)) = input(SessionId(1), message(Body::Heartbeat(heartbeat))) else {
            panic!("it is well-formed")
        };
        let expected = Progress { activity: Activity::Idle, since: std::time::Duration::from_millis(7) };
        assert_eq!(event, Event::Heard(SessionId(1), expected));
    }
}
