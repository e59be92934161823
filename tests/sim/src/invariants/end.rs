//! ST-2, SC-2, MB-2, RD-4 at the end: whatever happened, the record is that of a run that nothing disturbed.

use std::sync::Arc;

use esta_engine::{
    law::Law,
    run::{Ledger, StepRecord},
};

use super::Violation;

/// Compares draws, scores and chained digests bit for bit, and the table with a serial replay of the record.
pub fn equals_the_undisturbed_run(
    law: &Arc<Law>,
    expected: &[StepRecord],
    records: &[StepRecord],
) -> Result<(), Violation> {
    if records.len() != expected.len() {
        let what = format!("{} of {} steps are on record", records.len(), expected.len());
        return Err(Violation::new("MB-2", what));
    }
    for (record, calm) in records.iter().zip(expected) {
        let step = record.step;
        if record.draws != calm.draws || record.table_version != calm.table_version {
            return Err(Violation::new("ST-2", format!("step {step} drew otherwise than in an undisturbed run")));
        }
        if !record.outcomes.iter().zip(&calm.outcomes).all(|(a, b)| a.same_bits(b)) {
            return Err(Violation::new("SC-2", format!("step {step} has other scores than in an undisturbed run")));
        }
        if record.reduced != calm.reduced {
            return Err(Violation::new(
                "RD-4",
                format!("step {step} was reduced to another sum than in an undisturbed run"),
            ));
        }
    }
    match Ledger::replay(law.clone(), expected.len() as u64, records.to_vec()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Violation::new("SC-2", error.to_string())),
    }
}
