//! Slots onto ranks (LAW): packed so that the slowest rank finishes as early as possible.
//!
//! ST-1: each slot of a step runs on exactly one live rank. Which rank it is reaches no number of the run (RD-4), so
//! packing is free to use costs.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use esta_proto::Rank;

/// The rank of each slot, in slot order, for slots of these costs on ranks that take this many times as long as others
/// for the same work.
///
/// Longest processing time first: slots in descending cost (ties by slot) go to the rank that would finish them first
/// (ties by rank). On ranks of one speed the slowest carries at most 4/3 - 1/(3 ranks) of the optimum (Graham 1969).
///
/// # Panics
/// When there is no rank: a generation has at least one.
#[must_use]
pub fn pack(costs: &[u64], slowness: &[f64]) -> Vec<Rank> {
    assert!(!slowness.is_empty(), "a generation has at least one rank");
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&slot| (Reverse(costs[slot]), slot));
    let mut ranks = vec![Rank(0); costs.len()];
    let mut classes = classes(slowness);
    for slot in order {
        let finish = |class: &Class| (class.least().saturating_add(costs[slot])) as f64 * class.slowness;
        let first = classes.iter_mut().min_by(|a, b| finish(a).total_cmp(&finish(b)).then(a.first().cmp(&b.first())));
        ranks[slot] = first.expect("there is a rank").take(costs[slot]);
    }
    ranks
}

/// When the last rank of such a packing is done, in the unit of the costs.
#[must_use]
pub fn makespan(costs: &[u64], slowness: &[f64]) -> f64 {
    let mut load = vec![0_u64; slowness.len()];
    for (cost, rank) in costs.iter().zip(pack(costs, slowness)) {
        load[rank.index()] = load[rank.index()].saturating_add(*cost);
    }
    load.iter().zip(slowness).map(|(busy, slowness)| *busy as f64 * slowness).fold(0.0, f64::max)
}

/// Ranks of one speed by load, the least loaded first: how many ranks there are makes no slot dearer, only how many speeds.
struct Class {
    slowness: f64,
    loads: BinaryHeap<Reverse<(u64, u32)>>,
}

fn classes(slowness: &[f64]) -> Vec<Class> {
    let mut by_speed: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    (0..).zip(slowness).for_each(|(rank, slowness)| by_speed.entry(slowness.to_bits()).or_default().push(rank));
    let class = |(bits, ranks): (u64, Vec<u32>)| Class {
        slowness: f64::from_bits(bits),
        loads: ranks.into_iter().map(|rank| Reverse((0, rank))).collect(),
    };
    by_speed.into_iter().map(class).collect()
}

impl Class {
    fn peek(&self) -> (u64, u32) {
        self.loads.peek().expect("a class has ranks").0
    }

    fn least(&self) -> u64 {
        self.peek().0
    }

    fn first(&self) -> u32 {
        self.peek().1
    }

    /// Gives the least loaded rank a slot of this cost.
    fn take(&mut self, cost: u64) -> Rank {
        let Reverse((busy, rank)) = self.loads.pop().expect("a class has ranks");
        self.loads.push(Reverse((busy.saturating_add(cost), rank)));
        Rank(rank)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranks_of_several_speeds_finish_together() {
        let mut slowness = vec![1.0; 90];
        slowness.extend([2.0; 10]);
        let mut loads = vec![0; 100];
        pack(&[7; 950], &slowness).into_iter().for_each(|rank| loads[rank.index()] += 1);
        assert_eq!((&loads[..90], &loads[90..]), (&[10; 90][..], &[5; 10][..]));
    }

    #[test]
    fn the_heaviest_slot_gets_a_rank_to_itself() {
        assert_eq!(pack(&[1, 9, 2, 3], &[1.0; 2]), [Rank(1), Rank(0), Rank(1), Rank(1)]);
    }

    #[test]
    fn more_ranks_than_slots_leaves_spares() {
        assert_eq!(pack(&[5, 5], &[1.0; 4]), [Rank(0), Rank(1)]);
    }

    #[test]
    fn a_slow_rank_gets_what_it_can_finish_in_time() {
        assert_eq!(pack(&[4, 4, 4, 4], &[3.0, 1.0]), [Rank(1), Rank(1), Rank(0), Rank(1)]);
        assert_eq!(pack(&[4, 4], &[9.0, 1.0]), [Rank(1), Rank(1)]);
    }

    #[test]
    fn the_last_rank_to_be_done_is_waited_for() {
        assert_eq!(makespan(&[4, 4, 4, 4], &[3.0, 1.0]), 12.0);
        assert_eq!(makespan(&[4, 4, 4], &[1.0; 2]), 8.0);
        assert_eq!(makespan(&[], &[1.0; 2]), 0.0);
    }

    proptest! {
        #[test]
        fn st_1_every_slot_runs_on_one_live_rank_within_grahams_bound(
            costs in prop::collection::vec(1u64..1000, 1..32),
            ranks in 1u32..9,
        ) {
            let assignment = pack(&costs, &vec![1.0; ranks as usize]);
            prop_assert_eq!(assignment.len(), costs.len());
            prop_assert!(assignment.iter().all(|rank| rank.0 < ranks));
            let total: u64 = costs.iter().sum();
            let least = total.div_ceil(u64::from(ranks)).max(*costs.iter().max().unwrap());
            // LPT is within 4/3 of the optimum; the lower bound `least` may itself be below it, hence list scheduling's 2.
            prop_assert!(makespan(&costs, &vec![1.0; ranks as usize]) < 2.0 * least as f64);
        }
    }
}
