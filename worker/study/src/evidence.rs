//! A study's page from results that are committed, without running anything (HANDS).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{
    angles::{self, Bundle, TargetAngles},
    cell::CellResult,
    jobs::Jobs,
    page::{About, Findings, RuleGroup, render},
    plan::{Study, StudyError},
    runner::{self, RunError},
    summary::Summary,
    trials,
};

/// Studies whose results are committed: `configs/studies/<name>.yaml` and `docs/evidence/<name>.jsonl`.
pub const COMMITTED: [&str; 2] = ["offline", "equal-time"];

/// A study with all that was committed of it.
#[derive(Debug)]
pub struct Evidence {
    /// The study.
    pub study: Study,
    /// The jobs of its arms.
    pub jobs: Jobs,
    /// Results of the study's jobs as they are now, in the order of its cells.
    pub results: Vec<CellResult>,
    /// What they say.
    pub summary: Summary,
    /// What rules lose on them.
    pub rules: Vec<RuleGroup>,
    /// Angles of the study's jobs as they are now.
    pub angles: Vec<TargetAngles>,
}

/// Why there is no page.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// The study's file.
    #[error(transparent)]
    Study(#[from] StudyError),
    /// A job of the study.
    #[error(transparent)]
    Job(#[from] RunError),
    /// The results, or the angles beside them.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Evidence {
    /// Reads a study and the file of its results; those of other jobs are left out.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn read(study: &Path, results: &Path) -> Result<Self, EvidenceError> {
        let failed = |source| EvidenceError::Read { file: results.to_owned(), source };
        let study = Study::read(study)?;
        let jobs = Jobs::of(&study)?;
        let text = fs::read_to_string(results).map_err(failed)?;
        let all = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
        let all: Vec<CellResult> = all.map_err(|error| failed(error.into()))?;
        let bundle = Bundle::beside(results).map_err(failed)?;
        let results: Vec<CellResult> = runner::keyed(&study)?
            .into_iter()
            .filter_map(|(cell, key)| all.iter().find(|result| result.id == cell.id && result.key == key).cloned())
            .collect();
        let angles = angles_of(&study, bundle)?;
        let summary = Summary::of(&study, &results, &jobs);
        let rules = trials::groups(&study, &summary);
        Ok(Self { study, jobs, results, summary, rules, angles })
    }

    /// The page.
    #[must_use]
    pub fn page(&self, about: &About) -> String {
        let Self { study, jobs, results, summary, rules, angles } = self;
        render(study, &Findings { summary, results, jobs, rules, angles }, about)
    }
}

/// Angles of a bundle, in the order of the study's targets.
fn angles_of(study: &Study, bundle: Option<Bundle>) -> Result<Vec<TargetAngles>, RunError> {
    let Some((plan, bundle)) = study.angles.as_ref().zip(bundle) else { return Ok(Vec::new()) };
    let source = plan.source.as_deref().map(runner::job_file).transpose()?;
    let wanted: Vec<(String, String)> = angles::jobs(study)?
        .into_iter()
        .map(|(target, job)| {
            let key = angles::key(plan, &job, source.as_ref());
            (target, key)
        })
        .collect();
    let of = |(target, key): &(String, String)| {
        bundle.angles.iter().find(|angles| angles.target == *target && angles.key == *key).cloned()
    };
    Ok(wanted.iter().filter_map(of).collect())
}
