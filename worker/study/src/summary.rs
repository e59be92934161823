//! What a study's results say (LAW: pure): fronts, paired effects with standard errors, regrets of rules.

use std::collections::BTreeMap;

use esta_engine::{regret::Measured, spec::PaletteRule};

use crate::{
    cell::{CellResult, Costs, StitchResult},
    plan::{Claim, Study},
};

/// One point of a front: a constraint of this many MACs is answered with this accuracy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrontPoint {
    /// MACs of the model that answers.
    pub macs: u64,
    /// Its held-out accuracy 0..1.
    pub accuracy: f64,
}

/// How constraints are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// By a palette rule.
    Rule(PaletteRule),
    /// By held-out accuracy: what the best rule could reach.
    Oracle,
    /// By the largest that fits: the only rule for anchors tuned alone.
    Largest,
}

/// The palette of one target and seed: the union of an arm's parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Stitches in ascending cost.
    pub stitches: Vec<StitchResult>,
    /// Costs of all parts: sums, but for memory, whose largest counts.
    pub costs: Costs,
}

/// An arm over targets and seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmSummary {
    /// Its name.
    pub name: String,
    /// What it is.
    pub words: String,
    /// How its palettes answer.
    pub answer: Answer,
    /// By target name, then seed.
    pub outcomes: BTreeMap<String, BTreeMap<u64, Outcome>>,
    /// Mean area under the front in percent, over targets of the means over seeds; none without results.
    pub area: Option<f64>,
    /// The same where the best answers.
    pub oracle_area: Option<f64>,
    /// Mean costs of a palette.
    pub costs: Option<Costs>,
}

/// A difference in points of area under the front, paired by target and seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Mean over targets of the means over seeds.
    pub mean: f64,
    /// Standard error over targets; none with fewer than two.
    pub error: Option<f64>,
    /// By target name.
    pub targets: BTreeMap<String, f64>,
    /// Pairs it rests on.
    pub pairs: usize,
    /// Time of one side's training over that of the other ([`time_ratio`]).
    pub time: Option<f64>,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// More than two standard errors above zero.
    Holds,
    /// More than two standard errors below zero.
    Reversed,
    /// Neither.
    Open,
    /// Results are missing.
    Unknown,
}

/// A claim with its figures.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimSummary {
    /// The claim.
    pub claim: Claim,
    /// The effect; none while results are missing.
    pub effect: Option<Effect>,
    /// What it comes to.
    pub verdict: Verdict,
}

/// A study's results, put together.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Arms in the study's order.
    pub arms: Vec<ArmSummary>,
    /// Claims in the study's order.
    pub claims: Vec<ClaimSummary>,
    /// Cells wanted and there.
    pub cells: (usize, usize),
}

impl Answer {
    /// What it compares, higher is better.
    fn value(self, stitch: &StitchResult) -> Option<f64> {
        match self {
            Self::Rule(rule) => rule.value(&stitch.row),
            Self::Oracle => Some(stitch.accuracy),
            Self::Largest => Some(stitch.macs as f64),
        }
    }
}

impl Outcome {
    /// One palette of the results of an arm's parts.
    #[must_use]
    pub fn of(parts: &[&CellResult]) -> Self {
        let mut stitches: Vec<StitchResult> = parts.iter().flat_map(|part| part.stitches.clone()).collect();
        stitches.sort_by_key(|stitch| (stitch.macs, stitch.stitch));
        let sum = |of: fn(&Costs) -> f64| parts.iter().map(|part| of(&part.costs)).sum::<f64>();
        let count = |of: fn(&Costs) -> u64| parts.iter().map(|part| of(&part.costs)).sum::<u64>();
        let costs = Costs {
            train_seconds: sum(|costs| costs.train_seconds),
            cpu_seconds: parts.iter().map(|part| part.costs.cpu_seconds).sum(),
            eval_seconds: sum(|costs| costs.eval_seconds),
            images: count(|costs| costs.images),
            held_out: parts.iter().map(|part| part.costs.held_out).max().unwrap_or(0),
            peak_memory: parts.iter().filter_map(|part| part.costs.peak_memory).max(),
            trained_params: count(|costs| costs.trained_params),
            state_bytes: count(|costs| costs.state_bytes),
        };
        Self { stitches, costs }
    }

    /// The models that ascending constraints are answered with: at every cost the best by `answer` at or below it.
    #[must_use]
    pub fn front(&self, answer: Answer) -> Vec<FrontPoint> {
        let mut front: Vec<FrontPoint> = Vec::new();
        let mut best = f64::NEG_INFINITY;
        for stitch in &self.stitches {
            let Some(value) = answer.value(stitch).filter(|value| *value > best) else { continue };
            best = value;
            let point = FrontPoint { macs: stitch.macs, accuracy: stitch.accuracy };
            match front.last_mut() {
                Some(last) if last.macs == point.macs => *last = point,
                _ => front.push(point),
            }
        }
        front
    }

    /// Mean accuracy in percent over constraints from `lowest` to `highest` MACs, equally spaced by ratio; a constraint
    /// that nothing fits counts as zero.
    #[must_use]
    pub fn area(&self, answer: Answer, (lowest, highest): (u64, u64)) -> f64 {
        let (low, high) = ((lowest as f64).ln(), (highest as f64).ln());
        let front = self.front(answer);
        let ends = front.iter().skip(1).map(|point| point.macs).chain([highest]);
        let pieces = front.iter().zip(ends).map(|(point, end)| {
            let (from, to) = ((point.macs as f64).ln().clamp(low, high), (end as f64).ln().clamp(low, high));
            point.accuracy * (to - from)
        });
        100.0 * pieces.sum::<f64>() / (high - low)
    }

    /// What the engine's regrets are computed from.
    #[must_use]
    pub fn measured(&self) -> Vec<Measured> {
        self.stitches.iter().map(StitchResult::measured).collect()
    }

    /// Least and greatest cost.
    #[must_use]
    pub fn span(&self) -> Option<(u64, u64)> {
        Some((self.stitches.first()?.macs, self.stitches.last()?.macs))
    }
}

impl Summary {
    /// Puts results together; those of cells that the study does not have are left out.
    #[must_use]
    pub fn of(study: &Study, results: &[CellResult]) -> Self {
        let cells = study.cells();
        let there = cells.iter().filter(|cell| results.iter().any(|result| result.id == cell.id)).count();
        let outcomes: Vec<_> = study.arms.iter().map(|arm| outcomes(study, &arm.name, results)).collect();
        let arms: Vec<ArmSummary> = study
            .arms
            .iter()
            .zip(outcomes)
            .map(|(arm, outcomes)| {
                let answer = answer_of(&outcomes);
                let area = |answer| {
                    mean_of_means(&outcomes, |target, outcome| outcome.area(answer, span(study, results, target)))
                };
                ArmSummary {
                    name: arm.name.clone(),
                    words: arm.words.clone(),
                    answer,
                    area: area(answer),
                    oracle_area: area(Answer::Oracle),
                    costs: mean_costs(&outcomes),
                    outcomes,
                }
            })
            .collect();
        let claims = study.claims.iter().map(|claim| judge(study, results, &arms, claim)).collect();
        Self { arms, claims, cells: (cells.len(), there) }
    }

    /// The arm of this name.
    #[must_use]
    pub fn arm(&self, name: &str) -> Option<&ArmSummary> {
        self.arms.iter().find(|arm| arm.name == name)
    }
}

/// Anchors that were tuned alone answer by size: their losses are not compared in training.
fn answer_of(outcomes: &BTreeMap<String, BTreeMap<u64, Outcome>>) -> Answer {
    let all = outcomes.values().flat_map(BTreeMap::values).flat_map(|outcome| &outcome.stitches);
    let mut all = all.peekable();
    match all.peek().is_some() && all.all(|stitch| stitch.anchor) {
        true => Answer::Largest,
        false => Answer::Rule(PaletteRule::Auto),
    }
}

/// Complete palettes by target and seed.
fn outcomes(study: &Study, arm: &str, results: &[CellResult]) -> BTreeMap<String, BTreeMap<u64, Outcome>> {
    let mut all: BTreeMap<String, BTreeMap<u64, Outcome>> = BTreeMap::new();
    let wanted = study.arms.iter().find(|one| one.name == arm).map_or(1, |arm| arm.parts.len().max(1));
    for target in &study.targets {
        for &seed in &study.seeds {
            let of_cell = |result: &&CellResult| {
                result.id.target == target.name && result.id.arm == arm && result.id.seed == seed
            };
            let parts: Vec<&CellResult> = results.iter().filter(of_cell).collect();
            if parts.len() == wanted {
                all.entry(target.name.clone()).or_default().insert(seed, Outcome::of(&parts));
            }
        }
    }
    all
}

/// Constraints of a target: the same for all arms, from the cheapest to the dearest anchor of the family.
pub(crate) fn span(_study: &Study, results: &[CellResult], target: &str) -> (u64, u64) {
    let anchors = results
        .iter()
        .filter(|result| result.id.target == target)
        .flat_map(|result| result.stitches.iter().filter(|stitch| stitch.anchor).map(|stitch| stitch.macs));
    anchors.fold((u64::MAX, 0), |(low, high), macs| (low.min(macs), high.max(macs)))
}

fn mean_of_means(
    outcomes: &BTreeMap<String, BTreeMap<u64, Outcome>>,
    value: impl Fn(&str, &Outcome) -> f64,
) -> Option<f64> {
    mean(outcomes.iter().filter_map(|(target, seeds)| mean(seeds.values().map(|outcome| value(target, outcome)))))
}

fn mean_costs(outcomes: &BTreeMap<String, BTreeMap<u64, Outcome>>) -> Option<Costs> {
    let all: Vec<Costs> = outcomes.values().flat_map(BTreeMap::values).map(|outcome| outcome.costs).collect();
    let count = |of: fn(&Costs) -> u64| mean(all.iter().map(|costs| of(costs) as f64)).map(|mean| mean.round() as u64);
    Some(Costs {
        train_seconds: mean(all.iter().map(|costs| costs.train_seconds))?,
        cpu_seconds: mean(all.iter().filter_map(|costs| costs.cpu_seconds)),
        eval_seconds: mean(all.iter().map(|costs| costs.eval_seconds))?,
        images: count(|costs| costs.images)?,
        held_out: count(|costs| costs.held_out)?,
        peak_memory: all.iter().filter_map(|costs| costs.peak_memory).max(),
        trained_params: count(|costs| costs.trained_params)?,
        state_bytes: count(|costs| costs.state_bytes)?,
    })
}

fn judge(study: &Study, results: &[CellResult], arms: &[ArmSummary], claim: &Claim) -> ClaimSummary {
    let find = |name: &str| arms.iter().find(|arm| arm.name == name);
    let effect = find(&claim.arm).zip(find(&claim.against)).and_then(|(arm, against)| {
        effect(arm, against, |arm, target, outcome| outcome.area(arm.answer, span(study, results, target)))
    });
    let verdict = effect.as_ref().map_or(Verdict::Unknown, Effect::verdict);
    ClaimSummary { claim: claim.clone(), effect, verdict }
}

/// The paired difference of two arms in `value`; none without a pair.
pub fn effect(
    arm: &ArmSummary,
    against: &ArmSummary,
    value: impl Fn(&ArmSummary, &str, &Outcome) -> f64,
) -> Option<Effect> {
    let mut targets = BTreeMap::new();
    let mut pairs = 0;
    let mut costs = Vec::new();
    for (target, seeds) in &arm.outcomes {
        let Some(others) = against.outcomes.get(target) else { continue };
        let both: Vec<(&Outcome, &Outcome)> =
            seeds.iter().filter_map(|(seed, outcome)| Some((outcome, others.get(seed)?))).collect();
        costs.extend(both.iter().map(|(one, other)| (one.costs, other.costs)));
        let paired: Vec<f64> =
            both.iter().map(|(one, other)| value(arm, target, one) - value(against, target, other)).collect();
        pairs += paired.len();
        if let Some(mean) = mean(paired.into_iter()) {
            targets.insert(target.clone(), mean);
        }
    }
    let mean = mean(targets.values().copied())?;
    let error = standard_error(&targets.values().copied().collect::<Vec<_>>());
    Some(Effect { mean, error, targets, pairs, time: time_ratio(&costs) })
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
    /// What two standard errors say.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.error {
            Some(error) if self.mean > 2.0 * error => Verdict::Holds,
            Some(error) if self.mean < -2.0 * error => Verdict::Reversed,
            _ => Verdict::Open,
        }
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
