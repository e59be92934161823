//! How long slots take (LAW), learnt from what ranks report: packing by MACs alone is wrong wherever a block has a price of
//! its own, such as the launches of its kernels. What is learnt decides only which rank runs a slot: it reaches no number
//! of the run (RD-4), and it is not recorded.

use std::time::Duration;

use crate::catalog::Stitch;

/// How much of what was heard stays when another slot is heard of: the last thousand or so count.
const MEMORY: f64 = 0.999;
/// Slots heard of before their times are believed.
const ENOUGH: u32 = 64;

/// Time of a slot = `per_block` x blocks + `per_mac` x MACs, by least squares of the relative error over the slots heard
/// of: the first slots of a process, which load kernels for seconds, weigh next to nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pace {
    heard: u32,
    /// Sums of products of what a slot has per second it took: blocks x blocks, blocks x MACs, MACs x MACs, blocks, MACs.
    sums: [f64; 5],
}

impl Pace {
    /// Takes in what the forward and backward pass of one slot took.
    pub fn hear(&mut self, stitch: &Stitch, took: Duration) {
        if took.is_zero() {
            return;
        }
        let (blocks, macs) = (blocks(stitch) / took.as_secs_f64(), stitch.macs as f64 / took.as_secs_f64());
        let products = [blocks * blocks, blocks * macs, macs * macs, blocks, macs];
        for (sum, product) in self.sums.iter_mut().zip(products) {
            *sum = MEMORY * *sum + product;
        }
        self.heard = self.heard.saturating_add(1);
    }

    /// The time to expect of a slot, in nanoseconds; its MACs while there is no telling. Comparable within one pace only.
    #[must_use]
    pub fn cost(&self, stitch: &Stitch) -> u64 {
        self.seconds(stitch).map_or(stitch.macs, |seconds| (1e9 * seconds).round() as u64)
    }

    /// The time to expect of a slot, once there is any telling.
    #[must_use]
    pub fn time(&self, stitch: &Stitch) -> Option<Duration> {
        self.seconds(stitch).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    fn seconds(&self, stitch: &Stitch) -> Option<f64> {
        let (per_block, per_mac) = self.prices()?;
        Some(per_block * blocks(stitch) + per_mac * stitch.macs as f64)
    }

    /// Seconds per block and per MAC, neither below 0. A family of one cost tells nothing.
    fn prices(&self) -> Option<(f64, f64)> {
        let [bb, bm, mm, b, m] = self.sums;
        let determinant = bb * mm - bm * bm;
        if self.heard < ENOUGH || determinant <= 1e-9 * bb * mm {
            return None;
        }
        let (per_block, per_mac) = ((b * mm - m * bm) / determinant, (m * bb - b * bm) / determinant);
        Some(match (per_block < 0.0, per_mac < 0.0) {
            (false, false) => (per_block, per_mac),
            (false, true) => (b / bb, 0.0),
            (true, _) => (0.0, m / mm),
        })
    }
}

fn blocks(stitch: &Stitch) -> f64 {
    stitch.segments.iter().map(|segment| f64::from(segment.last - segment.first + 1)).sum()
}

#[cfg(test)]
mod tests {
    use esta_proto::{AnchorId, BudgetId, StitchId};

    use super::*;
    use crate::catalog::Segment;

    fn stitch(blocks: u32, macs: u64) -> Stitch {
        let segments = vec![Segment { anchor: AnchorId(0), first: 0, last: blocks - 1 }];
        Stitch { id: StitchId(0), segments, layers: Vec::new(), macs, params: 0, latency: None, budget: BudgetId(0) }
    }

    /// 0.7 ms per block and 1 ns per MAC.
    fn took(stitch: &Stitch) -> Duration {
        Duration::from_secs_f64(0.7e-3 * blocks(stitch) + 1e-9 * stitch.macs as f64)
    }

    #[test]
    fn times_are_told_apart_into_blocks_and_macs() {
        let mut pace = Pace::default();
        for number in 0..200 {
            let seen = stitch(6 + number % 2, 400_000 + u64::from(number % 9) * 1_300_000);
            pace.hear(&seen, took(&seen));
        }
        for unseen in [stitch(6, 400_000), stitch(12, 11_800_000)] {
            let expected = took(&unseen).as_nanos() as i64;
            assert!((pace.cost(&unseen) as i64 - expected).abs() < 1000, "{} for {expected} ns", pace.cost(&unseen));
        }
    }

    #[test]
    fn slots_that_load_kernels_for_seconds_say_next_to_nothing() {
        let mut pace = Pace::default();
        for number in 0..200 {
            let seen = stitch(6 + number % 2, 400_000 + u64::from(number % 9) * 1_300_000);
            let loads = if number < 10 { Duration::from_secs(3) } else { Duration::ZERO };
            pace.hear(&seen, took(&seen) + loads);
        }
        for unseen in [stitch(6, 400_000), stitch(7, 11_800_000)] {
            let ratio = pace.cost(&unseen) as f64 / took(&unseen).as_nanos() as f64;
            assert!((0.99..1.01).contains(&ratio), "{ratio}");
        }
    }

    #[test]
    fn macs_decide_until_enough_is_heard_and_where_nothing_can_be_told() {
        let (small, large) = (stitch(6, 400_000), stitch(6, 11_800_000));
        let mut pace = Pace::default();
        (0..ENOUGH - 1).for_each(|number| {
            let seen = stitch(6, 400_000 + u64::from(number));
            pace.hear(&seen, took(&seen));
        });
        assert_eq!((pace.cost(&small), pace.cost(&large)), (400_000, 11_800_000));

        let mut of_one_cost = Pace::default();
        (0..200).for_each(|_| of_one_cost.hear(&small, took(&small)));
        assert_eq!(of_one_cost.cost(&large), 11_800_000);
    }

    #[test]
    fn no_price_is_negative() {
        let heard = |took: fn(&Stitch) -> f64| {
            let mut pace = Pace::default();
            for number in 0..200 {
                let seen = stitch(6 + number % 2, 400_000 + u64::from(number % 9) * 1_300_000);
                pace.hear(&seen, Duration::from_secs_f64(took(&seen)));
            }
            [stitch(6, 400_000), stitch(6, 11_800_000), stitch(12, 11_800_000)].map(|stitch| pace.cost(&stitch))
        };
        let [small, large, long] = heard(|stitch| 1e3 * blocks(stitch) / stitch.macs as f64);
        assert!(small == large && (2 * large).abs_diff(long) <= 1, "time that falls with MACs is a matter of blocks");
        let [small, large, long] = heard(|stitch| stitch.macs as f64 * 1e-9 * (20.0 - 2.0 * blocks(stitch)));
        assert!(small < large && large == long, "time that falls with blocks is a matter of MACs");
    }
}
