//! Angles between the gradients of stitches on one target (HANDS): what was measured, kept beside the study's results.
//!
//! Whoever has libtorch measures them; this is the form in which they reach the page.

use std::{
    io,
    path::{Path, PathBuf},
};

use esta_engine::spec::JobSpec;
use serde::{Deserialize, Serialize};

use crate::{
    keep,
    plan::{AnglesPlan, Study},
    runner::{RunError, job_of, key as job_key},
};

/// A target's angles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetAngles {
    /// The target's name.
    pub target: String,
    /// Digest of the jobs and of how much was measured: another one is another measurement.
    pub key: String,
    /// In the source domain, where the study names one, and in the target's.
    pub domains: Vec<DomainAngles>,
    /// All angles as an SVG document.
    pub drawing: String,
}

/// The angles of one domain in a few numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainAngles {
    /// `source` or `target`.
    pub domain: String,
    /// Images behind every gradient.
    pub images: u64,
    /// Stitches compared.
    pub stitches: usize,
    /// Pairs of them that share a block.
    pub pairs: usize,
    /// Mean angle in degrees.
    pub mean: f64,
    /// Median angle in degrees.
    pub median: f64,
    /// Share of the pairs above 90 degrees, 0..1.
    pub above_90: f64,
}

/// Angles as they are committed beside a study's results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// Where the figures come from, in words.
    pub from: String,
    /// One a target.
    pub angles: Vec<TargetAngles>,
}

impl Bundle {
    /// The bundle beside a file of results: `offline.angles.json` beside `offline.jsonl`. None where there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn beside(results: &Path) -> io::Result<Option<Self>> {
        keep::read(&results.with_extension("angles.json"))
    }
}

/// The job whose angles are measured for each target that has one: that of its first cell.
///
/// # Errors
/// [`RunError::Cell`] when a job is flawed.
pub fn jobs(study: &Study) -> Result<Vec<(String, JobSpec)>, RunError> {
    let cells = study.cells();
    let first = |target: &str| cells.iter().find(|cell| cell.id.target == target);
    let with_job = study.targets.iter().filter_map(|target| Some((target.name.clone(), first(&target.name)?)));
    with_job.map(|(target, cell)| Ok((target, job_of(cell)?))).collect()
}

/// What the angles of a target depend on: its job, the images of the source domain where there is one, and how much was
/// measured.
#[must_use]
pub fn key(plan: &AnglesPlan, job: &JobSpec, source: Option<&JobSpec>) -> String {
    let source =
        source.map_or_else(String::new, |source| job_key(&JobSpec { data: source.data.clone(), ..job.clone() }));
    format!("{}-{source}-{}-{}", job_key(job), plan.stitches, plan.images)
}

impl TargetAngles {
    fn path(folder: &Path, target: &str) -> PathBuf {
        folder.join(format!("{target}.json"))
    }

    /// What was measured of a target under this key, if it was.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn find(folder: &Path, target: &str, key: &str) -> io::Result<Option<Self>> {
        let kept: Option<Self> = keep::read(&Self::path(folder, target))?;
        Ok(kept.filter(|angles| angles.key == key))
    }

    /// Writes it, in one piece or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        keep::write(&Self::path(folder, &self.target), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_come_back_under_their_key_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let domain = DomainAngles {
            domain: "target".into(),
            images: 256,
            stitches: 2,
            pairs: 1,
            mean: 80.0,
            median: 80.0,
            above_90: 0.0,
        };
        let angles =
            TargetAngles { target: "a".into(), key: "k".into(), domains: vec![domain], drawing: "<svg/>".into() };
        assert_eq!(TargetAngles::find(folder.path(), "a", "k").expect("nothing there"), None);
        angles.save(folder.path()).expect("is written");
        assert_eq!(TargetAngles::find(folder.path(), "a", "other").expect("reads"), None);
        assert_eq!(TargetAngles::find(folder.path(), "a", "k").expect("reads"), Some(angles));
    }
}
