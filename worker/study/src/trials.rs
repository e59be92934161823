//! Trials of rules on a study's runs, ready for its page (HANDS): one group for each space of stitches.

use std::collections::BTreeMap;

use esta_engine::spec::PaletteRule;

use crate::{
    cell::StitchResult,
    page::{RuleGroup, RuleLine},
    plan::Study,
    selection::{self, Kind, RuleSummary},
    summary::Summary,
};

const SPACE: &str = "family.space.kind=";

/// What every rule loses, over all arms that leave a choice, by the space that the arms name. Runs of one target are
/// resampled together.
#[must_use]
pub fn groups(study: &Study, summary: &Summary) -> Vec<RuleGroup> {
    let mut spaces: BTreeMap<&str, Vec<(&str, &[StitchResult])>> = BTreeMap::new();
    for (arm, outcomes) in study.arms.iter().zip(summary.arms.iter().map(|arm| &arm.outcomes)) {
        let named = study.set.iter().chain(&arm.set).rev().find_map(|setting| setting.strip_prefix(SPACE));
        for (target, seeds) in outcomes {
            let runs = seeds.values().map(|outcome| outcome.stitches.as_slice());
            let runs = runs.filter(|stitches| stitches.iter().any(|stitch| !stitch.anchor));
            spaces.entry(named.unwrap_or_default()).or_default().extend(runs.map(|run| (target.as_str(), run)));
        }
    }
    let filled = spaces.into_iter().filter(|(_, runs)| !runs.is_empty());
    filled.map(|(space, runs)| group(space, &selection::study(&runs))).collect()
}

fn group(space: &str, rules: &[RuleSummary]) -> RuleGroup {
    let (runs, bins) = rules.first().map_or((0, 0), |rule| (rule.runs, rule.bins));
    let title = if space.is_empty() { "In the job's own space".to_owned() } else { format!("In the {space} space") };
    RuleGroup {
        title,
        words: format!(
            "{runs} runs of all arms, {bins} budgets that leave a choice; runs of one target resampled together."
        ),
        shipped: PaletteRule::Auto.name().to_owned(),
        lines: rules.iter().filter(|rule| was_tried(rule)).map(line).collect(),
    }
}

/// A rule that needs a look after training was tried only where somebody looked.
fn was_tried(summary: &RuleSummary) -> bool {
    summary.rule.kind != Kind::Probe || summary.silent < summary.bins
}

fn line(summary: &RuleSummary) -> RuleLine {
    let silent = match summary.silent {
        _ if matches!(summary.rule.kind, Kind::Trivial(_)) => String::new(),
        0 => String::new(),
        silent => format!("silent in {silent} of {} budgets, where any pick counts; ", summary.bins),
    };
    let note = summary.against.as_ref().map_or_else(String::new, |against| {
        let within = against.interval.map_or_else(String::new, |i| format!(" ({:.2} to {:.2})", i.low, i.high));
        format!("{:.2}{within} of what {} loses, split halves", against.ratio, against.control)
    });
    RuleLine {
        rule: summary.rule.name.to_owned(),
        words: summary.rule.words.to_owned(),
        cost: summary.rule.cost.to_owned(),
        control: matches!(summary.rule.kind, Kind::Trivial(_)),
        mean: Some(summary.mean),
        split: Some(summary.split),
        interval: summary.mean_interval.map(|interval| (interval.low, interval.high)),
        tau: summary.tau,
        note: (silent + &note).trim_end_matches("; ").to_owned(),
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
        ];
        let lines = group("", &rules).lines;
        let said: Vec<_> = lines.iter().map(|line| (line.rule.as_str(), line.note.as_str())).collect();
        assert_eq!(
            said,
            [
                ("auto", "silent in 1 of 4 budgets, where any pick counts"),
                ("train-loss", ""),
                ("kl-own", "silent in 2 of 4 budgets, where any pick counts"),
                ("random", "")
            ]
        );
    }
}
