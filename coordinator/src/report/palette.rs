//! The palette as a table: what is deployed for each budget (HANDS).

use esta_engine::{spec::PaletteRule, table::Row};
use esta_page::{
    markup::{escape, missing, section as markup_section},
    numbers::{count, or_dash, percent, si, signed, significant},
    table::table,
};
use esta_proto::BudgetId;

use super::evidence::Evidence;
use crate::artifacts::summary::PaletteEntry;

const TITLE: &str = "The palette";

pub fn section(evidence: &Evidence) -> String {
    if evidence.palettes.is_none() {
        return markup_section(
            TITLE,
            "",
            &missing("The run has not ended: <code>palette.json</code> is written after its last step."),
        );
    }
    let lead = format!(
        "One model per budget; a constraint means <em>at most</em>. This job deploys by <code>{}</code>; what the \
         other rules \
         would choose stands beside it. ● marks the Pareto front of a rule's choices{}. {OWN_PART}",
        evidence.rule.name(),
        if evidence.eval.is_some() { " by accuracy" } else { " by the rule's own value" }
    );
    let rows: Vec<_> = (0..evidence.budgets() as u32).flat_map(|budget| rows(evidence, BudgetId(budget))).collect();
    let cost = if evidence.catalog.stitches().any(|stitch| stitch.latency.is_some()) { "time, MACs" } else { "MACs" };
    let heads = [
        "budget",
        "rule",
        "stitch",
        "exported",
        cost,
        "parameters",
        "importance",
        "train loss",
        "own part",
        "accuracy",
        "front",
    ];
    markup_section(TITLE, &lead, &(table(&heads, 4, &rows) + &means(evidence)))
}

/// What `auto` goes by, once for every table and map that shows it.
pub(super) const OWN_PART: &str = "The <em>own part</em> of the loss (<code>effect</code> in <code>table.json</code>) is what \
    a stitch's slots lost beyond the run's common trend at their steps: <code>auto</code> takes the lowest of a budget.";

/// The own part of the loss in a cell.
pub(super) fn own_part(row: &Row) -> String {
    or_dash(row.effect, |effect| signed(effect, 4))
}

/// A budget's rows: one per stitch that any rule chose, in the order of the rules.
fn rows(evidence: &Evidence, budget: BudgetId) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<(PaletteRule, &PaletteEntry)>> = Vec::new();
    for rule in PaletteRule::ALL {
        let Some(entry) = evidence.choice(rule, budget) else { continue };
        match rows.iter_mut().find(|agreeing| agreeing[0].1.stitch == entry.stitch) {
            Some(agreeing) => agreeing.push((rule, entry)),
            None => rows.push(vec![(rule, entry)]),
        }
    }
    rows.iter().map(|agreeing| row(evidence, agreeing, agreeing[0].1)).collect()
}

fn row(evidence: &Evidence, rules: &[(PaletteRule, &PaletteEntry)], entry: &PaletteEntry) -> Vec<String> {
    let stats = evidence.row(entry.stitch);
    let badges: String =
        rules.iter().map(|(rule, _)| format!("<span class=\"badge {0}\">{0}</span>", rule.name())).collect();
    let on_front = rules
        .iter()
        .filter(|(_, entry)| entry.pareto)
        .map(|(rule, _)| format!("<span class=\"on {}\">●</span>", rule.name()))
        .collect::<Vec<_>>()
        .join(" ");
    vec![
        format!("{} <small>≤ {}</small>", entry.budget, limit(evidence, entry.budget)),
        badges,
        format!("<b>{}</b> {}", entry.stitch, escape(&entry.path)),
        or_dash(evidence.export(entry.stitch), |path| format!("<code>{}</code>", escape(path))),
        entry.latency.map_or_else(String::new, |latency| format!("{latency}, ")) + &si(entry.macs as f64),
        count(entry.params),
        or_dash(stats.importance, significant),
        or_dash(stats.loss, significant),
        own_part(&stats),
        or_dash(entry.accuracy, percent),
        on_front,
    ]
}

/// The dearest stitch of a budget, in time where the catalog knows times.
fn limit(evidence: &Evidence, budget: BudgetId) -> String {
    let catalog = &evidence.catalog;
    let slowest = catalog.stitches().filter(|stitch| stitch.budget == budget).filter_map(|stitch| stitch.latency).max();
    let dearest = catalog.bin_range(budget).map(|(_, most)| most as f64);
    slowest.map_or_else(|| or_dash(dearest, si), |latency| latency.to_string())
}

/// Mean accuracy of each rule over the budgets.
fn means(evidence: &Evidence) -> String {
    let mean = |rule: PaletteRule| {
        let palette = evidence.palettes.as_ref()?.iter().find(|palette| palette.rule == rule)?;
        let known: Option<Vec<f64>> = palette.choices.iter().map(|choice| choice.accuracy).collect();
        let known = known.filter(|known| !known.is_empty())?;
        Some(format!("{} by <code>{}</code>", percent(known.iter().sum::<f64>() / known.len() as f64), rule.name()))
    };
    let means: Vec<String> = PaletteRule::ALL.into_iter().filter_map(mean).collect();
    if means.is_empty() {
        String::new()
    } else {
        format!("<p>Mean accuracy over the budgets: {}.</p>\n", means.join(", "))
    }
}
