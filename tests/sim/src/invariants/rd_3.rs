//! RD-3: all live ranks hold identical adapters.

use esta_proto::{Rank, Step};

use super::Violation;
use crate::job::Chain;

/// Checked when ranks reduce a step: each must have applied the same steps to the same adapters.
pub fn rd_3(step: Step, held: &[(Rank, Chain)]) -> Result<(), Violation> {
    match held.iter().find(|(_, chain)| *chain != held[0].1) {
        None => Ok(()),
        Some((rank, _)) => Err(Violation::new(
            "RD-3",
            format!("ranks {} and {rank} reduce step {step} over different adapters", held[0].0),
        )),
    }
}
