//! What a palette loses against exhaustive evaluation (LAW; METHOD.md section 3), beside controls that know nothing.
//!
//! Regret is counted in points of accuracy against the best stitch of the same bin, over the bins that leave a choice.
//! The best of many noisy accuracies is flattered by its noise, so where accuracies on two halves of the images are
//! known the best is also chosen on one half and scored on the other.

use esta_proto::{BudgetId, StitchId};
use serde::Serialize;

use crate::{spec::PaletteRule, table::Row};

/// A stitch with what the table says of it and what held-out images say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// The stitch.
    pub stitch: StitchId,
    /// Its bin.
    pub budget: BudgetId,
    /// MACs of one image.
    pub macs: u64,
    /// Its row of the final table.
    pub row: Row,
    /// Held-out accuracy 0..1.
    pub accuracy: f64,
    /// Accuracy on either half of the held-out images.
    pub halves: Option<[f64; 2]>,
}

/// A way to pick one stitch of a bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// A palette rule; `loss` is the control of the lowest training loss.
    Rule(PaletteRule),
    /// The bin's largest by MACs.
    Largest,
    /// The bin's smallest by MACs.
    Smallest,
    /// The bin's lowest id.
    LowestId,
    /// Any of them: the expectation.
    Random,
}

impl Selector {
    /// All of them, the rules first.
    pub const ALL: [Self; 7] = [
        Self::Rule(PaletteRule::Snip),
        Self::Rule(PaletteRule::Loss),
        Self::Rule(PaletteRule::Auto),
        Self::Largest,
        Self::Smallest,
        Self::LowestId,
        Self::Random,
    ];

    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rule(rule) => rule.name(),
            Self::Largest => "largest",
            Self::Smallest => "smallest",
            Self::LowestId => "lowest id",
            Self::Random => "random pick",
        }
    }

    /// What it compares, higher is better; `None` where it has no opinion.
    #[must_use]
    pub fn value(self, measured: &Measured) -> Option<f64> {
        match self {
            Self::Rule(rule) => rule.value(&measured.row),
            Self::Largest => Some(measured.macs as f64),
            Self::Smallest => Some(-(measured.macs as f64)),
            Self::LowestId => Some(-f64::from(measured.stitch.0)),
            Self::Random => None,
        }
    }
}

/// What becomes of a bin of which a way to pick says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The bin is left out.
    LeftOut,
    /// Any of its stitches is picked: the expectation.
    Random,
}

/// What one way to pick loses.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Regret<S = Selector> {
    /// The way to pick.
    pub selector: S,
    /// Mean over `bins` in points; none when it chose nowhere.
    pub mean: Option<f64>,
    /// The same with the best chosen on one half and scored on the other, both ways; can be negative.
    pub split: Option<f64>,
    /// Mean of the bins' Kendall tau-b between its value and accuracy.
    pub tau: Option<f64>,
    /// One per bin that leaves a choice and in which it chose, by itself or any, in ascending cost.
    pub bins: Vec<BinRegret>,
}

/// What one selector loses in one bin.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BinRegret {
    /// The bin.
    pub budget: BudgetId,
    /// Its choice; none for the random pick.
    pub choice: Option<StitchId>,
    /// The bin's best by accuracy.
    pub best: StitchId,
    /// Points of accuracy between them.
    pub points: f64,
    /// The same with the best chosen on one half and scored on the other.
    pub split: Option<f64>,
    /// Kendall tau-b between its value and accuracy over the bin.
    pub tau: Option<f64>,
}

/// Every selector's regret over the bins in which at least two stitches are measured.
#[must_use]
pub fn regrets(measured: &[Measured]) -> Vec<Regret> {
    let silence = |selector| if selector == Selector::Random { Silence::Random } else { Silence::LeftOut };
    let of = |selector: &Selector| regret_of(*selector, measured, silence(*selector), |m| selector.value(m));
    Selector::ALL.iter().map(of).collect()
}

/// The regret of any way to pick, given what it compares, higher is better, over the bins in which at least two stitches
/// are measured.
pub fn regret_of<S>(
    selector: S,
    measured: &[Measured],
    silence: Silence,
    value: impl Fn(&Measured) -> Option<f64>,
) -> Regret<S> {
    let bins: Vec<BinRegret> = choices(measured).iter().filter_map(|bin| bin_regret(bin, silence, &value)).collect();
    let split: Option<Vec<f64>> = bins.iter().map(|bin| bin.split).collect();
    Regret {
        selector,
        mean: mean(bins.iter().map(|bin| bin.points)),
        split: split.and_then(|split| mean(split.into_iter())),
        tau: mean(bins.iter().filter_map(|bin| bin.tau)),
        bins,
    }
}

/// The bins that leave a choice, in ascending cost.
fn choices(measured: &[Measured]) -> Vec<Vec<Measured>> {
    let mut budgets: Vec<BudgetId> = measured.iter().map(|m| m.budget).collect();
    budgets.sort_unstable();
    budgets.dedup();
    let bin = |budget| measured.iter().filter(|m| m.budget == budget).copied().collect::<Vec<_>>();
    budgets.into_iter().map(bin).filter(|bin| bin.len() > 1).collect()
}

fn bin_regret(bin: &[Measured], silence: Silence, value: impl Fn(&Measured) -> Option<f64>) -> Option<BinRegret> {
    let best = best_by(bin, |m| Some(m.accuracy))?;
    let choice = best_by(bin, &value);
    if choice.is_none() && silence == Silence::LeftOut {
        return None;
    }
    let picked: Vec<Measured> = choice.map_or_else(|| bin.to_vec(), |choice| vec![*choice]);
    let valued = bin.iter().filter_map(|m| Some((value(m)?, m.accuracy)));
    Some(BinRegret {
        budget: best.budget,
        choice: choice.map(|choice| choice.stitch),
        best: best.stitch,
        points: 100.0 * (best.accuracy - mean(picked.iter().map(|m| m.accuracy))?),
        split: split_points(bin, &picked),
        tau: kendall_tau(&valued.collect::<Vec<_>>()),
    })
}

/// Points between the best, chosen on one half, and the mean of `picked`, both scored on the other half.
fn split_points(bin: &[Measured], picked: &[Measured]) -> Option<f64> {
    let one_way = |chosen_on: usize| {
        let scored_on = 1 - chosen_on;
        bin.iter().all(|m| m.halves.is_some()).then_some(())?;
        let oracle = best_by(bin, |m| Some(m.halves?[chosen_on]))?.halves?[scored_on];
        Some(oracle - mean(picked.iter().filter_map(|m| Some(m.halves?[scored_on])))?)
    };
    Some(100.0 * (one_way(0)? + one_way(1)?) / 2.0)
}

/// The stitch of the highest value; of equals the cheaper, then the one with the lower id, as palettes choose.
fn best_by(bin: &[Measured], value: impl Fn(&Measured) -> Option<f64>) -> Option<&Measured> {
    let valued = bin.iter().filter_map(|m| Some((value(m)?, m)));
    valued
        .min_by(|(a, m), (b, n)| b.total_cmp(a).then(m.macs.cmp(&n.macs)).then(m.stitch.cmp(&n.stitch)))
        .map(|(_, measured)| measured)
}

/// Kendall's tau-b of pairs: agreeing less disagreeing pairs over those not tied on either side; `None` when all of
/// one side are equal.
#[must_use]
pub fn kendall_tau(pairs: &[(f64, f64)]) -> Option<f64> {
    let (mut signed, mut left, mut right) = (0_i64, 0_u64, 0_u64);
    for (i, (a, b)) in pairs.iter().enumerate() {
        for (c, d) in &pairs[..i] {
            let (x, y) = (a.total_cmp(c) as i64, b.total_cmp(d) as i64);
            signed += x * y;
            left += x.unsigned_abs();
            right += y.unsigned_abs();
        }
    }
    (left > 0 && right > 0).then(|| signed as f64 / ((left as f64) * (right as f64)).sqrt())
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stitch(id: u32, budget: u32, macs: u64, accuracy: f64) -> Measured {
        let row = Row { importance: Some(f64::from(id)), loss: Some(1.0 - accuracy), ..Row::default() };
        Measured { stitch: StitchId(id), budget: BudgetId(budget), macs, row, accuracy, halves: None }
    }

    fn of(regrets: &[Regret], selector: Selector) -> &Regret {
        regrets.iter().find(|regret| regret.selector == selector).expect("every selector is there")
    }

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-9)
    }

    #[test]
    fn regret_counts_points_to_the_best_of_the_bin() {
        // Bin 0: ids 0..3 with 50, 80, 60 %; bin 1: ids 3, 4 with 90, 70 %; bin 2 leaves no choice.
        let all = [
            stitch(0, 0, 30, 0.5),
            stitch(1, 0, 20, 0.8),
            stitch(2, 0, 10, 0.6),
            stitch(3, 1, 50, 0.9),
            stitch(4, 1, 40, 0.7),
            stitch(5, 2, 60, 0.1),
        ];
        let regrets = regrets(&all);
        assert!(close(of(&regrets, Selector::Rule(PaletteRule::Snip)).mean, f64::midpoint(20.0, 20.0)));
        assert!(close(of(&regrets, Selector::Rule(PaletteRule::Loss)).mean, 0.0), "the loss knows here");
        assert!(close(of(&regrets, Selector::Largest).mean, f64::midpoint(30.0, 0.0)));
        assert!(close(of(&regrets, Selector::Smallest).mean, f64::midpoint(20.0, 20.0)));
        assert!(close(of(&regrets, Selector::LowestId).mean, f64::midpoint(30.0, 0.0)));
        let random = of(&regrets, Selector::Random);
        assert!(close(random.mean, f64::midpoint(80.0 - 190.0 / 3.0, 10.0)));
        assert_eq!((random.bins.len(), random.bins[0].choice, random.tau), (2, None, None));
    }

    #[test]
    fn a_rule_without_a_value_in_a_bin_has_no_regret_there() {
        let blank = |m: Measured| Measured { row: Row { importance: None, ..m.row }, ..m };
        let all =
            [blank(stitch(0, 0, 1, 0.5)), blank(stitch(1, 0, 2, 0.8)), stitch(2, 1, 3, 0.5), stitch(3, 1, 4, 0.9)];
        let regrets = regrets(&all);
        let snip = of(&regrets, Selector::Rule(PaletteRule::Snip));
        assert_eq!(snip.bins.iter().map(|bin| bin.budget).collect::<Vec<_>>(), [BudgetId(1)]);
        assert!(close(snip.mean, 0.0));
    }

    #[test]
    fn any_way_to_pick_can_be_judged_and_may_fall_back_on_the_random_pick() {
        let all = [stitch(0, 0, 1, 0.5), stitch(1, 0, 2, 0.8), stitch(2, 1, 3, 0.5), stitch(3, 1, 4, 0.9)];
        let knows_one_bin = |m: &Measured| (m.budget == BudgetId(1)).then_some(m.accuracy);
        let strict = regret_of("mine", &all, Silence::LeftOut, knows_one_bin);
        let lenient = regret_of("mine", &all, Silence::Random, knows_one_bin);
        assert_eq!((strict.selector, strict.bins.len(), lenient.bins.len()), ("mine", 1, 2));
        assert!(close(strict.mean, 0.0) && close(lenient.mean, f64::midpoint(15.0, 0.0)));
        let largest = regret_of(Selector::Largest, &all, Silence::LeftOut, |m| Selector::Largest.value(m));
        assert_eq!(&largest, of(&regrets(&all), Selector::Largest));
    }

    #[test]
    fn the_split_oracle_does_not_profit_from_its_own_noise() {
        // Two equally good stitches whose halves err in opposite directions.
        let noisy = |m: Measured, halves| Measured { halves: Some(halves), ..m };
        let all = [noisy(stitch(0, 0, 1, 0.80), [0.82, 0.78]), noisy(stitch(1, 0, 2, 0.80), [0.78, 0.82])];
        let regrets = regrets(&all);
        // Chosen on the first half stitch 0 wins and scores 78 on the second, where the choice 1 scores 82.
        assert!(close(of(&regrets, Selector::Largest).split, (78.0 - 82.0 + 78.0 - 78.0) / 2.0));
        assert!(close(of(&regrets, Selector::Random).split, -2.0));
        let half_known = [all[0], Measured { halves: None, ..all[1] }];
        assert_eq!(of(&super::regrets(&half_known), Selector::Largest).split, None);
    }

    #[test]
    fn kendalls_tau_counts_pairs_and_corrects_for_ties() {
        assert_eq!(kendall_tau(&[(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]), Some(1.0));
        assert_eq!(kendall_tau(&[(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]), Some(-1.0));
        // Pairs: (1,2) agree, (1,3) agree, (2,3) tied on the left: 2 / sqrt(2 * 3).
        assert!(close(kendall_tau(&[(1.0, 1.0), (2.0, 2.0), (2.0, 3.0)]), 2.0 / 6.0_f64.sqrt()));
        assert_eq!(kendall_tau(&[(1.0, 1.0), (1.0, 2.0)]), None);
        assert_eq!(kendall_tau(&[(1.0, 1.0)]), None);
    }
}
