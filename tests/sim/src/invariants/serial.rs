//! SC-2: a committed step's scores enter the table exactly once, in slot order.

use esta_engine::{law::Law, run::StepRecord, table::Table};

use super::Violation;
use crate::serial::{bits, replay};

/// Checked at the end: the table is what a serial replay of the recorded scores makes, every field of it, bit for bit.
pub fn equals_the_serial_replay(law: &Law, records: &[StepRecord], table: &Table) -> Result<(), Violation> {
    if table.version().0 != records.len() as u64 {
        let what = format!("the table holds {} steps, the record {}", table.version(), records.len());
        return Err(Violation::new("SC-2", what));
    }
    let replayed = replay(law, records);
    if bits(table.rows(), table.trend()) == bits(&replayed.rows, replayed.trend) {
        return Ok(());
    }
    Err(Violation::new("SC-2", "the table is not that of a serial replay of the record"))
}
