//! Whose record it is (HANDS): one job's, whichever store keeps it.

use esta_engine::spec::JobSpec;

use super::sameness;

/// A record that is not this job's.
pub(super) enum Mismatch {
    /// It holds another job; the keys that differ.
    OtherJob(String),
    /// Its specification does not read.
    Damaged(String),
}

/// A specification as records and workers are given it.
pub(crate) fn text_of(spec: &JobSpec) -> String {
    serde_json::to_string(spec).expect("a specification has no key that JSON lacks")
}

/// Whether two resolved specifications describe one run.
pub(super) fn check(stored: &str, given: &str) -> Result<(), Mismatch> {
    match sameness::differences(&resolved(stored)?, &resolved(given)?) {
        Some(differences) => Err(Mismatch::OtherJob(differences)),
        None => Ok(()),
    }
}

/// A specification with the defaults of this program in place of keys that an earlier one did not know.
fn resolved(spec_json: &str) -> Result<serde_json::Value, Mismatch> {
    let spec = serde_json::from_str::<JobSpec>(spec_json).and_then(serde_json::to_value);
    let spec = spec.or_else(|_| serde_json::from_str(spec_json));
    spec.map_err(|error| Mismatch::Damaged(format!("its spec: {error}")))
}

/// A name no other run of this job has: the moment and the process that made it.
pub(super) fn new_run_id(name: &str) -> String {
    let moment = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let origin = format!("{name} {} {}", moment.as_nanos(), std::process::id());
    format!("{name}-{}", &blake3::hash(origin.as_bytes()).to_hex()[..8])
}
