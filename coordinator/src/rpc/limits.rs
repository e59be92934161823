//! How much anybody may send (HANDS).

use std::time::Duration;

use esta_engine::spec::JobSpec;

/// A peer has this long to finish its handshake and to begin to speak HTTP/2.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);

/// Connections that may stand at once unless somebody says otherwise: a worker and an operator hold one each.
pub const MAX_CONNECTIONS: usize = 4096;

/// Calls that may go on at once on one connection. A worker has one.
pub(super) const STREAMS: u32 = 256;

/// Bytes of all headers of a call: a token of a service account has a few thousand.
pub(super) const HEADERS: u32 = 16 << 10;

/// Bytes of a question. What is asked is a name or a number.
pub(super) const QUESTION: usize = 64 << 10;

/// What a worker may send to the rendezvous store at once, and all else that does not grow with the job.
const FLOOR: usize = 1 << 20;

/// Bytes of a worker's message: the largest is the Hello of one that comes back with every report that can be in flight.
pub(super) fn session_message(spec: &JobSpec) -> usize {
    let reports = 2 * (spec.sampling.lookahead as usize + 2);
    // A report has two digests and four times, and for each slot three doubles, a flag, a number and a time.
    let report = 256 + 64 * spec.sampling.slots as usize;
    FLOOR + reports * report
}

#[cfg(test)]
mod tests {
    use esta_proto::v1::{Hello, SlotOutcome, SlotTime, StepReport, StepTimings};
    use prost::Message;

    use super::*;

    #[test]
    fn the_largest_hello_of_a_job_passes() {
        let spec = serde_json::json!({
            "name": "large",
            "family": {"anchors": []},
            "train": {"max_steps": 1, "batch_size": 4096},
            "sampling": {"slots": 4096, "lookahead": 64},
            "data": {"num_classes": 2, "train": {"layout": "idx", "path": "x"}},
        });
        let spec: JobSpec = serde_json::from_value(spec).expect("the job is whole");
        let most = u32::MAX;
        let slots = (0..spec.sampling.slots).map(|slot| SlotTime { slot, compute_us: most }).collect();
        let outcome = SlotOutcome { score: 1.0, loss: 1.0, grad_norm: 1.0, valid: true };
        let report = StepReport {
            step: u64::MAX,
            plan_digest: vec![1; 32],
            reduced_digest: vec![1; 32],
            outcomes: vec![outcome; spec.sampling.slots as usize],
            timings: Some(StepTimings {
                wait_plan_us: most,
                wait_batch_us: most,
                slots,
                reduce_us: most,
                apply_us: most,
            }),
            check: most,
        };
        let retained = vec![report; 2 * (spec.sampling.lookahead as usize + 2)];
        let hello = Hello { retained, checkpoints: vec![u64::MAX; 1000], ..Hello::default() };
        assert!(hello.encoded_len() < session_message(&spec), "{} bytes", hello.encoded_len());
    }
}
