//! The order in which samples are visited (LAW): a function of (seed, committed sample counter), so that no sample is
//! lost or doubled when the membership changes (DT-1).

use std::num::NonZeroU64;
use std::sync::Arc;

use rand::Rng;

use crate::streams::{self, Stream};

/// The order of a training set: counter c is position c mod n of epoch c div n, and every epoch has its own
/// permutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataOrder {
    /// The run's seed.
    pub seed: u64,
    /// Samples n of the training set.
    pub len: NonZeroU64,
}

/// Lengths of the samples, and how many a step takes: samples of about one length are visited together, so that little of
/// a step is padding and its slots take about as long as each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grouping {
    /// By sample index.
    pub lengths: Arc<[u32]>,
    /// Samples of a step.
    pub batch: NonZeroU64,
}

/// Batches that are sorted by length together: few enough that an epoch's steps stay different from the last one's, many
/// enough that neighbours are of about one length.
const BATCHES_SORTED_TOGETHER: usize = 50;

/// Where a counter leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Visit {
    /// The pass over the training set; 0 is the first.
    pub epoch: u64,
    /// Index of the sample in the training set.
    pub index: u64,
}

impl DataOrder {
    /// The epoch and sample of a counter. Permutes a whole epoch: to walk many counters, keep an [`EpochCache`].
    #[must_use]
    pub fn sample(&self, counter: u64) -> Visit {
        let (epoch, position) = self.locate(counter);
        Visit { epoch, index: self.permutation(epoch)[position] }
    }

    /// The sample indices of an epoch in the order of their visits: shuffled by the epoch's own random stream.
    #[must_use]
    pub fn permutation(&self, epoch: u64) -> Vec<u64> {
        let mut rng = streams::rng(self.seed, Stream::DataOrder, epoch);
        let mut order: Vec<u64> = (0..self.len.get()).collect();
        shuffle(&mut rng, &mut order);
        order
    }

    /// The sample indices of an epoch where samples of about one length are visited together: a function of (seed, epoch,
    /// lengths). The epoch's permutation is sorted by length in stretches of 50 steps, longest first; then the steps are
    /// shuffled, and the one with the epoch's longest sample comes first, so that what does not fit in memory fails at once.
    /// Samples that fill no step stay behind.
    ///
    /// # Panics
    /// When there are not as many lengths as samples.
    #[must_use]
    pub fn grouped(&self, epoch: u64, grouping: &Grouping) -> Vec<u64> {
        let length = |&index: &u64| grouping.lengths[usize::try_from(index).expect("a sample index")];
        let batch = usize::try_from(grouping.batch.get()).unwrap_or(usize::MAX);
        let mut order = self.permutation(epoch);
        for stretch in order.chunks_mut(batch.saturating_mul(BATCHES_SORTED_TOGETHER)) {
            stretch.sort_by_key(|index| std::cmp::Reverse(length(index)));
        }
        let (whole, rest) = order.split_at(order.len() - order.len() % batch);
        let mut steps: Vec<&[u64]> = whole.chunks(batch).collect();
        let mut rng = streams::rng(self.seed, Stream::Grouping, epoch);
        shuffle(&mut rng, &mut steps);
        let longest = (0..steps.len()).max_by_key(|&step| (steps[step].iter().map(length).max(), steps.len() - step));
        if let Some(longest) = longest {
            steps.swap(0, longest);
        }
        [steps.concat(), rest.to_vec()].concat()
    }

    fn locate(&self, counter: u64) -> (u64, usize) {
        let position = usize::try_from(counter % self.len).expect("a sample index fits the address space");
        (counter / self.len, position)
    }
}

/// The permutations in use: those of two epochs, because slots and prefetched batches straddle their border.
#[derive(Debug, Clone)]
pub struct EpochCache {
    order: DataOrder,
    grouping: Option<Grouping>,
    /// Most recently used first.
    epochs: Vec<(u64, Vec<u64>)>,
}

impl EpochCache {
    const KEPT: usize = 2;

    /// An empty cache over an order.
    #[must_use]
    pub fn new(order: DataOrder) -> Self {
        Self { order, grouping: None, epochs: Vec::new() }
    }

    /// An empty cache over an order that visits samples of about one length together, where lengths are given.
    #[must_use]
    pub fn grouped(order: DataOrder, grouping: Option<Grouping>) -> Self {
        Self { grouping, ..Self::new(order) }
    }

    fn visits(&self, epoch: u64) -> Vec<u64> {
        match &self.grouping {
            Some(grouping) => self.order.grouped(epoch, grouping),
            None => self.order.permutation(epoch),
        }
    }

    /// Epoch and sample of a counter, and cheap for counters near each other.
    pub fn sample(&mut self, counter: u64) -> Visit {
        let (epoch, position) = self.order.locate(counter);
        if let Some(held) = self.epochs.iter().position(|(held, _)| *held == epoch) {
            self.epochs[..=held].rotate_right(1);
        } else {
            self.epochs.truncate(Self::KEPT - 1);
            self.epochs.insert(0, (epoch, self.visits(epoch)));
        }
        Visit { epoch, index: self.epochs[0].1[position] }
    }
}

/// Fisher-Yates from the back, spelt out here so that no library's change of algorithm reorders a recorded run or moves a
/// sample from one split to another.
pub fn shuffle<T>(rng: &mut impl Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let bound = u64::try_from(last).expect("a length fits 64 bits") + 1;
        let other = usize::try_from(below(rng, bound)).expect("below a length");
        items.swap(last, other);
    }
}

/// A uniform integer below `bound`: the high half of a 64 by 64 bit product, refusing the draws that would make some
/// results likelier (Lemire 2019).
fn below(rng: &mut impl Rng, bound: u64) -> u64 {
    let unfair = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        let (high, low) = (product >> 64, product & u128::from(u64::MAX));
        if low >= u128::from(unfair) {
            return u64::try_from(high).expect("below the bound");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn order(seed: u64, len: u64) -> DataOrder {
        DataOrder { seed, len: NonZeroU64::new(len).expect("not empty") }
    }

    #[test]
    fn dt_1_permutations_differ_by_epoch_and_by_seed() {
        let first = order(1, 50).permutation(0);
        assert_ne!(first, order(1, 50).permutation(1));
        assert_ne!(first, order(2, 50).permutation(0));
    }

    #[test]
    fn every_permutation_of_three_is_about_as_likely() {
        let mut counts = std::collections::BTreeMap::new();
        let epochs = 6000;
        for epoch in 0..epochs {
            *counts.entry(order(9, 3).permutation(epoch)).or_insert(0_u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        let chi_square: f64 = counts.values().map(|&n| (f64::from(n) - 1000.0).powi(2) / 1000.0).sum();
        assert!(chi_square < 20.5, "five degrees of freedom, p = 0.001: {chi_square}");
    }

    #[test]
    fn the_order_of_this_version_is_pinned() {
        // A change here reorders the samples of every recorded run.
        assert_eq!(order(42, 8).permutation(0), PINNED);
    }

    const PINNED: [u64; 8] = [6, 1, 3, 5, 0, 2, 4, 7];

    #[test]
    fn a_cache_survives_counters_that_jump() {
        let order = order(3, 10);
        let mut cache = EpochCache::new(order);
        for counter in [9, 10, 8, 11, 35, 7, 25, 9, 10] {
            assert_eq!(cache.sample(counter), order.sample(counter));
            assert!(cache.epochs.len() <= EpochCache::KEPT);
        }
    }

    fn grouping(seed: u64, len: u64, batch: u64) -> Grouping {
        // Lengths that depend on the seed too, many of them equal.
        let lengths = (0..len).map(|i| u32::try_from((i * 7919 + seed % 1013) % 37 + 1).expect("small")).collect();
        Grouping { lengths, batch: NonZeroU64::new(batch).expect("positive") }
    }

    #[test]
    fn steps_hold_samples_of_about_one_length_and_the_longest_comes_first() {
        let (order, grouping) = (order(5, 640), grouping(5, 640, 8));
        let length = |&index: &u64| grouping.lengths[usize::try_from(index).expect("small")];
        let visits = order.grouped(0, &grouping);
        let spread = |step: &[u64]| {
            step.iter().map(length).max().expect("a step") - step.iter().map(length).min().expect("a step")
        };
        assert!(visits.chunks(8).map(spread).max().expect("steps") <= 4, "the lengths go from 1 to 37");
        assert_eq!(visits[..8].iter().map(length).max(), grouping.lengths.iter().copied().max());
        let longest_of = |step: &[u64]| step.iter().map(length).max().expect("a step");
        let ups =
            visits.chunks(8).map(longest_of).collect::<Vec<_>>().windows(2).filter(|pair| pair[1] > pair[0]).count();
        assert!(ups > 20, "lengths of successive steps are shuffled: {ups} of 79 rise");
        assert_ne!(visits, order.grouped(1, &grouping));
    }

    proptest! {
        #[test]
        fn dt_1_grouped_epochs_visit_each_sample_exactly_once(seed: u64, len in 1_u64..300, batch in 1_u64..20) {
            let (order, grouping) = (order(seed, len), grouping(seed, len, batch));
            let mut cache = EpochCache::grouped(order, Some(grouping));
            for epoch in 0..2 {
                let visits: BTreeSet<u64> = (epoch * len..(epoch + 1) * len).map(|c| cache.sample(c).index).collect();
                prop_assert_eq!(visits, (0..len).collect::<BTreeSet<_>>());
            }
        }

        #[test]
        fn dt_1_each_epoch_visits_each_sample_exactly_once(seed: u64, len in 1_u64..200, epoch in 0_u64..1_000) {
            let mut cache = EpochCache::new(order(seed, len));
            let visits: Vec<Visit> = (epoch * len..(epoch + 1) * len).map(|c| cache.sample(c)).collect();
            prop_assert!(visits.iter().all(|visit| visit.epoch == epoch));
            let indices: BTreeSet<u64> = visits.iter().map(|visit| visit.index).collect();
            prop_assert_eq!(indices, (0..len).collect::<BTreeSet<_>>());
        }

        #[test]
        fn dt_1_the_order_does_not_depend_on_how_counters_are_grouped(
            seed: u64,
            len in 1_u64..40,
            sizes in proptest::collection::vec(1_u64..15, 1..20),
        ) {
            // Slots of these sizes, each with a cache of its own as on another worker, straddling epochs as they fall.
            let order = order(seed, len);
            let mut start = 0;
            let mut grouped = Vec::new();
            for size in sizes {
                let mut cache = EpochCache::new(order);
                grouped.extend((start..start + size).map(|c| cache.sample(c)));
                start += size;
            }
            let alone: Vec<Visit> = (0..start).map(|c| order.sample(c)).collect();
            prop_assert_eq!(grouped, alone);
        }
    }
}
