//! Slots onto ranks (LAW): packed so that the slowest rank finishes as early as possible.
//!
//! ST-1: each slot of a step runs on exactly one live rank. Which rank it is reaches no number of the run (RD-4), so
//! packing is free to use costs.

use std::{cmp::Reverse, collections::BinaryHeap};

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
    if slowness.windows(2).all(|pair| pair[0] == pair[1]) {
        let mut load = BinaryHeap::from_iter((0..slowness.len() as u32).map(|rank| Reverse((0_u64, rank))));
        for slot in order {
            let Reverse((busy, rank)) = load.pop().expect("as many entries as ranks");
            ranks[slot] = Rank(rank);
            load.push(Reverse((busy + costs[slot], rank)));
        }
        return ranks;
    }
    let mut load = vec![0_u64; slowness.len()];
    for slot in order {
        let finish = |rank: &usize| (load[*rank] + costs[slot]) as f64 * slowness[*rank];
        let first = (0..load.len()).min_by(|a, b| finish(a).total_cmp(&finish(b))).expect("there is a rank");
        load[first] += costs[slot];
        ranks[slot] = Rank(first as u32);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn makespan(costs: &[u64], assignment: &[Rank], ranks: u32) -> u64 {
        let load = |rank| costs.iter().zip(assignment).filter(|(_, r)| **r == Rank(rank)).map(|(c, _)| c).sum();
        (0..ranks).map(load).max().unwrap_or(0)
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
            prop_assert!(makespan(&costs, &assignment, ranks) < 2 * least);
        }
    }
}
