//! What constraints are answered with, over seeds (HANDS): the mean of several fronts.

use std::collections::BTreeSet;

use crate::summary::FrontPoint;

/// The answers of several fronts to one constraint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// The constraint, in MACs.
    pub macs: u64,
    /// Mean held-out accuracy 0..1.
    pub mean: f64,
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// How many fronts there are.
    pub fronts: usize,
}

impl Level {
    /// Half the distance between the least and the greatest; none of a single front.
    pub fn half_range(&self) -> Option<f64> {
        (self.fronts > 1).then(|| (self.high - self.low) / 2.0)
    }
}

/// The answers to a constraint; none unless every front has one, as a mean over those that fit would flatter.
pub fn level_at(fronts: &[Vec<FrontPoint>], macs: u64) -> Option<Level> {
    let answers: Option<Vec<f64>> = fronts.iter().map(|front| answer(front, macs)).collect();
    let answers = answers.filter(|answers| !answers.is_empty())?;
    Some(Level {
        macs,
        mean: answers.iter().sum::<f64>() / answers.len() as f64,
        low: answers.iter().copied().fold(f64::INFINITY, f64::min),
        high: answers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        fronts: answers.len(),
    })
}

/// The mean of fronts at every constraint where one of them changes: between those it is level.
pub fn mean_front(fronts: &[Vec<FrontPoint>]) -> Vec<Level> {
    let changes: BTreeSet<u64> = fronts.iter().flatten().map(|point| point.macs).collect();
    changes.into_iter().filter_map(|macs| level_at(fronts, macs)).collect()
}

/// The accuracy of the last model at most at a cost.
fn answer(front: &[FrontPoint], macs: u64) -> Option<f64> {
    front.iter().take_while(|point| point.macs <= macs).last().map(|point| point.accuracy)
}

/// Ascending costs, each with two more between it and the next, in equal ratios.
pub fn constraints(costs: &[u64]) -> Vec<u64> {
    let between = |pair: &[u64]| {
        let (from, ratio) = (pair[0] as f64, pair[1] as f64 / pair[0].max(1) as f64);
        [pair[0], (from * ratio.cbrt()).round() as u64, (from * ratio.cbrt().powi(2)).round() as u64]
    };
    let mut all: Vec<u64> = costs.windows(2).flat_map(between).chain(costs.last().copied()).collect();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn front(points: &[(u64, f64)]) -> Vec<FrontPoint> {
        points.iter().map(|&(macs, accuracy)| FrontPoint { macs, accuracy }).collect()
    }

    #[test]
    fn a_mean_front_changes_where_one_of_its_fronts_does() {
        let fronts = [front(&[(10, 0.5), (30, 0.75)]), front(&[(20, 0.25), (30, 0.5)])];
        let said: Vec<_> = mean_front(&fronts).iter().map(|l| (l.macs, l.mean, l.low, l.high)).collect();
        assert_eq!(said, [(20, 0.375, 0.25, 0.5), (30, 0.625, 0.5, 0.75)], "at 10 one seed has nothing that fits");
        assert_eq!(level_at(&fronts, 29).and_then(|level| level.half_range()), Some(0.125));
        assert_eq!(level_at(&fronts, 19), None);
    }

    #[test]
    fn a_single_front_is_its_own_mean_without_a_range() {
        let fronts = [front(&[(10, 0.5)])];
        let level = level_at(&fronts, 1000).expect("it fits");
        assert_eq!((level.mean, level.half_range()), (0.5, None));
        assert_eq!((level_at(&[], 10), mean_front(&[])), (None, Vec::new()));
    }

    #[test]
    fn constraints_between_costs_are_equal_ratios_apart() {
        assert_eq!(constraints(&[1, 8, 1000]), [1, 2, 4, 8, 40, 200, 1000]);
        assert_eq!(constraints(&[7]), [7]);
        assert_eq!(constraints(&[]), Vec::<u64>::new());
    }
}
