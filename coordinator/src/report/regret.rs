//! What each rule loses against exhaustive evaluation, beside trivial controls (HANDS).

use esta_engine::{
    regret::{self, BinRegret, Regret, Selector},
    spec::PaletteRule,
};
use esta_page::{
    markup::{details, missing, section as markup_section},
    numbers::or_dash,
    table::{captioned_table, table},
};

use super::evidence::Evidence;

const TITLE: &str = "Regret";

pub fn section(evidence: &Evidence) -> String {
    let Some(measured) = evidence.measured() else {
        let how = "Regret needs the accuracy of every stitch of the catalog: set <code>eval.stitches: all</code>, \
            or run \
            <code>esta-worker eval --run-dir RUN --all</code> on this run, and write the report again.";
        return markup_section(TITLE, "", &missing(how));
    };
    let lead = "Points of accuracy lost against the best stitch of the same budget, mean over the budgets that \
        leave a choice. \
        The best of many noisy accuracies is flattered by its noise; the split column picks it on one half of the images \
        and scores on the other. Kendall's τ says how well a selector's value orders the stitches of a budget \
        (1 perfectly, 0 not at all).";
    let regrets = regret::regrets(&measured);
    let body = bars(&regrets) + &split_note(&regrets) + &details("By budget", &by_budget(&regrets));
    markup_section(TITLE, lead, &body)
}

fn words(selector: Selector) -> &'static str {
    match selector {
        Selector::Rule(PaletteRule::Snip) => "snip: highest importance",
        Selector::Rule(PaletteRule::Loss) => "loss: lowest training loss",
        Selector::Rule(PaletteRule::Auto) => "auto: lowest own part of the loss",
        Selector::Largest => "control: largest in the budget",
        Selector::Smallest => "control: smallest in the budget",
        Selector::LowestId => "control: lowest id",
        Selector::Random => "control: random pick (expected)",
    }
}

fn points(points: f64) -> String {
    format!("{points:.2}")
}

fn bars(regrets: &[Regret]) -> String {
    let highest = regrets.iter().filter_map(|regret| regret.mean).fold(0.01, f64::max);
    let row = |regret: &Regret| {
        let share = 100.0 * regret.mean.unwrap_or(0.0) / highest;
        let class = match regret.selector {
            Selector::Rule(rule) => format!("bar by-{}", rule.name()),
            _ => "bar".to_owned(),
        };
        vec![
            words(regret.selector).to_owned(),
            format!("<span class=\"{class}\" style=\"width:{share:.1}%\"></span>"),
            or_dash(regret.mean, points),
            or_dash(regret.split, points),
            or_dash(regret.tau, points),
            regret.bins.len().to_string(),
        ]
    };
    let rows: Vec<_> = regrets.iter().map(row).collect();
    table(&["selector", "", "mean regret", "split", "mean τ", "budgets"], 2, &rows)
}

fn split_note(regrets: &[Regret]) -> String {
    if regrets.iter().any(|regret| regret.split.is_some()) {
        return String::new();
    }
    missing(
        "The split column is empty because <code>eval.json</code> gives no accuracies on halves of the images \
         (<code>\"halves\": [a, b]</code> beside each result).",
    )
}

/// What every selector loses in each budget, and how well its value orders it.
fn by_budget(regrets: &[Regret]) -> String {
    let lost = "<b>Regret</b> in points; the best by accuracy on all held-out images";
    let order = "<b>Kendall's τ</b> between a selector's value and accuracy; a dash: it does not order that budget";
    of_every_budget(lost, regrets, |bin| Some(bin.points)) + &of_every_budget(order, regrets, |bin| bin.tau)
}

fn of_every_budget(caption: &str, regrets: &[Regret], figure: fn(&BinRegret) -> Option<f64>) -> String {
    let budgets: Vec<_> =
        regrets.iter().max_by_key(|regret| regret.bins.len()).into_iter().flat_map(|r| &r.bins).collect();
    let cell = |regret: &Regret, bin: &BinRegret| {
        or_dash(regret.bins.iter().find(|other| other.budget == bin.budget).and_then(figure), points)
    };
    let row = |bin: &&BinRegret| {
        let best = format!("stitch {}", bin.best);
        [bin.budget.to_string(), best].into_iter().chain(regrets.iter().map(|regret| cell(regret, bin))).collect()
    };
    let rows: Vec<Vec<String>> = budgets.iter().map(row).collect();
    let selectors = regrets.iter().map(|regret| regret.selector.name());
    let heads: Vec<&str> = ["budget", "best"].into_iter().chain(selectors).collect();
    captioned_table(caption, &heads, 2, &rows)
}
