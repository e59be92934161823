//! What each arm answers at the anchors' costs and between them (HANDS).

use esta_page::{
    markup::{escape, missing, section as markup_section},
    numbers::{macs, percent},
    table::{Best, captioned_table, mark_best},
};

use super::{
    level::{Level, constraints, level_at},
    view::{View, fronts},
};
use crate::{plan::Target, summary::ArmSummary};

const TITLE: &str = "Accuracy per budget";

pub fn section(view: &View<'_>) -> String {
    let lead = "Held-out accuracy of the model that answers a constraint by the arm's own rule, mean over seeds ± half the distance between \
        the least and the greatest; the best of a row is marked. Constraints are the costs of the anchors and two \
        between each, in equal ratios. A dash: no palette yet, or a seed has nothing that fits.";
    let tables: String = view.study.targets.iter().filter_map(|target| target_table(view, target)).collect();
    let body = if tables.is_empty() { missing("No target has a result with anchors yet.") } else { tables };
    markup_section(TITLE, lead, &body)
}

/// None of a target without results.
fn target_table(view: &View<'_>, target: &Target) -> Option<String> {
    let (anchors, arms) = (view.anchors(&target.name), view.arms_on(&target.name));
    let costs: Vec<u64> = anchors.keys().copied().collect();
    let (low, high) = (*costs.first()?, *costs.last()?);
    let names: Vec<String> = arms.iter().map(|arm| escape(&arm.name)).collect();
    let heads: Vec<&str> = ["at most", ""].into_iter().chain(names.iter().map(String::as_str)).collect();
    let row = |at: u64| {
        let anchor = anchors.get(&at).map_or_else(String::new, |name| escape(name));
        let levels: Vec<Option<Level>> = arms.iter().map(|arm| level(arm, &target.name, at)).collect();
        [macs(at), anchor].into_iter().chain(cells(&levels)).collect()
    };
    let rows: Vec<Vec<String>> = constraints(&costs).into_iter().map(row).collect();
    let caption = format!("<b>{}</b> {} to {}", escape(&target.name), macs(low), macs(high));
    Some(captioned_table(&caption, &heads, 2, &rows))
}

fn level(arm: &ArmSummary, target: &str, at: u64) -> Option<Level> {
    level_at(&fronts(arm, target), at)
}

/// Means in per cent with half their range; the best marked.
fn cells(levels: &[Option<Level>]) -> Vec<String> {
    let means: Vec<Option<f64>> = levels.iter().map(|level| level.map(|level| level.mean)).collect();
    let range = |level: &Option<Level>| {
        let half = level.and_then(|level| level.half_range());
        half.map_or_else(String::new, |half| format!("\u{a0} <small>± {:.1}</small>", 100.0 * half))
    };
    let cells = mark_best(&means, Best::Highest, |mean| percent(mean).replace(' ', "\u{a0}"));
    cells.into_iter().zip(levels).map(|(cell, level)| cell + &range(level)).collect()
}
