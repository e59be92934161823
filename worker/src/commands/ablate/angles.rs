//! The angles of a study's targets (HANDS): measured once each, kept in the study's folder.

use std::path::Path;

use anyhow::Context;
use esta_engine::spec::JobSpec;
use esta_study::{
    angles::{DomainAngles, TargetAngles},
    plan::{AnglesPlan, Cell, Study},
    runner,
};

use crate::{
    angles::{self, Domain, Extent, heat_map},
    trainer::DeviceKind,
};

/// The angles of every target whose job has weights and images here, on the job of its first cell. What is in the folder
/// is taken from there; a target that cannot be measured is named and left out.
///
/// # Errors
/// When the folder cannot be read or written, or the source's job file is flawed.
pub fn of_targets(study: &Study, folder: &Path, device: DeviceKind) -> anyhow::Result<Vec<TargetAngles>> {
    let Some(plan) = &study.angles else { return Ok(Vec::new()) };
    let source = plan.source.as_deref().map(|file| esta_config::load(file, &[])).transpose()?.map(|law| law.spec);
    let cells = study.cells();
    let mut all = Vec::new();
    for target in &study.targets {
        let Some(cell) = cells.iter().find(|cell| cell.id.target == target.name) else { continue };
        let job = esta_config::load(&cell.config, &cell.set)?.spec;
        let key = key(plan, &job, source.as_ref());
        let kept = TargetAngles::find(folder, &target.name, &key).with_context(|| folder.display().to_string())?;
        if let Some(kept) = kept {
            all.push(kept);
            continue;
        }
        match measured(plan, cell, &job, source.as_ref(), device) {
            Ok(measured) => {
                let angles = TargetAngles { key, ..measured };
                angles.save(folder).with_context(|| folder.display().to_string())?;
                all.push(angles);
            }
            Err(error) => eprintln!("angles on {}: {error:#}", target.name),
        }
    }
    Ok(all)
}

/// What the figures depend on.
fn key(plan: &AnglesPlan, job: &JobSpec, source: Option<&JobSpec>) -> String {
    let source = source.map_or_else(String::new, runner::key);
    format!("{}-{source}-{}-{}", runner::key(job), plan.stitches, plan.images)
}

fn measured(
    plan: &AnglesPlan,
    cell: &Cell,
    job: &JobSpec,
    source: Option<&JobSpec>,
    device: DeviceKind,
) -> anyhow::Result<TargetAngles> {
    let extent = Extent { stitches: plan.stitches, images: plan.images };
    let on_source = source.map(|JobSpec { name, data, .. }| {
        (Domain::Source, JobSpec { name: name.clone(), data: data.clone(), ..job.clone() })
    });
    let mut domains = Vec::new();
    for (domain, job) in on_source.into_iter().chain([(Domain::Target, job.clone())]) {
        let job = angles::load(job, device).with_context(|| format!("{domain:?} domain"))?;
        domains.push(angles::measure(domain, &job, extent, |_, _| {}).with_context(|| format!("{domain:?} domain"))?);
    }
    let drawing = heat_map::draw(&domains);
    let domains = domains.iter().filter_map(in_words).collect();
    Ok(TargetAngles { target: cell.id.target.clone(), key: String::new(), domains, drawing })
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
