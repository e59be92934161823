//! Trials of rules on a study's runs, ready for its page (HANDS): one group for each space of stitches.

use std::collections::BTreeMap;

use esta_engine::spec::PaletteRule;
use esta_proto::BudgetId;

use crate::{
    page::{ArmLine, Loss, Role, RuleGroup, RuleLine, selection::points},
    plan::Study,
    selection::{self, Judged, Kind, RuleSummary},
    summary::{ArmSummary, Summary},
};

const SPACE: &str = "family.space.kind=";

/// Runs of one space, judged: those of an arm stand together.
#[derive(Default)]
struct Space<'a> {
    /// Runs so far: the number of one seeds its shuffled tables.
    runs: u64,
    arms: Vec<(&'a str, Vec<(&'a str, Judged)>)>,
}

/// What every rule loses, over all arms that leave a choice, by the space that the arms name, and what the product's
/// rules lose in each of these arms. Runs of one target are resampled together.
#[must_use]
pub fn groups(study: &Study, summary: &Summary) -> Vec<RuleGroup> {
    let mut spaces: BTreeMap<&str, Space<'_>> = BTreeMap::new();
    for (plan, arm) in study.arms.iter().zip(&summary.arms) {
        let named = study.set.iter().chain(&plan.set).rev().find_map(|setting| setting.strip_prefix(SPACE));
        spaces.entry(named.unwrap_or_default()).or_default().judge(arm);
    }
    let filled = spaces.into_iter().filter(|(_, space)| !space.arms.is_empty());
    filled.map(|(name, space)| group(name, &space)).collect()
}

impl<'a> Space<'a> {
    /// Adds the runs of an arm that leave a choice.
    fn judge(&mut self, arm: &'a ArmSummary) {
        let mut judged = Vec::new();
        for (target, seeds) in &arm.outcomes {
            for outcome in seeds.values().filter(|outcome| !outcome.is_lone()) {
                judged.extend(selection::judge(&outcome.stitches, self.runs).map(|run| (target.as_str(), run)));
                self.runs += 1;
            }
        }
        if !judged.is_empty() {
            self.arms.push((&arm.name, judged));
        }
    }
}

fn over<'a>(runs: impl Iterator<Item = &'a (&'a str, Judged)>) -> Vec<RuleSummary> {
    selection::over(&runs.map(|(target, judged)| (target, judged)).collect::<Vec<_>>())
}

fn group(space: &str, judged: &Space<'_>) -> RuleGroup {
    let rules = over(judged.arms.iter().flat_map(|(_, runs)| runs));
    let (runs, bins) = rules.first().map_or((0, 0), |rule| (rule.runs, rule.bins));
    let title = if space.is_empty() { "In the job's own space".to_owned() } else { format!("In the {space} space") };
    RuleGroup {
        title,
        words: format!(
            "{runs} runs of all arms, {bins} budgets that leave a choice; runs of one target resampled together."
        ),
        shipped: PaletteRule::Auto.name().to_owned(),
        lines: lines(&rules),
        arms: judged.arms.iter().filter_map(|(name, runs)| arm_line(name, &over(runs.iter()))).collect(),
    }
}

fn lines(rules: &[RuleSummary]) -> Vec<RuleLine> {
    rules.iter().filter(|rule| was_tried(rule)).map(line).collect()
}

/// What the rules of the product lose in one arm, beside the best trivial control of that arm.
fn arm_line(name: &str, rules: &[RuleSummary]) -> Option<ArmLine> {
    let of = |name: &str| rules.iter().find(|rule| rule.rule.name == name);
    let loss = |rule: &RuleSummary| Loss { mean: rule.mean, split: rule.split };
    let auto = of(PaletteRule::Auto.name())?;
    let trivial = rules.iter().filter(|rule| matches!(rule.rule.kind, Kind::Trivial(_)));
    let control = trivial.min_by(|a, b| a.split.total_cmp(&b.split))?;
    Some(ArmLine {
        arm: name.to_owned(),
        runs: auto.runs,
        auto: loss(auto),
        snip: loss(of(PaletteRule::Snip.name())?),
        control: control.rule.name.to_owned(),
        best_control: loss(control),
        interval: auto.against.as_ref().and_then(|against| against.interval).map(|i| (i.low, i.high)),
    })
}

/// A rule that needs a look after training was tried only where somebody looked.
fn was_tried(summary: &RuleSummary) -> bool {
    summary.rule.kind != Kind::Probe || summary.silent < summary.bins
}

fn line(summary: &RuleSummary) -> RuleLine {
    let silent = match summary.silent {
        _ if role(summary.rule.kind) != Role::Rule => String::new(),
        0 => String::new(),
        silent => format!("silent in {silent} of {} budgets, where any pick counts; ", summary.bins),
    };
    let note = summary.against.as_ref().map_or_else(String::new, |against| {
        let within =
            against.interval.map_or_else(String::new, |i| format!(" ({} to {})", points(i.low), points(i.high)));
        format!("{}{within} of what {} loses, split halves", points(against.ratio), against.control)
    });
    RuleLine {
        rule: summary.rule.name.to_owned(),
        words: summary.rule.words.to_owned(),
        cost: summary.rule.cost.to_owned(),
        role: role(summary.rule.kind),
        mean: Some(summary.mean),
        split: Some(summary.split),
        interval: summary.mean_interval.map(|interval| (interval.low, interval.high)),
        split_interval: summary.split_interval.map(|interval| (interval.low, interval.high)),
        tau: summary.tau,
        tau_by_budget: summary.tau_by_bin.iter().map(|(BudgetId(budget), tau)| (*budget, *tau)).collect(),
        note: (silent + &note).trim_end_matches("; ").to_owned(),
    }
}

fn role(kind: Kind) -> Role {
    match kind {
        Kind::Table(_) | Kind::Offline | Kind::Probe => Role::Rule,
        Kind::Trivial(_) => Role::Trivial,
        Kind::Shuffled(_) => Role::Shuffled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::RULES;

    fn summary(name: &str, silent: usize) -> RuleSummary {
        let rule = *RULES.iter().find(|rule| rule.name == name).expect("a rule");
        let (mean, split) = (1.0, 1.0);
        let (mean_interval, split_interval, tau, against) = (None, None, None, None);
        RuleSummary {
            rule,
            mean,
            mean_interval,
            split,
            split_interval,
            tau,
            tau_by_bin: BTreeMap::new(),
            runs: 1,
            groups: 1,
            bins: 4,
            silent,
            against,
        }
    }

    #[test]
    fn rules_that_nobody_looked_for_are_not_shown_as_if_they_had_been_tried() {
        let rules = [
            summary("auto", 1),
            summary("train-loss", 0),
            summary("slice", 4),
            summary("kl-own", 2),
            summary("random", 4),
            summary("shuffled", 0),
        ];
        let lines = lines(&rules);
        let said: Vec<_> = lines.iter().map(|line| (line.rule.as_str(), line.note.as_str())).collect();
        assert_eq!(
            said,
            [
                ("auto", "silent in 1 of 4 budgets, where any pick counts"),
                ("train-loss", ""),
                ("kl-own", "silent in 2 of 4 budgets, where any pick counts"),
                ("random", ""),
                ("shuffled", "")
            ]
        );
        assert_eq!([3, 4].map(|place: usize| lines[place].role), [Role::Trivial, Role::Shuffled]);
    }
}
