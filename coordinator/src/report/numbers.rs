//! Every number behind the pictures (HANDS).

use esta_engine::{catalog::Stitch, spec::PaletteRule};
use esta_page::{
    markup::{escape, section as markup_section},
    numbers::{count, duration, or_dash, percent, significant},
    table::table,
};

use super::{curves::thin, evidence::Evidence, palette::own_part};
use crate::artifacts::metrics::MetricsLine;

pub fn section(evidence: &Evidence) -> String {
    let lead = "The same and more as files beside this page: <code>job.json</code>, <code>metrics.jsonl</code>, \
        <code>draws.parquet</code>, <code>table.json</code>, <code>palette.json</code>, <code>eval.json</code>, and \
        TensorBoard events.";
    let body = [
        details(&format!("All {} stitches", evidence.catalog.stitches().count()), &stitches(evidence)),
        details("Training over time", &windows(evidence)),
        baselines(evidence),
    ];
    markup_section("Numbers", lead, &body.concat())
}

fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>\n{body}</details>\n", escape(summary))
}

fn stitches(evidence: &Evidence) -> String {
    let heads = [
        "stitch",
        "path",
        "chosen by",
        "budget",
        "MACs",
        "parameters",
        "visits",
        "importance",
        "train loss",
        "own part",
        "grad norm",
        "accuracy",
        "held-out loss",
    ];
    let rows: Vec<_> = evidence.catalog.stitches().map(|stitch| stitch_row(evidence, stitch)).collect();
    table(&heads, 3, &rows)
}

fn stitch_row(evidence: &Evidence, stitch: &Stitch) -> Vec<String> {
    let (row, result) = (evidence.row(stitch.id), evidence.result(stitch.id));
    let rules: Vec<&str> = evidence.chosen_by(stitch.id).into_iter().map(PaletteRule::name).collect();
    vec![
        stitch.id.to_string(),
        escape(&evidence.path(stitch)),
        rules.join(", "),
        stitch.budget.to_string(),
        count(stitch.macs),
        count(stitch.params),
        count(row.visits),
        or_dash(row.importance, significant),
        or_dash(row.loss, significant),
        own_part(&row),
        or_dash(row.grad_norm, significant),
        or_dash(result, |result| percent(result.accuracy)),
        or_dash(result.and_then(|result| result.loss), significant),
    ]
}

fn windows(evidence: &Evidence) -> String {
    let budgets: Vec<String> = (0..evidence.budgets()).map(|budget| format!("loss {budget}")).collect();
    let mut heads = vec!["step", "epoch", "loss", "steps/s", "skipped", "visited", "elapsed"];
    heads.extend(budgets.iter().map(String::as_str));
    let row = |line: &MetricsLine| {
        let fixed = vec![
            count(line.step),
            or_dash(line.epoch, significant),
            or_dash(line.loss, significant),
            or_dash(line.steps_per_second, significant),
            count(line.skipped),
            or_dash(line.coverage, percent),
            duration(line.elapsed),
        ];
        let of_budget = |budget: usize| or_dash(line.budget_loss.get(budget).copied().flatten(), significant);
        fixed.into_iter().chain((0..evidence.budgets()).map(of_budget)).collect()
    };
    let rows: Vec<Vec<String>> = thin(&evidence.lines, 40).iter().map(row).collect();
    table(&heads, 0, &rows)
}

fn baselines(evidence: &Evidence) -> String {
    let Some(baselines) = &evidence.baselines else { return String::new() };
    let name = |anchor: Option<u32>| {
        let anchor = anchor.and_then(|anchor| evidence.spec.family.anchors.get(anchor as usize));
        or_dash(anchor, |anchor| escape(&anchor.name))
    };
    let rows: Vec<_> =
        baselines.iter().map(|b| vec![escape(&b.name), name(b.anchor), count(b.macs), percent(b.accuracy)]).collect();
    details("Tuned alone", &table(&["model", "anchor", "MACs", "accuracy"], 2, &rows))
}
