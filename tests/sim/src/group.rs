//! Process groups: a collective is done when every rank has come, and never when one has gone.

use std::collections::{BTreeMap, BTreeSet};

use esta_engine::{
    order::Visit,
    run::{Form, Origin, Seat},
    table::Outcome,
};
use esta_proto::{Fence, Generation, Rank, SlotId, Step, StitchId};

use crate::{
    invariants::{Violation, rd_3, st_1},
    job::{self, Chain},
    network::Process,
};

/// What a rank holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Applied steps.
    pub applied: Step,
    /// What they made of the adapters.
    pub chain: Chain,
    /// Something in it is not what the steps made, where no slot looks.
    pub drifted: bool,
}

/// A rank's part of a step.
#[derive(Debug, Clone)]
pub struct Share {
    /// The step.
    pub step: Step,
    /// What the rank ran, and what it read for that.
    pub slots: Vec<(SlotId, StitchId, Vec<Visit>)>,
    /// Slots of the whole step.
    pub slots_in_step: u32,
    /// Over which adapters.
    pub chain: Chain,
}

/// A collective that every rank has come to: who they are, and what they are told.
#[derive(Debug, Clone)]
pub enum Done {
    /// The group stands.
    Formed(Vec<Process>, Result<State, String>),
    /// A step is reduced.
    Reduced(Vec<Process>, Vec<Outcome>),
}

/// The group of one generation.
#[derive(Debug, Default)]
pub struct Group {
    world: u32,
    members: BTreeMap<Rank, Process>,
    coming: BTreeMap<Rank, Option<State>>,
    reducing: BTreeMap<Step, BTreeMap<Rank, Share>>,
    /// A member died.
    pub broken: bool,
}

/// A group that is built beside the steps of another.
#[derive(Debug, Default)]
struct Prepared {
    world: u32,
    members: BTreeMap<Rank, Process>,
    /// Those of them for whom it stands.
    stands: BTreeSet<Process>,
    broken: bool,
}

/// All groups that ever were.
#[derive(Debug, Default)]
pub struct Groups {
    formed: BTreeMap<Generation, Group>,
    prepared: BTreeMap<Fence, Prepared>,
    /// What was read for each step, by the adapters that were made of it.
    read: BTreeMap<(Step, Chain), Vec<Visit>>,
}

/// What became of a group that a rank came to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Built {
    /// Others have yet to come.
    Waits,
    /// These processes stand in it.
    Stands(Vec<Process>),
    /// One of them is gone.
    Broken,
}

impl Groups {
    /// The group of a generation.
    pub fn get(&self, generation: Generation) -> Option<&Group> {
        self.formed.get(&generation)
    }

    /// A rank comes to build a group beside the steps.
    pub fn prepare(&mut self, fence: Fence, seat: Seat, process: Process) -> Result<Built, Violation> {
        let world = seat.world;
        let group = self.prepared.entry(fence).or_insert_with(|| Prepared { world, ..Prepared::default() });
        let other = group.members.insert(seat.rank, process).filter(|other| *other != process);
        if group.world != world || other.is_some() {
            return Err(Violation::new("MB-1", format!("{fence} is prepared twice: rank {} of {world}", seat.rank)));
        }
        Ok(match group.members.len() {
            _ if group.broken => Built::Broken,
            came if came < world as usize => Built::Waits,
            _ => Built::Stands(group.members.values().copied().collect()),
        })
    }

    /// Those who have come to build a group.
    pub fn builders(&self, fence: Fence) -> Vec<Process> {
        self.prepared.get(&fence).map(|group| group.members.values().copied().collect()).unwrap_or_default()
    }

    /// A process has built its end of a group; false where it has given that up.
    pub fn has_built(&mut self, fence: Fence, process: Process) -> bool {
        let group = self.prepared.get_mut(&fence).filter(|group| !group.broken);
        group.is_some_and(|group| group.stands.insert(process))
    }

    /// A process has waited for too long for a group to be built; false where it has built its end.
    pub fn gives_up_building(&mut self, fence: Fence, process: Process) -> bool {
        let group = self.prepared.get_mut(&fence).filter(|group| !group.stands.contains(&process));
        group.map(|group| group.broken = true).is_some()
    }

    /// The processes of a group.
    pub fn members(&self, generation: Generation) -> Vec<Process> {
        self.formed.get(&generation).map(|group| group.members.values().copied().collect()).unwrap_or_default()
    }

    /// A rank enters what it has built; whether that is whole.
    pub fn enter(&mut self, fence: Fence, form: &Form, process: Process) -> Result<bool, Violation> {
        let built = self.prepared.get(&fence).filter(|group| group.members.len() == group.world as usize);
        match built.filter(|group| group.members.get(&form.rank) == Some(&process) && group.world == form.world) {
            Some(group) => Ok(!group.broken),
            None => Err(Violation::new("MB-1", format!("rank {} enters what nobody built under {fence}", form.rank))),
        }
    }

    /// A rank comes to form the group with what it holds.
    pub fn form(
        &mut self,
        generation: Generation,
        form: &Form,
        process: Process,
        state: Option<State>,
        checkpoint: impl Fn(Step) -> Option<Chain>,
    ) -> Result<Option<Done>, Violation> {
        let group = self.formed.entry(generation).or_insert_with(|| Group { world: form.world, ..Group::default() });
        if group.world != form.world || group.members.get(&form.rank).is_some_and(|other| *other != process) {
            let what = format!("generation {generation} is formed twice: rank {} of {}", form.rank, form.world);
            return Err(Violation::new("MB-1", what));
        }
        group.members.insert(form.rank, process);
        group.coming.insert(form.rank, state);
        if group.coming.len() < group.world as usize {
            return Ok(None);
        }
        let made = match form.origin {
            Origin::Checkpoint(step) => Some(step),
            Origin::Memory(_) | Origin::Fresh => None,
        };
        let held = group.coming.values().flatten().filter(|state| Some(state.applied) >= made);
        // What everybody takes over is no difference between ranks any more, and nothing could tell of it.
        let newest = held.max_by_key(|state| state.applied).map(|state| State { drifted: false, ..*state });
        let state = newest.map_or_else(|| originate(form.origin, checkpoint), Ok);
        Ok(Some(Done::Formed(group.members.values().copied().collect(), state)))
    }

    /// A rank comes to reduce a step. While one of them `differs` the sums are nobody's, and no step may commit.
    pub fn reduce(
        &mut self,
        generation: Generation,
        rank: Rank,
        share: Share,
        differs: bool,
    ) -> Result<Option<Done>, Violation> {
        let Some(group) = self.formed.get_mut(&generation) else { return Ok(None) };
        let step = share.step;
        let shares = group.reducing.entry(step).or_default();
        shares.insert(rank, share);
        if shares.len() < group.world as usize {
            return Ok(None);
        }
        let shares = group.reducing.remove(&step).unwrap_or_default();
        let held: Vec<(Rank, Chain)> = shares.iter().map(|(rank, share)| (*rank, share.chain)).collect();
        if !differs {
            rd_3::of_ranks(step, &held)?;
        }
        let some = shares.values().next().expect("a group has a rank");
        let ran = shares.values().flat_map(|share| share.slots.iter().map(|slot| (slot, share.chain)));
        let mut ran: Vec<_> = ran.collect();
        ran.sort_by_key(|((slot, ..), _)| *slot);
        st_1(step, some.slots_in_step, ran.iter().map(|((slot, ..), _)| *slot).collect())?;
        let outcomes: Vec<Outcome> =
            ran.iter().map(|((slot, stitch, read), chain)| job::slot(*chain, step, read, *slot, *stitch)).collect();
        let read = ran.iter().flat_map(|((.., read), _)| read.clone()).collect();
        self.read.insert((step, job::apply(some.chain, step, &outcomes)), read);
        Ok(Some(Done::Reduced(group.members.values().copied().collect(), outcomes)))
    }

    /// What was read for a step that made these adapters.
    pub fn read(&self, step: Step, chain: Chain) -> Option<&[Visit]> {
        self.read.get(&(step, chain)).map(Vec::as_slice)
    }

    /// The groups that a process has a part in building break; who waits for them to be built.
    pub fn spoil(&mut self, process: Process) -> Vec<(Fence, Process)> {
        let mut waiting = Vec::new();
        for (fence, group) in &mut self.prepared {
            if group.members.values().any(|member| *member == process) && !group.broken {
                group.broken = true;
                let builds = group.members.len() < group.world as usize;
                waiting.extend(group.members.values().filter(|_| builds).map(|member| (*fence, *member)));
            }
        }
        waiting
    }

    /// A rank gives a group up: its processes.
    pub fn give_up(&mut self, generation: Generation) -> Vec<(Generation, Process)> {
        let Some(group) = self.formed.get_mut(&generation) else { return Vec::new() };
        group.broken = true;
        group.members.values().map(|member| (generation, *member)).collect()
    }

    /// A process died: its groups break. Returns the ranks that wait in them for nothing.
    pub fn died(&mut self, process: Process) -> Vec<(Generation, Process)> {
        self.break_with(process).into_iter().filter(|(_, member)| *member != process).collect()
    }

    /// The groups of a process break, and nobody dies: its ranks, itself among them.
    pub fn break_with(&mut self, process: Process) -> Vec<(Generation, Process)> {
        let mut waiting = Vec::new();
        for (generation, group) in &mut self.formed {
            if group.members.values().any(|member| *member == process) && !group.broken {
                group.broken = true;
                waiting.extend(group.members.values().map(|member| (*generation, *member)));
            }
        }
        waiting
    }
}

fn originate(origin: Origin, checkpoint: impl Fn(Step) -> Option<Chain>) -> Result<State, String> {
    match origin {
        Origin::Fresh => Ok(State { applied: Step(0), chain: Chain::default(), drifted: false }),
        Origin::Checkpoint(step) => {
            let chain = checkpoint(step).ok_or_else(|| format!("there is no checkpoint of {step} steps"))?;
            Ok(State { applied: step, chain, drifted: false })
        }
        Origin::Memory(step) => Err(format!("no rank holds the state of {step} applied steps")),
    }
}
