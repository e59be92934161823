//! Training loss over the steps, in all and by budget (HANDS).

use esta_page::{
    markup::{missing, section as markup_section},
    numbers::{count, tick},
    plot::{Axis, Plot, Scale, budget_colour, extent, push},
};

use super::evidence::Evidence;
use crate::artifacts::metrics::MetricsLine;

const TITLE: &str = "Training loss";

pub fn section(evidence: &Evidence) -> String {
    if evidence.lines.is_empty() {
        return markup_section(
            TITLE,
            "",
            &missing(
                "<code>metrics.jsonl</code> has no line yet: one is written every <code>train.logging_steps</code> \
                 steps.",
            ),
        );
    }
    let lines = thin(&evidence.lines, 160);
    let steps = extent(lines.iter().map(|line| line.step as f64), 0.0);
    let losses = extent(
        lines.iter().flat_map(|line| line.budget_loss.iter().chain([&line.loss])).filter_map(|loss| *loss),
        0.05,
    );
    let mut plot = Plot::new((1040.0, 320.0), steps, losses, Scale::linear);
    plot.axes(Axis { name: "step", words: |v| count(v as u64) }, Axis { name: "cross entropy", words: tick });
    for budget in 0..evidence.budgets() {
        let point = |line: &MetricsLine| Some((line.step as f64, line.budget_loss.get(budget).copied().flatten()?));
        let points: Vec<_> = lines.iter().filter_map(point).collect();
        let style = format!("class=\"series\" stroke=\"{}\"", budget_colour(budget, evidence.budgets()));
        plot.line(&points, &style, &format!("budget {budget}"));
    }
    let all: Vec<_> = lines.iter().filter_map(|line| Some((line.step as f64, line.loss?))).collect();
    plot.line(&all, "class=\"series all\"", "all slots");
    let lead = format!(
        "The bold line is the mean over all slots, the thin ones the mean over a budget's. A point stands for {} \
         steps.",
        width_of(&lines)
    );
    let drawing = plot.finish("training loss over the steps, in all and by budget");
    markup_section(TITLE, &lead, &(key_of_budgets(evidence.budgets()) + &drawing))
}

fn width_of(lines: &[MetricsLine]) -> String {
    match lines {
        [one, two, ..] => count(two.step - one.step),
        [one] => count(one.step),
        [] => count(0),
    }
}

/// The colours of the budgets.
#[must_use]
pub fn key_of_budgets(budgets: usize) -> String {
    let mut out = String::from("<div class=\"legend\">budget");
    for budget in 0..budgets {
        let colour = budget_colour(budget, budgets);
        push(&mut out, format_args!(" <span class=\"key\"><i style=\"background:{colour}\"></i>{budget}</span>"));
    }
    out + "</div>\n"
}

/// At most about `wanted` lines, each made of neighbours: sums of draws, means of the rest.
#[must_use]
pub fn thin(lines: &[MetricsLine], wanted: usize) -> Vec<MetricsLine> {
    lines.chunks(lines.len().div_ceil(wanted.max(1)).max(1)).filter_map(merge).collect()
}

fn merge(lines: &[MetricsLine]) -> Option<MetricsLine> {
    let last = lines.last()?;
    let budgets = 0..last.draws.len();
    let draws = |budget: usize, line: &MetricsLine| line.draws.get(budget).copied().unwrap_or(0);
    // A window's mean weighs as much as the slots it is a mean of.
    let budget_loss = |budget: usize| {
        mean(
            lines
                .iter()
                .filter_map(|line| Some((line.budget_loss.get(budget).copied().flatten()?, draws(budget, line)))),
        )
    };
    Some(MetricsLine {
        loss: mean(lines.iter().filter_map(|line| Some((line.loss?, line.draws.iter().sum())))),
        skipped: lines.iter().map(|line| line.skipped).sum(),
        draws: budgets.clone().map(|budget| lines.iter().map(|line| draws(budget, line)).sum()).collect(),
        budget_loss: budgets.map(budget_loss).collect(),
        ..last.clone()
    })
}

/// Mean of (value, weight) pairs.
fn mean(pairs: impl Iterator<Item = (f64, u64)>) -> Option<f64> {
    let (sum, weight) = pairs.fold((0.0, 0), |(sum, weight), (value, w)| (sum + value * w as f64, weight + w));
    (weight > 0).then(|| sum / weight as f64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::artifacts::lines;

    #[test]
    fn merged_windows_keep_draws_and_weigh_losses() {
        let line = |step: u64, draws: [u64; 2], losses: [Option<f64>; 2]| {
            let line = json!({"step": step, "loss": 1.0, "steps_per_second": null, "skipped": 1, "coverage": null,
                "draws": draws, "budget_loss": losses, "elapsed": 0, "time": 0});
            lines::parse(&line.to_string()).remove(0)
        };
        let lines = [
            line(10, [3, 1], [Some(2.0), Some(5.0)]),
            line(20, [1, 0], [Some(6.0), None]),
            line(30, [2, 2], [None, None]),
        ];
        let merged = thin(&lines, 2);
        assert_eq!(merged.iter().map(|line| line.step).collect::<Vec<_>>(), [20, 30]);
        assert_eq!((merged[0].draws.clone(), merged[0].skipped), (vec![4, 1], 2));
        assert_eq!(merged[0].budget_loss, [Some(3.0), Some(5.0)]);
        assert_eq!(merged[1].budget_loss, [None, None]);
    }
}
