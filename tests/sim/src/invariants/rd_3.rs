//! RD-3: all live ranks hold identical adapters.

use esta_engine::run::StepRecord;
use esta_proto::{Rank, Step};

use super::Violation;
use crate::{group::State, job::Chain};

/// Checked when ranks reduce a step: each must have applied the same steps to the same adapters.
pub fn of_ranks(step: Step, held: &[(Rank, Chain)]) -> Result<(), Violation> {
    match held.iter().find(|(_, chain)| *chain != held[0].1) {
        None => Ok(()),
        Some((rank, _)) => Err(Violation::new(
            "RD-3",
            format!("ranks {} and {rank} reduce step {step} over different adapters", held[0].0),
        )),
    }
}

/// Checked of what is written for others to begin with, or to deploy: it is what the run's steps made and nothing else.
pub fn of_a_checkpoint(state: &State, calm: &[StepRecord]) -> Result<(), Violation> {
    let applied = state.applied;
    let made = applied.0.checked_sub(1).map_or(Some(Chain::default()), |last| Some(calm.get(last as usize)?.reduced));
    if made == Some(state.chain) && !state.drifted {
        return Ok(());
    }
    Err(Violation::new("RD-3", format!("what is written after {applied} steps is not what they made")))
}
