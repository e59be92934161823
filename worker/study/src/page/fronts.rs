//! Accuracy against MACs: one figure per target with the fronts of the arms that claims are about (HANDS).

use std::collections::BTreeMap;

use esta_page::{
    markup::{escape, figure, legend, missing, pair, section as markup_section},
    numbers::{macs, percent, tick},
    plot::{Axis, Mark, Plot, Scale, Series, extent},
};

use super::{
    level::{Level, mean_front},
    view::{View, code, fronts},
};
use crate::{
    plan::Target,
    summary::{ArmSummary, Outcome, mean},
};

const TITLE: &str = "Fronts";
/// So many arms a figure can tell apart.
const ARMS: usize = 6;
/// Sizes of figures side by side and of one alone.
const HALF: (f64, f64) = (510.0, 330.0);
const WHOLE: (f64, f64) = (1040.0, 430.0);

pub fn section(view: &View<'_>) -> String {
    let (arms, stars) = (shown(view), alone(view));
    let lead = "Held-out accuracy that a constraint on MACs is answered with: by the rule that the arm's job deploys by, \
        without a look at held-out accuracies. Lines are means over seeds at each constraint, bands reach from the least seed to the \
        greatest. Stars are anchors tuned alone, means over seeds; each says whose it is when pointed at.";
    let figures: Vec<(&Target, Drawing)> = view
        .study
        .targets
        .iter()
        .filter_map(|target| Some((target, Drawing::of(&target.name, &arms, &stars)?)))
        .collect();
    if figures.is_empty() {
        return markup_section(TITLE, lead, &missing("No arm has a whole palette on any target yet."));
    }
    let mut keys: Vec<String> = arms.iter().enumerate().map(|(i, arm)| Series(i).key(&arm.name)).collect();
    keys.extend(stars.iter().map(|arm| Mark::Star.key(&format!("{}: anchors tuned alone", arm.name))));
    markup_section(TITLE, lead, &(legend(&keys) + &not_drawn(view, &arms) + &in_pairs(&figures)))
}

/// Arms without a line by name, so that none is taken for missing.
fn not_drawn(view: &View<'_>, drawn: &[&ArmSummary]) -> String {
    let others = view.summary.arms.iter().filter(|arm| !arm.is_lone());
    let names: Vec<String> =
        others.filter(|arm| drawn.iter().all(|drawn| drawn.name != arm.name)).map(|arm| code(&arm.name)).collect();
    if names.is_empty() { String::new() } else { format!("<p><small>Not drawn: {}</small></p>\n", names.join(" ")) }
}

/// Arms with a line, in the study's order: its first and those that claims name, anchors tuned alone aside.
fn shown<'a>(view: &View<'a>) -> Vec<&'a ArmSummary> {
    let claimed = |arm: &ArmSummary| {
        view.summary.claims.iter().any(|claim| claim.claim.arm == arm.name || claim.claim.against == arm.name)
    };
    let arms = view.summary.arms.iter().enumerate();
    let wanted = arms.filter(|(place, arm)| !arm.is_lone() && (*place == 0 || claimed(arm)));
    wanted.map(|(_, arm)| arm).take(ARMS).collect()
}

fn alone<'a>(view: &View<'a>) -> Vec<&'a ArmSummary> {
    view.summary.arms.iter().filter(|arm| arm.is_lone()).collect()
}

/// Two figures side by side; one left over is drawn wide.
fn in_pairs(figures: &[(&Target, Drawing)]) -> String {
    let one = |(target, drawing): &(&Target, Drawing), size| {
        let words = if target.words.is_empty() { String::new() } else { format!(" {}", escape(&target.words)) };
        figure(&drawing.draw(size, &target.name), &format!("<b>{}</b>{words}", escape(&target.name)))
    };
    let both = |figures: &[(&Target, Drawing)]| match figures {
        [left, right] => pair(&one(left, HALF), &one(right, HALF)),
        rest => rest.iter().map(|figure| scrolled(&one(figure, WHOLE), 0.6 * WHOLE.0)).collect(),
    };
    figures.chunks(2).map(both).collect()
}

/// A wide figure, scrolled on a narrow screen rather than made smaller than so many pixels, as a forest plot is.
fn scrolled(figure: &str, least: f64) -> String {
    format!("<div class=\"scroll forest\" style=\"--least:{least:.0}px\">{figure}</div>\n")
}

/// What is drawn of a target.
struct Drawing {
    /// Mean fronts with the arm's place and name.
    lines: Vec<(usize, String, Vec<Level>)>,
    /// Anchors tuned alone: arm, name, MACs, accuracy.
    stars: Vec<(String, String, u64, f64)>,
}

impl Drawing {
    /// None of a target without a palette.
    fn of(target: &str, arms: &[&ArmSummary], alone: &[&ArmSummary]) -> Option<Self> {
        let line = |(place, arm): (usize, &&ArmSummary)| (place, arm.name.clone(), mean_front(&fronts(arm, target)));
        let lines: Vec<_> = arms.iter().enumerate().map(line).filter(|(_, _, line)| !line.is_empty()).collect();
        let stars: Vec<_> = alone.iter().flat_map(|arm| stars(arm, target)).collect();
        (!lines.is_empty() || !stars.is_empty()).then_some(Self { lines, stars })
    }

    fn draw(&self, size: (f64, f64), target: &str) -> String {
        let levels = || self.lines.iter().flat_map(|(_, _, line)| line);
        let costs = levels().map(|level| level.macs).chain(self.stars.iter().map(|star| star.2));
        let ends = levels().flat_map(|level| [level.low, level.high]).chain(self.stars.iter().map(|star| star.3));
        let (x, y) = (widened(costs), extent(ends.map(|share| 100.0 * share), 0.1));
        let mut plot = Plot::new(size, x, y, Scale::of_costs);
        plot.axes(Axis { name: "MACs of one image", words: tick }, Axis { name: "held-out accuracy, %", words: tick });
        for (place, _, line) in &self.lines {
            plot.band(&stairs_of_band(line, x.1), &Series(*place).band());
        }
        for (place, name, line) in &self.lines {
            let points: Vec<_> = line.iter().map(|level| (level.macs as f64, 100.0 * level.mean)).collect();
            plot.stairs(&points, &Series(*place).trace(), name);
        }
        for (arm, name, cost, accuracy) in &self.stars {
            let title = format!("{arm}: {name} alone, {} at {}", percent(*accuracy), macs(*cost));
            plot.mark((*cost as f64, 100.0 * accuracy), Mark::Star, &title);
        }
        plot.finish(&format!("held-out accuracy against MACs on {target}"))
    }
}

/// Anchors of palettes that are anchors tuned alone, means over seeds.
fn stars(arm: &ArmSummary, target: &str) -> Vec<(String, String, u64, f64)> {
    let mut anchors: BTreeMap<u64, (String, Vec<f64>)> = BTreeMap::new();
    let outcomes = arm.outcomes.get(target).into_iter().flat_map(BTreeMap::values);
    for stitch in outcomes.flat_map(|outcome: &Outcome| &outcome.stitches) {
        anchors.entry(stitch.macs).or_insert_with(|| (stitch.path.clone(), Vec::new())).1.push(stitch.accuracy);
    }
    let star = |(macs, (name, accuracies)): (u64, (String, Vec<f64>))| {
        Some((arm.name.clone(), name, macs, mean(accuracies.into_iter())?))
    };
    anchors.into_iter().filter_map(star).collect()
}

/// The least and the greatest cost with a little room on both sides, in ratio as the axis is.
fn widened(costs: impl Iterator<Item = u64>) -> (f64, f64) {
    let (low, high) = extent(costs.map(|macs| macs as f64), 0.0);
    (low * 0.94, high * 1.08)
}

/// A band that is level between constraints, as the stairs of its mean are, to the end of the axis.
fn stairs_of_band(line: &[Level], end: f64) -> Vec<(f64, f64, f64)> {
    let ends = line.iter().skip(1).map(|level| level.macs as f64).chain([end]);
    let step = |(level, end): (&Level, f64)| {
        let (low, high) = (100.0 * level.low, 100.0 * level.high);
        [(level.macs as f64, low, high), (end, low, high)]
    };
    line.iter().zip(ends).flat_map(step).collect()
}
