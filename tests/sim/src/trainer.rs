//! A trainer thread: commands in order, one at a time; collectives are given up when their generation is.

use std::{collections::VecDeque, time::Duration};

use esta_engine::{plan::RankPlan, run::Form};
use esta_proto::{Generation, Rank};
use esta_worker_engine::TrainerCommand;

use crate::group::State;

/// What the thread is at.
#[derive(Debug, Clone, PartialEq)]
pub enum Busy {
    /// Waits for its peers to form a group.
    Forming(Generation, Form),
    /// Forward and backward.
    Computing(Generation, RankPlan),
    /// Waits for its peers to reduce.
    Reducing(Generation, RankPlan),
    /// Something that takes a while and waits for nobody.
    Writing(TrainerCommand),
}

/// The thread.
#[derive(Debug, Default)]
pub struct Trainer {
    /// What it is told and has not begun.
    pub queue: VecDeque<TrainerCommand>,
    /// What it is at.
    pub busy: Option<Busy>,
    /// Since when.
    pub began: Duration,
    /// Counts what it has been at, so that a late end of something given up is not taken for this one's.
    pub turn: u64,
    /// What it holds.
    pub state: Option<State>,
    /// The group it stands in.
    pub standing: Option<(Generation, Rank)>,
    /// Generations below this one are over.
    pub abandoned: u64,
    /// It will never be done with what it is at.
    pub hangs: bool,
    /// What it applies is not what was reduced.
    pub lies: bool,
    /// Staged checkpoints.
    pub staged: Vec<State>,
}

impl Trainer {
    /// Whether whatever is done for a generation is in vain.
    pub fn is_over(&self, generation: Generation) -> bool {
        generation.0 < self.abandoned
    }

    /// The generation whose peers it waits for.
    pub fn waits_in(&self) -> Option<Generation> {
        match &self.busy {
            Some(Busy::Forming(generation, _) | Busy::Reducing(generation, _)) => Some(*generation),
            _ => None,
        }
    }
}
