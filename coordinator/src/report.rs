//! `report.html` (HANDS): a run's evidence on one page that needs nothing but itself.
//!
//! Everything comes from the run's folder: `evidence` reads it, one file per section turns it into markup, and the
//! page forbids scripts and the network. A section whose inputs are missing says which and how to make them.

mod choices;
mod curves;
mod evidence;
mod front;
mod heat;
mod language;
mod numbers;
mod overview;
mod palette;
mod regret;
mod sampling;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use esta_engine::spec::SpecError;
use thiserror::Error;

use self::evidence::Evidence;
use crate::artifacts::atomic;

/// Why a report could not be written.
#[derive(Debug, Error)]
pub enum ReportError {
    /// A file of the run is missing or damaged.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The specification in `job.json` cannot be run.
    #[error("job.json holds no valid job")]
    Spec(#[from] SpecError),
    /// The page could not be written.
    #[error("cannot write {}", file.display())]
    Write {
        /// The page.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The page, in a run's folder: of a run that is over it is what is written last.
pub const FILE: &str = "report.html";

/// Writes the report of a run, finished or not, into its folder; answers the page's path.
///
/// # Errors
/// [`ReportError`] when `job.json` is missing, any input is damaged, or the page cannot be written.
pub fn write(run_dir: &Path) -> Result<PathBuf, ReportError> {
    let page = render(&Evidence::read(run_dir)?);
    let file = run_dir.join(FILE);
    atomic::replace(&file, |out| out.write_all(page.as_bytes()))
        .map_err(|source| ReportError::Write { file: file.clone(), source })?;
    Ok(file)
}

fn render(evidence: &Evidence) -> String {
    let sections = [
        overview::section(evidence),
        front::section(evidence),
        language::section(evidence),
        palette::section(evidence),
        regret::section(evidence),
        heat::section(evidence),
        sampling::section(evidence),
        curves::section(evidence),
        choices::section(evidence),
        numbers::section(evidence),
    ];
    esta_page::markup::page(&evidence.spec.name, &sections.concat())
}

#[cfg(test)]
mod tests;
