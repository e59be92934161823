//! Slots onto ranks (LAW): packed so that the slowest rank finishes as early as possible.
//!
//! ST-1: each slot of a step runs on exactly one live rank. Which rank it is reaches no number of the run (RD-4), so
//! packing is free to use costs.

use esta_proto::Rank;

/// The rank of each slot, in slot order, for slots of these costs on `ranks` ranks.
///
/// Longest processing time first: slots in descending cost (ties by slot) go to the least loaded rank (ties by rank).
/// The slowest rank carries at most 4/3 - 1/(3 ranks) of the optimum (Graham 1969).
///
/// # Panics
/// When `ranks` is 0: a generation has at least one rank.
#[must_use]
pub fn pack(costs: &[u64], ranks: u32) -> Vec<Rank> {
    assert!(ranks > 0, "a generation has at least one rank");
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&slot| (std::cmp::Reverse(costs[slot]), slot));
    let mut load = std::collections::BinaryHeap::from_iter((0..ranks).map(|rank| std::cmp::Reverse((0u64, rank))));
    let mut ranks = vec![Rank(0); costs.len()];
    for slot in order {
        let std::cmp::Reverse((busy, rank)) = load.pop().expect("as many entries as ranks");
        ranks[slot] = Rank(rank);
        load.push(std::cmp::Reverse((busy + costs[slot], rank)));
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
        assert_eq!(pack(&[1, 9, 2, 3], 2), [Rank(1), Rank(0), Rank(1), Rank(1)]);
    }

    #[test]
    fn more_ranks_than_slots_leaves_spares() {
        assert_eq!(pack(&[5, 5], 4), [Rank(0), Rank(1)]);
    }

    proptest! {
        #[test]
        fn st_1_every_slot_runs_on_one_live_rank_within_grahams_bound(
            costs in prop::collection::vec(1u64..1000, 1..32),
            ranks in 1u32..9,
        ) {
            let assignment = pack(&costs, ranks);
            prop_assert_eq!(assignment.len(), costs.len());
            prop_assert!(assignment.iter().all(|rank| rank.0 < ranks));
            let total: u64 = costs.iter().sum();
            let least = total.div_ceil(u64::from(ranks)).max(*costs.iter().max().unwrap());
            // LPT is within 4/3 of the optimum; the lower bound `least` may itself be below it, hence list scheduling's 2.
            prop_assert!(makespan(&costs, &assignment, ranks) < 2 * least);
        }
    }
}
