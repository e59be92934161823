//! DT-1: each epoch visits each sample exactly once, across any membership changes.

use esta_proto::Step;

use super::Violation;

/// Checked for every plan that a rank carries out: the samples of a step follow those of the step before it.
pub fn dt_1(step: Step, first_sample: u64, batch: u64) -> Result<(), Violation> {
    if first_sample == step.0 * batch {
        return Ok(());
    }
    Err(Violation::new("DT-1", format!("step {step} begins with sample {first_sample}, not {}", step.0 * batch)))
}
