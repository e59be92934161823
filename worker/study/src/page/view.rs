//! What every section looks at, and questions that several of them ask (HANDS).

use std::collections::BTreeMap;

use esta_page::markup::escape;

use super::About;
use crate::{
    angles::TargetAngles,
    cell::{CellResult, StitchResult},
    jobs::Jobs,
    plan::{Arm, Study},
    summary::{self, ArmSummary, By, FrontPoint, Summary},
};

/// A study with everything that came of it.
pub struct View<'a> {
    pub study: &'a Study,
    pub summary: &'a Summary,
    pub results: &'a [CellResult],
    pub jobs: &'a Jobs,
    pub angles: &'a [TargetAngles],
    pub about: &'a About,
}

impl View<'_> {
    /// Names of cells without a result, in the order they are run.
    pub fn missing(&self) -> Vec<String> {
        let cells = self.study.cells().into_iter();
        let without = cells.filter(|cell| !self.results.iter().any(|result| result.id == cell.id));
        without.map(|cell| cell.id.name()).collect()
    }

    /// Anchors of a target by MACs of one image, with their names.
    pub fn anchors(&self, target: &str) -> BTreeMap<u64, String> {
        let stitches = self.results.iter().filter(|result| result.id.target == target).flat_map(|r| &r.stitches);
        let anchors = stitches.filter(|stitch| stitch.anchor);
        // Whoever comes later has the same cost and so, but for studies of families, the same name.
        anchors.rev().map(|stitch: &StitchResult| (stitch.macs, stitch.path.clone())).collect()
    }

    /// Constraints of a target in MACs, least and greatest; none before there are two.
    pub fn span(&self, target: &str) -> Option<(u64, u64)> {
        Some(summary::span(self.study, self.results, target)).filter(|(low, high)| low < high)
    }

    /// The study's word on an arm of its summary.
    pub fn plan(&self, arm: &ArmSummary) -> Option<&Arm> {
        self.study.arms.iter().find(|plan| plan.name == arm.name)
    }

    /// Arms that run on a target.
    pub fn arms_on(&self, target: &str) -> Vec<&ArmSummary> {
        let runs = |arm: &&ArmSummary| self.plan(arm).is_some_and(|plan| plan.runs_on(target));
        self.summary.arms.iter().filter(runs).collect()
    }

    /// How many sources the images of the targets come from, with the targets of each; none where nobody says.
    pub fn sources(&self) -> Option<(usize, String)> {
        let mut sources: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for target in &self.study.targets {
            sources.entry(&target.images_of).or_default().push(&target.name);
        }
        let named = !sources.contains_key("") && sources.len() < self.study.targets.len();
        let words = sources.iter().map(|(source, targets)| format!("{} of {source}", targets.join(", ")));
        named.then(|| (sources.len(), words.collect::<Vec<_>>().join("; ")))
    }

    /// Targets an arm runs on.
    pub fn targets_of(&self, arm: &ArmSummary) -> usize {
        self.study.targets.iter().filter(|target| self.plan(arm).is_some_and(|plan| plan.runs_on(&target.name))).count()
    }
}

/// Fronts of an arm's palettes on a target by its own rule, one a seed.
pub fn fronts(arm: &ArmSummary, target: &str) -> Vec<Vec<FrontPoint>> {
    let seeds = arm.outcomes.get(target).into_iter().flat_map(BTreeMap::values);
    seeds.map(|outcome| outcome.front(By::Own)).collect()
}

/// A difference in points of area, with its sign.
pub fn points(value: f64) -> String {
    esta_page::numbers::signed(value, 2)
}

/// Text as code.
pub fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// Markup that may take several lines of its cell.
pub fn wrapped(markup: &str) -> String {
    format!("<span class=\"text\">{markup}</span>")
}

/// Markup of a sentence, which takes several lines but is not squeezed to a word a line.
pub fn sentence(markup: &str) -> String {
    format!("<span class=\"text\" style=\"min-width:24ch\">{markup}</span>")
}

/// A count with its noun, such as `1 target`, `2 targets`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
