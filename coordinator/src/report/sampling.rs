//! Where the slots went: by budget and by stitch over time (HANDS).

use esta_engine::catalog::Stitch;
use esta_page::{
    markup::{missing, pair, section as markup_section},
    numbers::{count, tick},
    plot::{Axis, Plot, Scale, budget_colour, extent, push, svg},
};

use super::{
    curves::{key_of_budgets, thin},
    evidence::Evidence,
};
use crate::artifacts::metrics::MetricsLine;

const TITLE: &str = "Sampling";

/// Columns of the raster over time.
const COLUMNS: usize = 72;

/// Shades of the raster; cells of a shade are one path.
const SHADES: usize = 6;

pub fn section(evidence: &Evidence) -> String {
    if evidence.draws.is_empty() {
        return markup_section(
            TITLE,
            "",
            &missing("No draws: <code>draws.parquet</code> is missing or the run has not logged a part of it yet."),
        );
    }
    let lead = "Left, the share of slots each budget got; right, how many stitches are in play inside a budget (the \
        exponential of its \
        distribution's entropy). Below, every stitch over time, grouped by budget and cheapest at the top: \
        the stronger the colour, the more of its budget's slots.";
    let small = pair(&shares(evidence), &in_play(evidence));
    markup_section(TITLE, lead, &(key_of_budgets(evidence.budgets()) + &small + &raster(evidence)))
}

/// Stacked areas of the share of slots by budget.
fn shares(evidence: &Evidence) -> String {
    let lines = thin(&evidence.lines, 80);
    let steps = extent(lines.iter().map(|line| line.step as f64), 0.0);
    let mut plot = Plot::new((510.0, 240.0), steps, (0.0, 100.0), Scale::linear);
    let shares: Vec<(f64, Vec<f64>)> = lines.iter().map(|line| (line.step as f64, stacked(line))).collect();
    for budget in 0..evidence.budgets() {
        let edge =
            |above: usize| move |(step, sums): &(f64, Vec<f64>)| (*step, *sums.get(budget + above).unwrap_or(&100.0));
        let outline: Vec<_> = shares.iter().map(edge(0)).chain(shares.iter().rev().map(edge(1))).collect();
        let style = format!("class=\"area\" fill=\"{}\"", budget_colour(budget, evidence.budgets()));
        plot.line(&outline, &style, &format!("budget {budget}"));
    }
    plot.axes(Axis { name: "step", words: |v| count(v as u64) }, Axis { name: "", words: |v| format!("{v:.0} %") });
    plot.finish("share of slots drawn for each budget over the steps")
}

/// Running sums of a line's shares of slots, from 0 to 100.
fn stacked(line: &MetricsLine) -> Vec<f64> {
    let total = line.draws.iter().sum::<u64>().max(1) as f64;
    let sums = line.draws.iter().scan(0, |sum, draws| {
        *sum += draws;
        Some(100.0 * *sum as f64 / total)
    });
    std::iter::once(0.0).chain(sums).collect()
}

/// Effective numbers of stitches.
fn in_play(evidence: &Evidence) -> String {
    let lines = thin(&evidence.lines, 160);
    let steps = extent(lines.iter().map(|line| line.step as f64), 0.0);
    let highest = lines.iter().flat_map(|line| &line.entropy).map(|entropy| entropy.exp()).fold(1.0, f64::max);
    let mut plot = Plot::new((510.0, 240.0), steps, (0.0, 1.12 * highest), Scale::linear);
    plot.axes(Axis { name: "step", words: |v| count(v as u64) }, Axis { name: "stitches in play", words: tick });
    for budget in 0..evidence.budgets() {
        let point = |line: &MetricsLine| Some((line.step as f64, line.entropy.get(budget)?.exp()));
        let points: Vec<_> = lines.iter().filter_map(point).collect();
        let style = format!("class=\"series\" stroke=\"{}\"", budget_colour(budget, evidence.budgets()));
        plot.line(&points, &style, &format!("budget {budget}"));
    }
    plot.finish("effective number of stitches in play for each budget over the steps")
}

/// One line of cells per stitch, one column per stretch of steps.
fn raster(evidence: &Evidence) -> String {
    let draws = &evidence.draws;
    let steps = draws.step.last().map_or(1, |last| last + 1).max(1);
    let columns = COLUMNS.min(usize::try_from(steps).unwrap_or(COLUMNS));
    let column_of = |step: i64| (step * columns as i64 / steps) as usize;
    let mut counts = vec![vec![0_u32; columns]; evidence.catalog.id_bound()];
    for (step, stitch) in draws.step.iter().zip(&draws.stitch) {
        if let Some(row) = usize::try_from(*stitch).ok().and_then(|stitch| counts.get_mut(stitch)) {
            row[column_of(*step).min(columns - 1)] += 1;
        }
    }
    let rows: usize = (0..evidence.budgets()).map(|budget| evidence.bin(budget).len()).sum();
    let height = (560.0 / rows.max(1) as f64).clamp(3.0, 10.0);
    let mut top = 4.0;
    let mut body = String::new();
    for budget in 0..evidence.budgets() {
        let bin = evidence.bin(budget);
        body.push_str(&raster_of_bin(evidence, &bin, &counts, (top, height)));
        top += height * bin.len() as f64 + 7.0;
    }
    push(&mut body, format_args!("<text class=\"tick\" x=\"{LEFT}\" y=\"{:.1}\">step 0</text>", top + 10.0));
    push(
        &mut body,
        format_args!(
            "<text class=\"tick e\" x=\"{RIGHT}\" y=\"{:.1}\">step {}</text>",
            top + 10.0,
            count(steps.cast_unsigned())
        ),
    );
    svg((1040.0, top + 16.0), "draws of every stitch over the steps, grouped by budget", &body)
}

const LEFT: f64 = 68.0;
const RIGHT: f64 = 1036.0;

fn raster_of_bin(evidence: &Evidence, bin: &[&Stitch], counts: &[Vec<u32>], (top, height): (f64, f64)) -> String {
    let Some(first) = bin.first() else { return String::new() };
    let budget = first.budget.index();
    let rows: Vec<&[u32]> = bin.iter().map(|stitch| counts[stitch.id.index()].as_slice()).collect();
    let colour = budget_colour(budget, evidence.budgets());
    let mut out = format!("<g fill=\"{colour}\"><title>budget {budget}</title>");
    for (shade, path) in (1..).zip(cells_by_shade(&rows, top, height)).filter(|(_, path)| !path.is_empty()) {
        let opacity = 0.1 + 0.9 * f64::from(shade) / SHADES as f64;
        push(&mut out, format_args!("<path fill-opacity=\"{opacity:.2}\" d=\"{path}\"/>"));
    }
    let (right, middle) = (LEFT - 8.0, top + height * bin.len() as f64 / 2.0 + 4.0);
    push(&mut out, format_args!("</g><text class=\"tick e\" x=\"{right}\" y=\"{middle:.1}\">budget {budget}</text>"));
    out
}

/// The cells of a bin as one path for each shade, the faintest first.
fn cells_by_shade(rows: &[&[u32]], top: f64, height: f64) -> Vec<String> {
    let columns = rows.first().map_or(0, |row| row.len());
    let totals: Vec<u32> = (0..columns).map(|column| rows.iter().map(|row| row[column]).sum()).collect();
    let width = (RIGHT - LEFT) / columns.max(1) as f64;
    let mut shades = vec![String::new(); SHADES];
    for (row, counts) in rows.iter().enumerate() {
        for (column, drawn) in counts.iter().enumerate().filter(|(_, drawn)| **drawn > 0) {
            // The square root keeps small shares visible beside large ones.
            let share = (f64::from(*drawn) / f64::from(totals[column])).sqrt();
            let shade = ((share * SHADES as f64).ceil() as usize).clamp(1, SHADES) - 1;
            let (x, y) = (LEFT + width * column as f64, top + height * row as f64);
            let (w, h) = (width - 0.6, height - 0.5);
            push(&mut shades[shade], format_args!("M{x:.1} {y:.1}h{w:.1}v{h:.1}h-{w:.1}z"));
        }
    }
    shades
}
