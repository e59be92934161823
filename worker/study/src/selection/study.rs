//! What picking by each rule loses, over many runs (LAW: pure; seeded).

use std::collections::BTreeMap;

use esta_engine::{
    regret::{Measured, Regret, Selector, Silence, regret_of},
    spec::PaletteRule,
};
use esta_proto::{BudgetId, StitchId};
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{Kind, RULES, RuleInfo, Values};
use crate::{cell::StitchResult, summary::mean};

/// Shuffles of a bin over which the shuffled control is averaged.
const SHUFFLES: u64 = 200;

/// Resamples of a bootstrap.
const RESAMPLES: u64 = 2000;

/// What lies between is the interval: 95 %.
const TAILS: (f64, f64) = (0.025, 0.975);

/// A rule over all runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSummary {
    /// The rule.
    pub rule: RuleInfo,
    /// Points of accuracy it loses to the best of a bin, mean over runs of the means over bins.
    pub mean: f64,
    /// Bootstrap interval of `mean`; none with fewer than two groups of runs.
    pub mean_interval: Option<Interval>,
    /// The same with the best chosen on one half of the images and scored on the other; can be negative.
    pub split: f64,
    /// Bootstrap interval of `split`; none with fewer than two groups of runs.
    pub split_interval: Option<Interval>,
    /// Mean Kendall tau-b between its value and accuracy; none when it never orders a bin.
    pub tau: Option<f64>,
    /// The same of every bin, mean over the runs in which it orders that bin.
    pub tau_by_bin: BTreeMap<BudgetId, f64>,
    /// Runs it rests on.
    pub runs: usize,
    /// Groups of runs that were resampled together.
    pub groups: usize,
    /// Bins that leave a choice, over all runs.
    pub bins: usize,
    /// Those of them in which it had no value, so that its random pick counted.
    pub silent: usize,
    /// Beside the best trivial control; none for that control, and where it loses nothing.
    pub against: Option<Against>,
}

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A rule beside the trivial control of the lowest mean split regret.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Against {
    /// The control: the best on these very runs, which flatters it.
    pub control: &'static str,
    /// Split regret of the rule over that of the control: below one the rule is better.
    pub ratio: f64,
    /// Bootstrap interval of the ratio; none with fewer than two groups, or where the control loses nothing in a resample.
    pub interval: Option<Interval>,
}

/// What every rule loses in one run, in the order of [`RULES`].
#[derive(Debug, Clone, PartialEq)]
pub struct Judged(Vec<Lost>);

/// What a rule loses in one run.
#[derive(Debug, Clone, PartialEq)]
struct Lost {
    mean: f64,
    split: f64,
    tau: Option<f64>,
    tau_by_bin: BTreeMap<BudgetId, f64>,
    bins: usize,
    silent: usize,
}

/// Every rule of [`RULES`] over many runs: a key and the evaluated stitches of each. A run weighs as much as any other.
/// The bootstrap draws whole groups of runs of equal key, which keeps together what is alike (runs of one target); with
/// keys of their own runs are drawn one by one. A bin in which a rule has no value counts as its random pick. Runs in
/// which no bin leaves a choice say nothing and are left out; of no runs nothing is said.
#[must_use]
pub fn study<K: Ord, S: AsRef<[StitchResult]>>(runs: &[(K, S)]) -> Vec<RuleSummary> {
    let judged = (0..).zip(runs).filter_map(|(number, (key, stitches))| Some((key, judge(stitches.as_ref(), number)?)));
    let judged: Vec<(&K, Judged)> = judged.collect();
    over(&judged.iter().map(|(key, judged)| (*key, judged)).collect::<Vec<_>>())
}

/// As [`study`], over runs that have been judged.
#[must_use]
pub fn over<K: Ord>(runs: &[(&K, &Judged)]) -> Vec<RuleSummary> {
    let (keys, lost): (Vec<&K>, Vec<&Vec<Lost>>) = runs.iter().map(|(key, judged)| (*key, &judged.0)).unzip();
    if lost.is_empty() {
        return Vec::new();
    }
    let samples = resamples(&keys);
    let by_run = |rule: usize, figure: fn(&Lost) -> f64| lost.iter().map(|run| figure(&run[rule])).collect::<Vec<_>>();
    let split = |rule: usize| by_run(rule, |lost| lost.split);
    let control = best_control(|rule| average(&split(rule), None));
    let summary = |(place, rule): (usize, &RuleInfo)| {
        let of_rule = || lost.iter().map(|run| &run[place]);
        let (means, splits) = (by_run(place, |lost| lost.mean), split(place));
        RuleSummary {
            rule: *rule,
            mean: average(&means, None),
            mean_interval: interval(&samples, |counts| Some(average(&means, Some(counts)))),
            split: average(&splits, None),
            split_interval: interval(&samples, |counts| Some(average(&splits, Some(counts)))),
            tau: mean(of_rule().filter_map(|lost| lost.tau)),
            tau_by_bin: means_by_bin(of_rule().flat_map(|lost| &lost.tau_by_bin)),
            runs: lost.len(),
            groups: groups(&keys).len(),
            bins: of_rule().map(|lost| lost.bins).sum(),
            silent: of_rule().map(|lost| lost.silent).sum(),
            against: control
                .filter(|control| *control != place)
                .and_then(|control| against(control, &splits, &split(control), &samples)),
        }
    };
    RULES.iter().enumerate().map(summary).collect()
}

/// The place of the trivial control that loses least.
fn best_control(split: impl Fn(usize) -> f64) -> Option<usize> {
    let trivial = |place: &usize| matches!(RULES[*place].kind, Kind::Trivial(_));
    (0..RULES.len()).filter(trivial).min_by(|a, b| split(*a).total_cmp(&split(*b)))
}

/// A rule beside a control, given their split regrets in every run.
fn against(control: usize, own: &[f64], other: &[f64], samples: &[Vec<u32>]) -> Option<Against> {
    let ratio = |counts: Option<&[u32]>| {
        let other = average(other, counts);
        (other > 0.0).then(|| average(own, counts) / other)
    };
    let interval = interval(samples, |counts| ratio(Some(counts)));
    Some(Against { control: RULES[control].name, ratio: ratio(None)?, interval })
}

/// Means of values that come with the bin they are of.
fn means_by_bin<'a>(values: impl Iterator<Item = (&'a BudgetId, &'a f64)>) -> BTreeMap<BudgetId, f64> {
    let mut bins: BTreeMap<BudgetId, Vec<f64>> = BTreeMap::new();
    values.for_each(|(bin, value)| bins.entry(*bin).or_default().push(*value));
    bins.into_iter().filter_map(|(bin, values)| Some((bin, mean(values.into_iter())?))).collect()
}

/// What every rule loses in a run; none when no bin leaves a choice. `number` seeds its shuffled tables.
#[must_use]
pub fn judge(stitches: &[StitchResult], number: u64) -> Option<Judged> {
    let measured: Vec<Measured> = stitches.iter().map(StitchResult::measured).collect();
    let one = |rule: &RuleInfo| {
        let values = values_of(rule, stitches);
        match rule.kind {
            Kind::Shuffled(_) => lost_shuffled(&measured, &values, number),
            _ => lost(&measured, &values),
        }
    };
    RULES.iter().map(one).collect::<Option<_>>().map(Judged)
}

/// What a rule says of the stitches of a run. Where the run's table has a value it is what was deployed by, so it comes
/// before what was computed afterwards.
fn values_of(rule: &RuleInfo, stitches: &[StitchResult]) -> Values {
    let value = |stitch: &StitchResult| {
        let of_table = |palette: PaletteRule| Selector::Rule(palette).value(&stitch.measured());
        let recorded = |name: &str| stitch.values.get(name).copied();
        match rule.kind {
            Kind::Table(palette) | Kind::Shuffled(palette) => of_table(palette).or_else(|| recorded(palette.name())),
            Kind::Offline | Kind::Probe => recorded(rule.name),
            Kind::Trivial(selector) => selector.value(&stitch.measured()),
        }
    };
    let finite = |stitch: &StitchResult| Some((stitch.stitch, value(stitch).filter(|value| value.is_finite())?));
    stitches.iter().filter_map(finite).collect()
}

fn lost(measured: &[Measured], values: &Values) -> Option<Lost> {
    let regret: Regret<()> = regret_of((), measured, Silence::Random, |m| values.get(&m.stitch).copied());
    let silent = regret.bins.iter().filter(|bin| bin.choice.is_none()).count();
    let tau_by_bin = regret.bins.iter().filter_map(|bin| Some((bin.budget, bin.tau?))).collect();
    Some(Lost {
        mean: regret.mean?,
        split: regret.split?,
        tau: regret.tau,
        tau_by_bin,
        bins: regret.bins.len(),
        silent,
    })
}

/// The mean over shuffled tables: values stay in their bins and go to any of its stitches.
fn lost_shuffled(measured: &[Measured], values: &Values, number: u64) -> Option<Lost> {
    let mut bins: BTreeMap<BudgetId, Vec<StitchId>> = BTreeMap::new();
    measured.iter().for_each(|m| bins.entry(m.budget).or_default().push(m.stitch));
    let shuffled = |shuffle: u64| {
        let mut rng = rng(*b"shuffle.", number * SHUFFLES + shuffle);
        let deal = |stitches: &Vec<StitchId>| {
            let mut dealt: Vec<Option<f64>> = stitches.iter().map(|stitch| values.get(stitch).copied()).collect();
            dealt.shuffle(&mut rng);
            stitches.iter().copied().zip(dealt).collect::<Vec<_>>()
        };
        let dealt = bins.values().flat_map(deal).filter_map(|(stitch, value)| Some((stitch, value?)));
        lost(measured, &dealt.collect())
    };
    let all: Vec<Lost> = (0..SHUFFLES).map(shuffled).collect::<Option<_>>()?;
    Some(Lost {
        mean: mean(all.iter().map(|lost| lost.mean))?,
        split: mean(all.iter().map(|lost| lost.split))?,
        tau: mean(all.iter().filter_map(|lost| lost.tau)),
        tau_by_bin: means_by_bin(all.iter().flat_map(|lost| &lost.tau_by_bin)),
        ..all.into_iter().next()?
    })
}

/// Places of the runs of each key.
fn groups<K: Ord>(keys: &[&K]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<&K, Vec<usize>> = BTreeMap::new();
    keys.iter().enumerate().for_each(|(place, key)| groups.entry(*key).or_default().push(place));
    groups.into_values().collect()
}

/// How often each run is in each resample; no resamples of fewer than two groups.
fn resamples<K: Ord>(keys: &[&K]) -> Vec<Vec<u32>> {
    let groups = groups(keys);
    if groups.len() < 2 {
        return Vec::new();
    }
    let sample = |number: u64| {
        let mut rng = rng(*b"resample", number);
        let mut counts = vec![0; keys.len()];
        for _ in 0..groups.len() {
            groups[rng.random_range(0..groups.len())].iter().for_each(|run| counts[*run] += 1);
        }
        counts
    };
    (0..RESAMPLES).map(sample).collect()
}

/// Where the middle 95 % of a statistic lie over resamples; none of none, or where one has no value.
fn interval(samples: &[Vec<u32>], statistic: impl Fn(&[u32]) -> Option<f64>) -> Option<Interval> {
    let mut values: Vec<f64> = samples.iter().map(|counts| statistic(counts)).collect::<Option<_>>()?;
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let quantile = |share: f64| {
        let place = share * last as f64;
        let below = values[place.floor() as usize];
        below + (values[place.ceil() as usize] - below) * place.fract()
    };
    Some(Interval { low: quantile(TAILS.0), high: quantile(TAILS.1) })
}

/// Mean of a value of every run, each as often as `counts` says, once where nothing is said.
fn average(values: &[f64], counts: Option<&[u32]>) -> f64 {
    let count = |run: usize| counts.map_or(1.0, |counts| f64::from(counts[run]));
    let weighted = |(run, value): (usize, &f64)| (count(run) * value, count(run));
    let (sum, total) = values.iter().enumerate().map(weighted).fold((0.0, 0.0), |(s, t), (v, w)| (s + v, t + w));
    sum / total
}

/// The generator of one purpose and number, the same in every study.
fn rng(purpose: [u8; 8], number: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&purpose);
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(number);
    rng
}

#[cfg(test)]
mod tests;
