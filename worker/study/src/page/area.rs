//! The area under every arm's front, beside what the best rule could reach (HANDS).

use std::collections::BTreeMap;

use esta_page::{
    markup::{escape, missing, section as markup_section},
    numbers::or_dash,
    table::{Best, mark_best, table},
};

use super::view::{View, counted};
use crate::summary::{ArmSummary, By, mean};

const TITLE: &str = "Area under the front";

pub fn section(view: &View<'_>) -> String {
    let lead = "Mean accuracy in points over constraints from the cheapest to the dearest anchor, equally spaced by \
        ratio; a constraint that nothing fits counts as zero. Each arm answers by its own rule, which its job deploys by; \
        the mean is given once more with one rule, <code>auto</code>, for all arms. Anchors tuned alone answer with the \
        largest that fits. Beside each, smaller: the area if the most accurate \
        stitch that fits answered every constraint, chosen by held-out accuracy. No rule can reach more, and noise \
        flatters it. The best of a column is marked among arms with all their targets.";
    if view.summary.arms.iter().all(|arm| arm.outcomes.is_empty()) {
        return markup_section(TITLE, lead, &missing("No arm has a whole palette on any target yet."));
    }
    let names: Vec<String> = view.study.targets.iter().map(|target| escape(&target.name)).collect();
    let heads: Vec<&str> = ["arm", "its rule"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .chain(["mean, own rule", "mean, one rule", "palettes"])
        .collect();
    markup_section(TITLE, lead, &table(&heads, 2, &rows(view)))
}

fn rows(view: &View<'_>) -> Vec<Vec<String>> {
    let arms = &view.summary.arms;
    let of_target = |target: &str| {
        let areas = arms.iter().map(|arm| target_area(view, arm, target, By::Own)).collect();
        let oracles = arms.iter().map(|arm| target_area(view, arm, target, By::Oracle)).collect();
        column(areas, oracles)
    };
    let mut columns: Vec<Vec<String>> = view.study.targets.iter().map(|target| of_target(&target.name)).collect();
    let oracles: Vec<Option<f64>> = arms.iter().map(|arm| whole(view, arm).and_then(|arm| arm.oracle_area)).collect();
    columns.push(beside(mean_column(view, |arm| arm.area), &oracles));
    columns.push(mean_column(view, |arm| arm.one_rule_area));
    columns.push(arms.iter().map(|arm| palettes(view, arm)).collect());
    let row = |(place, arm): (usize, &ArmSummary)| {
        [escape(&arm.name), rules(arm)].into_iter().chain(columns.iter().map(|column| column[place].clone())).collect()
    };
    arms.iter().enumerate().map(row).collect()
}

/// Mean over seeds; none without a palette.
fn target_area(view: &View<'_>, arm: &ArmSummary, target: &str, by: By) -> Option<f64> {
    let span = view.span(target)?;
    let outcomes = arm.outcomes.get(target).into_iter().flat_map(BTreeMap::values);
    mean(outcomes.map(|outcome| outcome.area(by, span)))
}

fn points(value: f64) -> String {
    format!("{value:.2}")
}

fn column(areas: Vec<Option<f64>>, oracles: Vec<Option<f64>>) -> Vec<String> {
    beside(mark_best(&areas, Best::Highest, points), &oracles)
}

fn beside(cells: Vec<String>, oracles: &[Option<f64>]) -> Vec<String> {
    let oracle = |oracle: &Option<f64>| {
        oracle.map_or_else(String::new, |area| format!("\u{a0} <small>of {}</small>", points(area)))
    };
    cells.into_iter().zip(oracles).map(|(cell, area)| cell + &oracle(area)).collect()
}

/// The rules an arm answers by.
fn rules(arm: &ArmSummary) -> String {
    let rules = arm.rules();
    if rules.is_empty() { "–".to_owned() } else { escape(&rules.join(", ")) }
}

/// An arm with all targets of the study.
fn whole<'a>(view: &View<'_>, arm: &'a ArmSummary) -> Option<&'a ArmSummary> {
    (arm.outcomes.len() == view.study.targets.len()).then_some(arm)
}

/// Means over targets; those over some targets only are named so and compared with nobody.
fn mean_column(view: &View<'_>, area: fn(&ArmSummary) -> Option<f64>) -> Vec<String> {
    let arms = &view.summary.arms;
    let compared: Vec<Option<f64>> = arms.iter().map(|arm| whole(view, arm).and_then(area)).collect();
    let marked = mark_best(&compared, Best::Highest, points);
    let cell = |(arm, cell): (&ArmSummary, String)| {
        if whole(view, arm).is_some() {
            return cell;
        }
        or_dash(area(arm), |area| {
            format!("{}\u{a0} <small>{}</small>", points(area), counted(arm.outcomes.len(), "target"))
        })
    };
    arms.iter().zip(marked).map(cell).collect()
}

/// Palettes that are there, of those wanted.
fn palettes(view: &View<'_>, arm: &ArmSummary) -> String {
    let there: usize = arm.outcomes.values().map(BTreeMap::len).sum();
    let wanted = view.targets_of(arm) * view.study.seeds.len();
    if there == wanted { there.to_string() } else { format!("{there} of {wanted}") }
}
