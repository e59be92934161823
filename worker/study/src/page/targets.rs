//! What is adapted to and what is compared (HANDS).

use esta_page::{
    markup::{escape, section as markup_section},
    numbers::{count, macs, or_dash},
    table::captioned_table,
};

use super::view::{View, code, sentence, wrapped};
use crate::plan::{Arm, Target};

pub fn section(view: &View<'_>) -> String {
    let lead = "Each target is a job file; an arm lays its settings over it. An arm of several parts is several runs \
        whose models are one palette.";
    let targets: Vec<Vec<String>> = view.study.targets.iter().map(|target| target_row(view, target)).collect();
    let arms: Vec<Vec<String>> = everywhere(view).into_iter().chain(view.study.arms.iter().map(arm_row)).collect();
    let heads = ["target", "what it is", "job", "constraints", "held-out images"];
    let body = captioned_table("<b>Targets</b>", &heads, 4, &targets)
        + &captioned_table("<b>Arms</b>", &["arm", "what it is", "settings", "targets"], 4, &arms);
    markup_section("Targets and arms", lead, &body)
}

fn target_row(view: &View<'_>, target: &Target) -> Vec<String> {
    let results = view.results.iter().filter(|result| result.id.target == target.name);
    let held_out = results.map(|result| result.costs.held_out).max();
    vec![
        escape(&target.name),
        words(&target.words),
        code(&job(target)),
        or_dash(view.span(&target.name), |(low, high)| format!("{} to {}", macs(low), macs(high))),
        or_dash(held_out, count),
    ]
}

/// The name of a target's job file: where it lies is this machine's business.
pub fn job(target: &Target) -> String {
    target.config.file_name().unwrap_or(target.config.as_os_str()).to_string_lossy().into_owned()
}

/// What the study sets in every cell, where it does.
fn everywhere(view: &View<'_>) -> Option<Vec<String>> {
    let words = ["every arm", "laid under those of the arms"].map(escape);
    let row = || words.into_iter().chain([wrapped(&settings(&view.study.set)), "all".to_owned()]).collect();
    (!view.study.set.is_empty()).then(row)
}

fn settings(set: &[String]) -> String {
    set.iter().map(|setting| code(setting)).collect::<Vec<_>>().join(" ")
}

fn arm_row(arm: &Arm) -> Vec<String> {
    let parts = arm.parts.iter().map(|part| format!("{}: {}", escape(&part.name), settings(&part.set)));
    let lines: Vec<String> = [settings(&arm.set)].into_iter().chain(parts).filter(|line| !line.is_empty()).collect();
    vec![
        escape(&arm.name),
        words(&arm.words),
        if lines.is_empty() { "as the job says".to_owned() } else { wrapped(&lines.join("<br/>")) },
        if arm.targets.is_empty() { "all".to_owned() } else { wrapped(&escape(&arm.targets.join(", "))) },
    ]
}

fn words(words: &str) -> String {
    if words.is_empty() { "–".to_owned() } else { sentence(&escape(words)) }
}
