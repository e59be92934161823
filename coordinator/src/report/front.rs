//! Accuracy against MACs: all evaluated stitches, the palette, its front, anchors alone (HANDS).

use esta_engine::{catalog::Stitch, spec::PaletteRule};
use esta_page::{
    markup::{legend, missing, section as markup_section},
    numbers::{count, macs, percent, si, tick},
    plot::{Axis, Mark, Plot, Scale, extent},
};

use super::evidence::Evidence;
use crate::artifacts::summary::{PaletteEntry, RulePalette};

const TITLE: &str = "Accuracy against cost";

const HOW_BASELINES: &str = "The anchors tuned alone are not here: run this job with <code>mode: anchor</code>, \
    evaluate, and \
    list the results in <code>baselines.json</code> as <code>[{\"name\", \"anchor\", \"macs\", \"accuracy\"}]</code>.";

pub fn section(evidence: &Evidence) -> String {
    let Some(eval) = evidence.eval.as_ref().filter(|eval| !eval.results.is_empty()) else {
        let how = "No held-out accuracies: <code>eval.json</code> is missing. Give the job <code>data.eval</code> \
            and \
            <code>eval.stitches: palette</code> (or <code>all</code>), or run \
            <code>esta-worker eval --run-dir RUN --all</code> on this run.";
        return markup_section(TITLE, "", &missing(how));
    };
    let lead = format!(
        "Every evaluated stitch on {} held-out {}; hover for its path. The stairs are the Pareto \
         fronts of what each rule chose: the best it offers at most at a cost. This job deploys by <code>{}</code>.",
        count(eval.images),
        evidence.samples(),
        evidence.rule.name()
    );
    let note = if evidence.baselines.is_none() { missing(HOW_BASELINES) } else { String::new() };
    markup_section(TITLE, &lead, &(legend(&keys(evidence)) + &scatter(evidence) + &note))
}

fn keys(evidence: &Evidence) -> Vec<String> {
    let mut keys = vec![Mark::Dot.key("evaluated stitch")];
    keys.extend(PaletteRule::ALL.map(|rule| mark_of(rule).key(&format!("chosen by {}", rule.name()))));
    if evidence.baselines.is_some() {
        keys.push(Mark::Star.key("tuned alone"));
    }
    keys
}

fn scatter(evidence: &Evidence) -> String {
    let evaluated: Vec<(&Stitch, f64)> =
        evidence.catalog.stitches().filter_map(|stitch| Some((stitch, evidence.accuracy(stitch.id)?))).collect();
    let baselines = evidence.baselines.as_deref().unwrap_or_default();
    let costs = evaluated.iter().map(|(stitch, _)| stitch.macs).chain(baselines.iter().map(|b| b.macs));
    let accuracies = evaluated.iter().map(|(_, accuracy)| *accuracy).chain(baselines.iter().map(|b| b.accuracy));
    let (x, y) = (extent(costs.map(|macs| macs as f64), 0.04), extent(accuracies.map(|a| 100.0 * a), 0.08));
    let x = (x.0.max(0.94 * evaluated.iter().map(|(stitch, _)| stitch.macs as f64).fold(f64::INFINITY, f64::min)), x.1);
    let mut plot = Plot::new((1040.0, 470.0), x, y, Scale::of_costs);
    plot.axes(
        Axis {
            name: if evidence.reads_texts() { "MACs of the longest text" } else { "MACs of one image" },
            words: tick,
        },
        Axis { name: &format!("held-out {}, %", evidence.accuracy_word()), words: |v| format!("{v:.0}") },
    );
    for palette in evidence.palettes.iter().flatten() {
        let (rule, used) = (palette.rule.name(), if palette.rule == evidence.rule { "" } else { " other" });
        let style = format!("class=\"front by-{rule}{used}\"");
        plot.stairs(&front(palette), &style, &format!("Pareto front of the choices by {rule}"));
    }
    // Words first: marks may cover them and never the other way round.
    for baseline in baselines {
        plot.word((baseline.macs as f64, 100.0 * baseline.accuracy), &baseline.name);
    }
    for (stitch, accuracy) in &evaluated {
        plot.mark((stitch.macs as f64, 100.0 * accuracy), Mark::Dot, &stitch_title(evidence, stitch, *accuracy));
    }
    for palette in evidence.palettes.iter().flatten() {
        mark_palette(&mut plot, evidence, palette);
    }
    for baseline in baselines {
        let at = (baseline.macs as f64, 100.0 * baseline.accuracy);
        let title = format!("{}: {} at {}", baseline.name, percent(baseline.accuracy), macs(baseline.macs));
        plot.mark(at, Mark::Star, &title);
    }
    plot.finish("held-out accuracy of every evaluated stitch against its MACs")
}

/// The palette's members on the front, as points.
fn front(palette: &RulePalette) -> Vec<(f64, f64)> {
    let point = |entry: &PaletteEntry| Some((entry.macs as f64, 100.0 * entry.accuracy?));
    let mut points: Vec<_> = palette.choices.iter().filter(|entry| entry.pareto).filter_map(point).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// How what a rule chose is drawn.
pub fn mark_of(rule: PaletteRule) -> Mark {
    match rule {
        PaletteRule::Snip => Mark::Snip,
        PaletteRule::Loss => Mark::Loss,
        PaletteRule::Auto => Mark::Auto,
    }
}

fn mark_palette(plot: &mut Plot, evidence: &Evidence, palette: &RulePalette) {
    let mark = mark_of(palette.rule);
    for entry in &palette.choices {
        let Some((accuracy, stitch)) = entry.accuracy.zip(evidence.catalog.get(entry.stitch)) else { continue };
        let title = format!(
            "budget {}, by {}\n{}",
            entry.budget,
            palette.rule.name(),
            stitch_title(evidence, stitch, accuracy)
        );
        plot.mark((entry.macs as f64, 100.0 * accuracy), mark, &title);
    }
}

fn stitch_title(evidence: &Evidence, stitch: &Stitch, accuracy: f64) -> String {
    format!(
        "stitch {}: {}\n{} at {}, {} parameters, budget {}",
        stitch.id,
        evidence.path(stitch),
        percent(accuracy),
        macs(stitch.macs),
        si(stitch.params as f64),
        stitch.budget
    )
}
