//! What a study's results say (LAW: pure): fronts, paired effects with standard errors, regrets of rules.

mod effect;
mod outcome;

use std::collections::{BTreeMap, BTreeSet};

pub use self::{
    effect::{Effect, Over, Verdict, effect, mean, standard_error, student, time_ratio, verdict},
    outcome::{Answer, By, FrontPoint, ONE_RULE, Outcome},
};
use crate::{
    cell::{CellResult, Costs},
    jobs::Jobs,
    plan::{Claim, Study},
};

/// An arm over targets and seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct ArmSummary {
    /// Its name.
    pub name: String,
    /// What it is.
    pub words: String,
    /// By target name, then seed.
    pub outcomes: BTreeMap<String, BTreeMap<u64, Outcome>>,
    /// Mean area under the front in percent by its own rule, over targets of the means over seeds; none without results.
    pub area: Option<f64>,
    /// The same by the one rule for all arms.
    pub one_rule_area: Option<f64>,
    /// The same where the best answers.
    pub oracle_area: Option<f64>,
    /// Mean costs of a palette.
    pub costs: Option<Costs>,
}

/// A claim with its figures.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimSummary {
    /// The claim.
    pub claim: Claim,
    /// The effect on the area, each arm by its own rule; none while results are missing.
    pub own: Option<Effect>,
    /// The same with one rule for both: training apart from selection.
    pub one_rule: Option<Effect>,
    /// Where one side is anchors tuned alone: the effect at each one's own cost.
    pub at_anchors: Vec<AnchorEffect>,
}

/// A difference in points of accuracy at the cost of one anchor.
#[derive(Debug, Clone, PartialEq)]
pub struct AnchorEffect {
    /// The anchor's name.
    pub anchor: String,
    /// Each arm by its own rule.
    pub own: Option<Effect>,
    /// One rule for both.
    pub one_rule: Option<Effect>,
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

impl ArmSummary {
    fn all(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.values().flat_map(BTreeMap::values)
    }

    /// Whether it is anchors tuned alone; not known, and so not, before it has a palette.
    #[must_use]
    pub fn is_lone(&self) -> bool {
        !self.outcomes.is_empty() && self.all().all(Outcome::is_lone)
    }

    /// Names of the rules it answers by.
    #[must_use]
    pub fn rules(&self) -> Vec<&'static str> {
        let names: BTreeSet<&str> = self.all().map(|outcome| outcome.answer(By::Own).name()).collect();
        names.into_iter().collect()
    }
}

impl Summary {
    /// Puts results together; those of cells that the study does not have are left out.
    #[must_use]
    pub fn of(study: &Study, results: &[CellResult], jobs: &Jobs) -> Self {
        let cells = study.cells();
        let there = cells.iter().filter(|cell| results.iter().any(|result| result.id == cell.id)).count();
        let arms: Vec<ArmSummary> = study
            .arms
            .iter()
            .map(|arm| {
                let outcomes = outcomes(study, &arm.name, results, jobs);
                let area =
                    |by| mean_of_means(&outcomes, |target, outcome| outcome.area(by, span(study, results, target)));
                ArmSummary {
                    name: arm.name.clone(),
                    words: arm.words.clone(),
                    area: area(By::Own),
                    one_rule_area: area(By::OneRule),
                    oracle_area: area(By::Oracle),
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

/// Complete palettes by target and seed.
fn outcomes(study: &Study, arm: &str, results: &[CellResult], jobs: &Jobs) -> BTreeMap<String, BTreeMap<u64, Outcome>> {
    let mut all: BTreeMap<String, BTreeMap<u64, Outcome>> = BTreeMap::new();
    let wanted = study.arms.iter().find(|one| one.name == arm).map_or(1, |arm| arm.parts.len().max(1));
    for target in &study.targets {
        let rule = jobs.rule(arm, &target.name);
        for &seed in &study.seeds {
            let of_cell = |result: &&CellResult| {
                result.id.target == target.name && result.id.arm == arm && result.id.seed == seed
            };
            let parts: Vec<&CellResult> = results.iter().filter(of_cell).collect();
            if parts.len() == wanted {
                all.entry(target.name.clone()).or_default().insert(seed, Outcome::of(&parts, rule));
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

fn judge<'a>(study: &Study, results: &[CellResult], arms: &'a [ArmSummary], claim: &Claim) -> ClaimSummary {
    let find = |name: &str| arms.iter().find(|arm| arm.name == name);
    let sides = find(&claim.arm).zip(find(&claim.against));
    let area = |by: By| {
        let (arm, against) = sides?;
        effect(arm, against, |target, outcome| outcome.area(by, span(study, results, target)))
    };
    let lone = |(arm, against): (&'a ArmSummary, &'a ArmSummary)| {
        [against, arm].into_iter().find(|side| side.is_lone()).map(|lone| at_anchors_of(arm, against, lone))
    };
    ClaimSummary {
        claim: claim.clone(),
        own: area(By::Own),
        one_rule: area(By::OneRule),
        at_anchors: sides.and_then(lone).unwrap_or_default(),
    }
}

/// What two arms answer at the cost of each anchor that one of them tuned alone.
fn at_anchors_of(arm: &ArmSummary, against: &ArmSummary, lone: &ArmSummary) -> Vec<AnchorEffect> {
    // Targets differ in classes and so, a little, in costs: anchors are told by name.
    let costs = |target: &str| -> BTreeMap<&str, u64> {
        let outcomes = lone.outcomes.get(target).into_iter().flat_map(BTreeMap::values);
        outcomes.flat_map(|outcome| &outcome.stitches).map(|anchor| (anchor.path.as_str(), anchor.macs)).collect()
    };
    let mut anchors: Vec<(u64, &str)> = Vec::new();
    for (name, macs) in lone.outcomes.keys().flat_map(|target| costs(target)) {
        if anchors.iter().all(|(_, known)| *known != name) {
            anchors.push((macs, name));
        }
    }
    anchors.sort_unstable();
    let at = |name: &str, by: By| {
        effect(arm, against, |target, outcome| {
            costs(target).get(name).map_or(0.0, |macs| outcome.accuracy_at(by, *macs))
        })
    };
    let one = |(_, name): (u64, &str)| AnchorEffect {
        anchor: name.to_owned(),
        own: at(name, By::Own),
        one_rule: at(name, By::OneRule),
    };
    anchors.into_iter().map(one).collect()
}
