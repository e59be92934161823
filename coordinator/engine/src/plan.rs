//! The plan of a step (LAW): its slots' stitches and how many slots touch each parameter group. Immutable once issued.

use std::{collections::BTreeMap, time::Duration};

use esta_proto::{Digest, GroupId, Rank, SlotId, Step, StitchId};

use crate::{assignment, catalog::Catalog, groups::GroupLayout, pace::Pace, sampler::Draw};

/// A step's work, the same for every membership.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The step.
    pub step: Step,
    /// Version of the table it was drawn from.
    pub table_version: Step,
    /// Sample counter of its first sample (DT-1).
    pub first_sample: u64,
    /// One per slot, in slot order.
    pub draws: Vec<Draw>,
    /// Slots that touch each touched group, in group order (RD-1, RD-2).
    pub touched: Vec<(GroupId, u32)>,
    /// Names the plan: of step, version, first sample and stitches.
    pub digest: Digest,
}

/// One rank's share of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankPlan {
    /// The step.
    pub step: Step,
    /// Digest of the whole plan.
    pub digest: Digest,
    /// Version of the table it was drawn from.
    pub table_version: Step,
    /// Sample counter of the step's first sample.
    pub first_sample: u64,
    /// This rank's slots in ascending order; a spare has none.
    pub slots: Vec<(SlotId, StitchId)>,
    /// Slots that touch each touched group, over the whole step.
    pub touched: Vec<(GroupId, u32)>,
    /// Slots of the whole step.
    pub slots_in_step: u32,
    /// Whether this rank sends the score vector with its report.
    pub reporter: Reporter,
    /// Every step below this one was durable when it was given out.
    pub durable: Step,
}

/// Whether a rank sends the score vector with its report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reporter {
    /// It does.
    Yes,
    /// It keeps the vector until the step is durable.
    No,
}

impl Plan {
    /// The plan of these draws.
    #[must_use]
    pub fn new(step: Step, table_version: Step, first_sample: u64, draws: Vec<Draw>, layout: &GroupLayout) -> Self {
        let touched = count_touched(&draws, layout);
        let digest = digest(step, table_version, first_sample, &draws);
        Self { step, table_version, first_sample, draws, touched, digest }
    }

    /// The shares of all ranks, by rank, packed for slots of this pace and ranks of this slowness. Rank 0 reports the
    /// score vector. Slots that a rank has `computed` stay with it, and cost it nothing.
    #[must_use]
    pub fn shares(
        &self,
        catalog: &Catalog,
        pace: &Pace,
        slowness: &[f64],
        computed: &BTreeMap<SlotId, Rank>,
    ) -> Vec<RankPlan> {
        let ranks: Vec<Rank> = (0..slowness.len() as u32).map(Rank).collect();
        let taken: Vec<SlotId> = computed.keys().copied().collect();
        let mut shares = self.packed(catalog, pace, &taken, &ranks, slowness);
        for (slot, rank) in computed {
            shares[rank.index()].slots.push((*slot, self.draws[slot.index()].stitch));
        }
        shares.iter_mut().for_each(|share| share.slots.sort_unstable());
        shares
    }

    /// The shares of some ranks, in their order, of the slots that nobody holds: `taken` is ascending.
    #[must_use]
    pub fn rest(&self, catalog: &Catalog, pace: &Pace, taken: &[SlotId], ranks: &[Rank]) -> Vec<RankPlan> {
        self.packed(catalog, pace, taken, ranks, &vec![1.0; ranks.len()])
    }

    /// How long ranks of this slowness will take, where anything is known of slots.
    #[must_use]
    pub fn time(&self, catalog: &Catalog, pace: &Pace, slowness: &[f64]) -> Option<Duration> {
        let nanoseconds = |draw: &Draw| Some(pace.time(catalog.get(draw.stitch)?)?.as_nanos() as u64);
        let costs: Vec<u64> = self.draws.iter().map(nanoseconds).collect::<Option<_>>()?;
        Some(Duration::from_nanos(assignment::makespan(&costs, slowness) as u64))
    }

    fn packed(
        &self,
        catalog: &Catalog,
        pace: &Pace,
        taken: &[SlotId],
        ranks: &[Rank],
        slowness: &[f64],
    ) -> Vec<RankPlan> {
        let mut shares: Vec<RankPlan> = ranks.iter().map(|rank| self.empty_share(*rank)).collect();
        if shares.is_empty() {
            return shares;
        }
        let all = (0..).map(SlotId).zip(&self.draws);
        let free: Vec<(SlotId, &Draw)> = all.filter(|(slot, _)| taken.binary_search(slot).is_err()).collect();
        let cost = |draw: &Draw| catalog.get(draw.stitch).map_or(0, |stitch| pace.cost(stitch));
        let costs: Vec<u64> = free.iter().map(|(_, draw)| cost(draw)).collect();
        for ((slot, draw), place) in free.into_iter().zip(assignment::pack(&costs, slowness)) {
            shares[place.index()].slots.push((slot, draw.stitch));
        }
        shares
    }

    fn empty_share(&self, rank: Rank) -> RankPlan {
        RankPlan {
            step: self.step,
            digest: self.digest,
            table_version: self.table_version,
            first_sample: self.first_sample,
            slots: Vec::new(),
            touched: self.touched.clone(),
            slots_in_step: self.draws.len() as u32,
            reporter: if rank == Rank(0) { Reporter::Yes } else { Reporter::No },
            durable: Step(0),
        }
    }
}

fn count_touched(draws: &[Draw], layout: &GroupLayout) -> Vec<(GroupId, u32)> {
    let mut groups: Vec<GroupId> = draws.iter().flat_map(|draw| layout.touched(draw.stitch)).copied().collect();
    groups.sort_unstable();
    groups.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect()
}

fn digest(step: Step, table_version: Step, first_sample: u64, draws: &[Draw]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for number in [step.0, table_version.0, first_sample, draws.len() as u64] {
        hasher.update(&number.to_le_bytes());
    }
    for draw in draws {
        hasher.update(&draw.stitch.0.to_le_bytes());
    }
    Digest(*hasher.finalize().as_bytes())
}
