//! ST-1: each slot of a step runs on exactly one live rank.

use esta_proto::{SlotId, Step};

use super::Violation;

/// Checked when the ranks of a group reduce a step, over the slots that each of them ran.
pub fn st_1(step: Step, slots_in_step: u32, mut ran: Vec<SlotId>) -> Result<(), Violation> {
    ran.sort_unstable();
    if ran.iter().map(|slot| slot.0).eq(0..slots_in_step) {
        return Ok(());
    }
    Err(Violation::new("ST-1", format!("step {step} of {slots_in_step} slots was run as {ran:?}")))
}
