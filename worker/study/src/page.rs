//! The page of a study (HANDS): strings in, one HTML page out.
//!
//! One file per section. A page can be made at any time of a study: what is missing is named once at the top and is a
//! dash everywhere else.

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

pub use self::selection::{RuleGroup, RuleLine};
use self::view::View;
use crate::{cell::CellResult, plan::Study, summary::Summary};

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

/// The page of a study without trials of rules.
#[must_use]
pub fn render(study: &Study, summary: &Summary, results: &[CellResult], about: &About) -> String {
    render_with_rules(study, summary, results, &[], about)
}

/// The page of a study; `rules` are what trials of rules came to, one group for each set of runs they were tried on.
#[must_use]
pub fn render_with_rules(
    study: &Study,
    summary: &Summary,
    results: &[CellResult],
    rules: &[RuleGroup],
    about: &About,
) -> String {
    let view = View { study, summary, results, about };
    let sections = [
        header::section(&view),
        claims::section(&view),
        fronts::section(&view),
        budgets::section(&view),
        area::section(&view),
        costs::section(&view),
        selection::section(rules),
        targets::section(&view),
        choices::section(&view),
        reproduce::section(&view),
    ];
    study_page(&study.title, &sections.concat())
}

#[cfg(test)]
mod tests;
