//! `esta-worker angles` (HANDS): pairwise angles between stitches' gradients on the weights they share (Fig. 2 of the
//! paper), as numbers and as a plot.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args as ClapArgs;
use esta_config::JobArgs;
use serde::Serialize;

use crate::{
    angles::{Domain, DomainAngles, Extent, heat_map, load, measure, on_images_of},
    machine,
    trainer::DeviceKind,
};

/// Arguments of `angles`: the job's anchors, its space, and its training images as the target domain.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    job: JobArgs,
    /// A job file whose training images are the source domain; of it only `data` is used, and `--set` does not reach it.
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    /// Stitches, the first of the first stitched pair of anchors.
    #[arg(long, default_value = "32")]
    stitches: NonZeroUsize,
    /// Images behind each gradient.
    #[arg(long, default_value = "256")]
    images: NonZeroU64,
    /// Folder that receives `angles.json` and `angles.svg`; the job's run folder when absent.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where tensors live.
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
}

/// Measures, writes and prints.
///
/// # Errors
/// What could not be read, computed or written.
pub fn run(args: Args) -> anyhow::Result<()> {
    let target = args.job.law()?.spec;
    let source = args.source.as_deref().map(|path| esta_config::load(path, &[])).transpose()?;
    let source = source.map(|law| on_images_of(&law.spec, &target));
    let out = args.out.unwrap_or_else(|| PathBuf::from(target.run_dir()));
    machine::use_every_core();
    let extent = Extent { stitches: args.stitches.get(), images: args.images.get() };
    let jobs = source.map(|job| (Domain::Source, job)).into_iter().chain([(Domain::Target, target)]);
    let mut domains = Vec::new();
    for (domain, job) in jobs {
        let hear = |done: usize, all: usize| eprint!("\r{domain:?}: {done} of {all} stitches");
        let job = load(job, args.device).with_context(|| format!("{domain:?} domain"))?;
        let angles = measure(domain, &job, extent, hear);
        eprintln!();
        domains.push(angles.with_context(|| format!("{domain:?} domain"))?);
    }
    write(&out, &domains)?;
    print_table(&domains);
    println!("{}", out.join("angles.svg").display());
    Ok(())
}

#[derive(Serialize)]
struct File<'a> {
    domains: &'a [DomainAngles],
}

fn write(out: &Path, domains: &[DomainAngles]) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let save = |name: &str, contents: &[u8]| {
        let path = out.join(name);
        std::fs::write(&path, contents).with_context(|| format!("{} cannot be written", path.display()))
    };
    save("angles.json", &serde_json::to_vec(&File { domains })?)?;
    save("angles.svg", heat_map::draw(domains).as_bytes())
}

fn print_table(domains: &[DomainAngles]) {
    println!(
        "{:<8} {:>8} {:>7} {:>7} {:>11} {:>9} {:>10}",
        "domain", "stitches", "images", "pairs", "mean angle", "median", "above 90°"
    );
    for angles in domains {
        let domain = format!("{:?}", angles.domain).to_lowercase();
        let (stitches, images) = (angles.stitches.len(), angles.images);
        let Some(summary) = &angles.summary else {
            println!("{domain:<8} {stitches:>8} {images:>7}   no two stitches share a block");
            continue;
        };
        println!(
            "{domain:<8} {stitches:>8} {images:>7} {:>7} {:>10.1}° {:>8.1}° {:>8.1} %",
            summary.pairs,
            summary.mean,
            summary.median(),
            100.0 * summary.above_90
        );
    }
}
