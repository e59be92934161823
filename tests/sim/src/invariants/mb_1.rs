//! MB-1: at most one live leader epoch is accepted; generation and epoch only grow.

use esta_proto::Fence;

use super::Violation;

/// Checked whenever a worker acts on a message: it never goes back to an earlier fence.
pub fn mb_1(worker: &str, before: Fence, after: Fence) -> Result<(), Violation> {
    if after >= before {
        return Ok(());
    }
    Err(Violation::new("MB-1", format!("{worker} went from the fence {before} back to {after}")))
}
