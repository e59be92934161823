//! A trainer thread: commands in order, one at a time; collectives are given up when their generation is.

use std::{collections::VecDeque, time::Duration};

use esta_engine::{
    plan::RankPlan,
    run::{Form, HeldShare},
};
use esta_proto::{Generation, Rank, SlotId};
use esta_worker_engine::TrainerCommand;

use crate::{group::State, job::Chain};

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
    /// Slots of a step that it has the sum of, over the state that it had then.
    pub kept: Option<(HeldShare, Chain)>,
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
    /// How many slots of a share it has to run: what it has of the step stays where all of it is in the share.
    pub fn missing(&mut self, plan: &RankPlan) -> u32 {
        let chain = self.state.map(|state| state.chain);
        let own = |slot: &SlotId| plan.slots.iter().any(|(other, _)| other == slot);
        let fits = |(share, over): &(HeldShare, Chain)| {
            let of_it = (share.step, share.plan) == (plan.step, plan.digest) && Some(*over) == chain;
            of_it && share.slots.iter().all(own)
        };
        let has = self.kept.as_ref().filter(|kept| fits(kept)).map_or(0, |(share, _)| share.slots.len());
        if has == 0 {
            self.kept = None;
        }
        (plan.slots.len() - has) as u32
    }

    /// It has run so many more slots of a share that is not reduced.
    pub fn keep(&mut self, plan: &RankPlan, more: usize) {
        let Some(chain) = self.state.map(|state| state.chain) else { return };
        let mut slots: Vec<SlotId> = self.kept.take().map(|(share, _)| share.slots).unwrap_or_default();
        let missing = plan.slots.iter().map(|(slot, _)| *slot).filter(|slot| !slots.contains(slot)).take(more);
        slots.extend(missing.collect::<Vec<_>>());
        slots.sort_unstable();
        self.kept = Some((HeldShare { step: plan.step, plan: plan.digest, slots }, chain));
    }

    /// What it has of the step after its state.
    pub fn computed(&self) -> Option<HeldShare> {
        let state = self.state?;
        let kept = self.kept.as_ref().filter(|(share, over)| (share.step, *over) == (state.applied, state.chain));
        kept.map(|(share, _)| share.clone())
    }

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
