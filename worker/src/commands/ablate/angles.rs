//! The angles of a study's targets (HANDS): measured once each, kept in the study's folder.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;
use esta_engine::spec::JobSpec;
use esta_study::{
    angles::{Bundle, DomainAngles, TargetAngles, jobs, key},
    plan::Study,
    runner,
};

use crate::{
    angles::{self, Domain, Extent, heat_map},
    trainer::DeviceKind,
};

/// Whether angles that are not there yet are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// What is missing is.
    Missing,
    /// Nothing is: what is there is taken.
    Nothing,
}

/// The job of the source domain, where the study names one.
///
/// # Errors
/// When its file is flawed: better known before the first cell runs.
pub fn source(study: &Study) -> anyhow::Result<Option<JobSpec>> {
    let file = study.angles.as_ref().and_then(|plan| plan.source.as_deref());
    Ok(file.map(|file| esta_config::load(file, &[])).transpose()?.map(|law| law.spec))
}

/// Takes angles that were committed beside results made elsewhere, where their jobs are the same and none are kept yet.
///
/// # Errors
/// When they cannot be read or written, or a cell's job does not load.
pub fn adopt(study: &Study, source: Option<&JobSpec>, results: &Path, folder: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot take the angles beside {}", results.display());
    let Some((plan, bundle)) = study.angles.as_ref().zip(Bundle::beside(results).with_context(failed)?) else {
        return Ok(());
    };
    for (target, job) in jobs(study)? {
        let key = key(plan, &job, source);
        let offered = bundle.angles.iter().find(|angles| angles.target == target && angles.key == key);
        let kept = TargetAngles::find(folder, &target, &key).with_context(failed)?;
        if let (Some(offered), None) = (offered, kept) {
            offered.save(folder).with_context(failed)?;
        }
    }
    Ok(())
}

/// The angles of every target whose job has weights and images here, on the job of its first cell. What is in the folder
/// is taken from there; a target that cannot be measured, read or kept is named and left out: no page is lost by it.
///
/// # Errors
/// When a cell's job does not load.
pub fn of_targets(
    study: &Study,
    source: Option<&JobSpec>,
    folder: &Path,
    device: DeviceKind,
    measure: Measure,
) -> anyhow::Result<Vec<TargetAngles>> {
    let Some(plan) = &study.angles else { return Ok(Vec::new()) };
    let extent = Extent { stitches: plan.stitches, images: plan.images };
    let mut meter = Meter { extent, device, known: BTreeMap::new() };
    let mut all = Vec::new();
    for (target, job) in jobs(study)? {
        let on_source = source.map(|source| angles::on_images_of(source, &job));
        let key = key(plan, &job, source);
        match TargetAngles::find(folder, &target, &key) {
            Ok(Some(kept)) => {
                all.push(kept);
                continue;
            }
            Ok(None) => {}
            Err(error) => eprintln!("angles on {target}: what was kept cannot be read: {error}"),
        }
        if measure == Measure::Nothing {
            continue;
        }
        match meter.both(&job, on_source.as_ref()) {
            Ok(domains) => {
                let drawing = heat_map::draw(&domains);
                let domains = domains.iter().filter_map(in_words).collect();
                let angles = TargetAngles { target, key, domains, drawing };
                if let Err(error) = angles.save(folder) {
                    eprintln!("angles on {}: cannot be kept: {error}", angles.target);
                }
                all.push(angles);
            }
            Err(error) => eprintln!("angles on {target}: {error:#}"),
        }
    }
    Ok(all)
}

/// Measures jobs, each once: the source domain is the same for all targets of a family.
struct Meter {
    extent: Extent,
    device: DeviceKind,
    known: BTreeMap<String, angles::DomainAngles>,
}

impl Meter {
    fn both(&mut self, job: &JobSpec, on_source: Option<&JobSpec>) -> anyhow::Result<Vec<angles::DomainAngles>> {
        let jobs = on_source.map(|job| (Domain::Source, job)).into_iter().chain([(Domain::Target, job)]);
        jobs.map(|(domain, job)| self.one(domain, job).with_context(|| format!("{domain:?} domain"))).collect()
    }

    fn one(&mut self, domain: Domain, job: &JobSpec) -> anyhow::Result<angles::DomainAngles> {
        let key = format!("{domain:?} {}", runner::key(job));
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let measured = angles::measure(domain, &angles::load(job.clone(), self.device)?, self.extent, |_, _| {})?;
        self.known.insert(key, measured.clone());
        Ok(measured)
    }
}

/// A domain's summary; none where no two stitches share a block.
fn in_words(angles: &angles::DomainAngles) -> Option<DomainAngles> {
    let summary = angles.summary.as_ref()?;
    Some(DomainAngles {
        domain: format!("{:?}", angles.domain).to_lowercase(),
        images: angles.images,
        stitches: angles.stitches.len(),
        pairs: summary.pairs,
        mean: summary.mean,
        median: summary.median(),
        above_90: summary.above_90,
    })
}
