//! DT-1: each epoch visits each sample exactly once, across any membership changes.

use std::collections::BTreeSet;

use esta_engine::order::Visit;
use esta_proto::Step;

use super::Violation;

/// Checked at the end, over what the ranks read for each step on record: one epoch after another, each of them whole before
/// the next begins, and no sample of it twice.
pub fn dt_1<'a>(samples: u64, steps: impl Iterator<Item = (Step, Option<&'a [Visit]>)>) -> Result<(), Violation> {
    let violated = |what: String| Err(Violation::new("DT-1", what));
    let (mut epoch, mut seen) = (0, BTreeSet::new());
    for (step, read) in steps {
        let Some(read) = read else { return violated(format!("nobody read anything for step {step}")) };
        for visit in read {
            if seen.len() as u64 == samples {
                (epoch, seen) = (epoch + 1, BTreeSet::new());
            }
            if visit.epoch != epoch {
                let what =
                    format!("step {step} reads of epoch {} while {epoch} has {} visits", visit.epoch, seen.len());
                return violated(what);
            }
            if visit.index >= samples || !seen.insert(visit.index) {
                return violated(format!("step {step} reads sample {} of epoch {epoch} again", visit.index));
            }
        }
    }
    Ok(())
}
