//! The page of a study (HANDS): strings in, one HTML page out.
//!
//! One file per section. A page can be made at any time of a study: what is missing is named once at the top and is a
//! dash everywhere else.

mod angles;
mod area;
mod budgets;
mod choices;
mod claims;
mod costs;
mod fronts;
mod header;
mod level;
mod reproduce;
pub mod selection;
mod targets;
mod view;

use esta_page::markup::study_page;

pub use self::selection::{ArmLine, Loss, Role, RuleGroup, RuleLine};
use self::view::View;
use crate::{angles::TargetAngles, cell::CellResult, jobs::Jobs, plan::Study, summary::Summary};

/// How a page came to be, all in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Commands that made it, one a line.
    pub command: String,
    /// The program's version.
    pub version: String,
    /// The machine: processor and cores.
    pub machine: String,
    /// When it was made.
    pub date: String,
    /// The device that trained, such as `cpu`.
    pub device: String,
}

/// Everything that came of a study so far.
#[derive(Debug, Clone, Copy)]
pub struct Findings<'a> {
    /// Its results, put together.
    pub summary: &'a Summary,
    /// The results themselves.
    pub results: &'a [CellResult],
    /// The jobs of its arms, for the values of their keys.
    pub jobs: &'a Jobs,
    /// What trials of rules came to, one group for each set of runs they were tried on.
    pub rules: &'a [RuleGroup],
    /// Angles between gradients, one a target.
    pub angles: &'a [TargetAngles],
}

/// The page of a study.
#[must_use]
pub fn render(study: &Study, findings: &Findings<'_>, about: &About) -> String {
    let Findings { summary, results, jobs, rules, angles } = *findings;
    let view = View { study, summary, results, jobs, angles, about };
    let sections = [
        header::section(&view),
        claims::section(&view),
        fronts::section(&view),
        budgets::section(&view),
        area::section(&view),
        costs::section(&view),
        selection::section(rules),
        angles::section(&view),
        targets::section(&view),
        choices::section(&view),
        reproduce::section(&view),
    ];
    study_page(&study.title, &sections.concat())
}

#[cfg(test)]
mod tests;
