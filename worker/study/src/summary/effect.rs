//! Paired differences of two arms and what they say (LAW: pure).

use std::collections::BTreeMap;

use super::{ArmSummary, Outcome};
use crate::cell::Costs;

/// A difference in points, paired by target and seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Mean over targets of the means over seeds.
    pub mean: f64,
    /// Its standard error, `over` targets or seeds; none with one target and one seed.
    pub error: Option<f64>,
    /// What the error is taken over.
    pub over: Over,
    /// By target name.
    pub targets: BTreeMap<String, f64>,
    /// Pairs it rests on.
    pub pairs: usize,
    /// Time of one side's training over that of the other ([`time_ratio`]).
    pub time: Option<f64>,
}

/// What repeats, and so says how sure a mean is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Several targets: the means over their seeds.
    Targets,
    /// The seeds of a single target, which say nothing of others.
    Seeds,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Further above zero than the effect may be off.
    Holds,
    /// Further below zero than that.
    Reversed,
    /// Neither.
    Open,
    /// One target and one seed: a value, and nothing that says how far it may be off.
    NotJudged,
    /// Results are missing.
    Unknown,
}

/// The paired difference of two arms in `value`; none without a pair.
pub fn effect(arm: &ArmSummary, against: &ArmSummary, value: impl Fn(&str, &Outcome) -> f64) -> Option<Effect> {
    let mut targets = BTreeMap::new();
    let mut seeds_of_any = Vec::new();
    let mut costs = Vec::new();
    for (target, seeds) in &arm.outcomes {
        let Some(others) = against.outcomes.get(target) else { continue };
        let both: Vec<(&Outcome, &Outcome)> =
            seeds.iter().filter_map(|(seed, outcome)| Some((outcome, others.get(seed)?))).collect();
        costs.extend(both.iter().map(|(one, other)| (one.costs, other.costs)));
        let paired: Vec<f64> = both.iter().map(|(one, other)| value(target, one) - value(target, other)).collect();
        if let Some(mean) = mean(paired.iter().copied()) {
            targets.insert(target.clone(), mean);
        }
        seeds_of_any.extend(paired);
    }
    let (over, repeats) = match targets.len() {
        1 => (Over::Seeds, seeds_of_any.clone()),
        _ => (Over::Targets, targets.values().copied().collect()),
    };
    Some(Effect {
        mean: mean(targets.values().copied())?,
        error: standard_error(&repeats),
        over,
        targets,
        pairs: seeds_of_any.len(),
        time: time_ratio(&costs),
    })
}

/// Training time of the first sides over that of the second: the processor's over the pairs where both are known, or the
/// clock's where it is known of none, as on a device.
#[must_use]
pub fn time_ratio(pairs: &[(Costs, Costs)]) -> Option<f64> {
    let of_processor = |(one, other): &(Costs, Costs)| one.cpu_seconds.zip(other.cpu_seconds);
    let by_clock = |(one, other): &(Costs, Costs)| (one.train_seconds, other.train_seconds);
    let mut seconds: Vec<(f64, f64)> = pairs.iter().filter_map(of_processor).collect();
    if seconds.is_empty() {
        seconds = pairs.iter().map(by_clock).collect();
    }
    let (one, other) = seconds.iter().fold((0.0, 0.0), |sum, pair| (sum.0 + pair.0, sum.1 + pair.1));
    (other > 0.0).then(|| one / other)
}

impl Effect {
    /// So many standard errors an effect may be off: two over targets; over the few seeds of one target Student's t, as
    /// two would be exceeded by chance alone in every fifth study of three seeds.
    #[must_use]
    pub fn errors(&self) -> f64 {
        match self.over {
            Over::Targets => 2.0,
            Over::Seeds => student(self.pairs.saturating_sub(1)),
        }
    }

    /// How far it may be off, in points; none with one target and one seed.
    #[must_use]
    pub fn reach(&self) -> Option<f64> {
        self.error.map(|error| self.errors() * error)
    }

    /// What that says.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        judged(self.mean, self.reach())
    }

    /// What Student's t for so few targets would say instead of two standard errors.
    #[must_use]
    pub fn strict_verdict(&self) -> Verdict {
        let repeats = if self.over == Over::Targets { self.targets.len() } else { self.pairs };
        judged(self.mean, self.error.map(|error| student(repeats.saturating_sub(1)) * error))
    }
}

fn judged(mean: f64, reach: Option<f64>) -> Verdict {
    match reach {
        None => Verdict::NotJudged,
        Some(reach) if mean > reach => Verdict::Holds,
        Some(reach) if mean < -reach => Verdict::Reversed,
        Some(_) => Verdict::Open,
    }
}

/// What became of a claim whose effect may be missing.
#[must_use]
pub fn verdict(effect: Option<&Effect>) -> Verdict {
    effect.map_or(Verdict::Unknown, Effect::verdict)
}

/// Student's t: so many standard errors hold 95 % of means, for so many degrees of freedom.
#[must_use]
pub fn student(freedom: usize) -> f64 {
    const FEW: [f64; 9] = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26];
    // The normal quantile and the first two terms of its correction, right to two digits from ten degrees on.
    let many = |freedom: f64| 1.96 + 2.372 / freedom + 2.822 / (freedom * freedom);
    match freedom {
        0 => f64::INFINITY,
        few @ 1..=9 => FEW[few - 1],
        freedom => many(freedom as f64),
    }
}

/// Standard error of a mean; none with fewer than two values.
#[must_use]
pub fn standard_error(values: &[f64]) -> Option<f64> {
    let count = values.len() as f64;
    let middle = mean(values.iter().copied()).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    Some((squares / (count - 1.0) / count).sqrt())
}

/// The mean of some values; none of none.
pub fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(mean: f64, error: Option<f64>, over: Over, pairs: usize) -> Effect {
        let targets = (0..if over == Over::Targets { 6 } else { 1 }).map(|target| (target.to_string(), mean));
        Effect { mean, error, over, targets: targets.collect(), pairs, time: None }
    }

    #[test]
    fn few_seeds_of_one_target_take_students_t() {
        assert_eq!(effect(4.0, Some(1.0), Over::Seeds, 3).verdict(), Verdict::Open, "two standard errors would do");
        assert_eq!(effect(4.4, Some(1.0), Over::Seeds, 3).verdict(), Verdict::Holds);
        assert_eq!(effect(-12.0, Some(1.0), Over::Seeds, 2).verdict(), Verdict::Open);
        assert_eq!(effect(-4.4, Some(1.0), Over::Seeds, 3).verdict(), Verdict::Reversed);
        assert_eq!(effect(9.0, None, Over::Seeds, 1).verdict(), Verdict::NotJudged);
    }

    #[test]
    fn several_targets_keep_to_two_standard_errors() {
        let six = effect(2.2, Some(1.0), Over::Targets, 18);
        assert_eq!((six.verdict(), six.strict_verdict()), (Verdict::Holds, Verdict::Open));
        assert_eq!(effect(2.6, Some(1.0), Over::Targets, 18).strict_verdict(), Verdict::Holds);
    }

    #[test]
    fn students_t_falls_to_the_normal_quantile() {
        assert_eq!([0, 1, 2, 9].map(student), [f64::INFINITY, 12.71, 4.30, 2.26]);
        assert!((student(10) - 2.228).abs() < 0.005 && (student(30) - 2.042).abs() < 0.005);
        assert!((1..60).all(|freedom| student(freedom) > student(freedom + 1)));
    }
}
