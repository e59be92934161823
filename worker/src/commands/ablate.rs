//! `esta-worker ablate` (HANDS): the same job under many settings and seeds, or a whole study, and one page of it.

mod angles;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use esta_page::numbers::date;
use esta_study::{
    axes,
    jobs::Jobs,
    page::{About, Findings, RuleGroup, render},
    plan::{Cell, Study, Target},
    runner::{self, Keep, Site},
    summary::{Effect, ONE_RULE, Over, Summary, Verdict, verdict},
    trials,
};

use self::angles::Measure;
use crate::{machine, trainer::DeviceKind};

/// Arguments of `ablate`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The job's YAML file.
    #[arg(long, value_name = "FILE", required_unless_present = "study", requires = "over")]
    config: Option<PathBuf>,
    /// Set a value of the job, as other commands do.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Switches to change, one at a time: short names such as pst.bias, score.q, sampling, lstsq, slots, or any
    /// key=value|value.
    #[arg(long, value_name = "AXES", value_delimiter = ',')]
    over: Vec<String>,
    /// A study's YAML file instead of one job: targets, seeds, arms, claims.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "over"])]
    study: Option<PathBuf>,
    /// A job's file to adapt to, instead of the study's targets.
    #[arg(long, value_name = "FILE", requires = "study")]
    target: Vec<PathBuf>,
    /// Seeds: the job's own and those after it; of a study its first ones.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// Only cells whose name (target--arm--seed) contains one of these.
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    only: Vec<String>,
    /// The study's folder; `runs/<name>` when absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Cells at a time; as many as there are cores for when absent, one on a device.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Workers of every cell.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
    /// Where tensors live.
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
    /// Keep checkpoints and records of finished cells.
    #[arg(long)]
    keep: bool,
    /// Take results made elsewhere (a results.jsonl) where their jobs are the same.
    #[arg(long, value_name = "FILE")]
    adopt: Option<PathBuf>,
    /// Run nothing: put together what is there.
    #[arg(long)]
    page_only: bool,
}

/// Seeds of an ablation where none are asked for.
const SEEDS: u64 = 3;

/// Runs what is missing and writes the page.
///
/// # Errors
/// What is wrong with a job before anything runs; which cells failed after the others ran.
pub fn run(args: Args) -> anyhow::Result<()> {
    let study = study(&args)?;
    let folder = args.out.clone().unwrap_or_else(|| Path::new("runs").join(&study.name));
    let cells = runner::keyed(&study)?;
    let jobs = Jobs::of(&study)?;
    let source = angles::source(&study)?;
    for idle in axes::idle(&study, &jobs) {
        println!("{idle}");
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    if let Some(file) = &args.adopt {
        let taken = runner::adopt(&cells, file, &folder)?;
        eprintln!("{taken} results taken from {}", file.display());
        angles::adopt(&study, source.as_ref(), file, &folder.join("angles"))?;
    }
    let ran = if args.page_only { Ok(()) } else { run_cells(&args, &cells, &folder) };
    let gained = runner::refresh(&cells, &folder)?;
    if gained > 0 {
        eprintln!("{gained} finished runs were read again for rules that came after them");
    }
    let results = runner::finished(&cells, &folder)?;
    let bundle = folder.join("results.jsonl");
    runner::bundle(&results, &bundle).with_context(|| format!("cannot write {}", bundle.display()))?;
    let summary = Summary::of(&study, &results, &jobs);
    let page = folder.join("study.html");
    let groups = trials::groups(&study, &summary);
    let measure = if args.page_only { Measure::Nothing } else { Measure::Missing };
    let angles = angles::of_targets(&study, source.as_ref(), &folder.join("angles"), args.device, measure)?;
    let findings = Findings { summary: &summary, results: &results, jobs: &jobs, rules: &groups, angles: &angles };
    let text = render(&study, &findings, &about(&args));
    std::fs::write(&page, text).with_context(|| format!("cannot write {}", page.display()))?;
    print_summary(&summary);
    print_rules(&groups);
    println!("page: {}", page.display());
    ran?;
    Ok(())
}

fn study(args: &Args) -> anyhow::Result<Study> {
    let mut study = match (&args.study, &args.config) {
        (Some(file), _) => Study::read(file)?,
        (None, Some(config)) => axes::study(config, &args.set, &args.over, args.seeds.unwrap_or(SEEDS))?,
        (None, None) => bail!("give --config and --over, or --study"),
    };
    if args.study.is_some() {
        study.seeds.truncate(args.seeds.map_or(usize::MAX, |seeds| usize::try_from(seeds).unwrap_or(usize::MAX)));
        study.arms.iter_mut().for_each(|arm| arm.set.extend(args.set.clone()));
        if !args.target.is_empty() {
            study.targets = args.target.iter().map(|file| target(file)).collect::<anyhow::Result<_>>()?;
            study.validate()?;
        }
    }
    Ok(study)
}

fn target(file: &Path) -> anyhow::Result<Target> {
    let name =
        file.file_stem().and_then(|name| name.to_str()).with_context(|| format!("--target {}", file.display()))?;
    Ok(Target { name: name.to_owned(), config: file.to_owned(), ..Target::default() })
}

fn run_cells(args: &Args, cells: &[(Cell, String)], folder: &Path) -> anyhow::Result<()> {
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|text| name.contains(text));
    let due: Vec<(Cell, String)> = cells.iter().filter(|(cell, _)| wanted(&cell.id.name())).cloned().collect();
    if due.is_empty() {
        bail!("--only {}: no cell's name contains it; the first is {}", args.only.join(","), cells[0].0.id.name());
    }
    let site = Site {
        folder: folder.to_owned(),
        jobs: args.jobs.unwrap_or_else(|| jobs(args)),
        workers: args.workers,
        device: args.device.to_string(),
        keep: if args.keep { Keep::Everything } else { Keep::Evidence },
    };
    Ok(runner::run(&due, &site)?)
}

/// As many cells as there are cores for; cells on a device take turns.
fn jobs(args: &Args) -> usize {
    match args.device {
        DeviceKind::Cpu => (machine::cores() / args.workers).max(1) as usize,
        DeviceKind::Cuda => 1,
    }
}

fn print_summary(summary: &Summary) {
    let area = |area: Option<f64>| area.map_or_else(|| "-".to_owned(), |area| format!("{area:.2}"));
    let one_rule = format!("by {}, %", ONE_RULE.name());
    println!("{:<20} {:>14} {one_rule:>14} {:>14} {:>10}", "arm", "own rule, %", "oracle's, %", "seconds");
    for arm in &summary.arms {
        let seconds = arm.costs.map_or_else(|| "-".to_owned(), |costs| format!("{:.0}", costs.train_seconds));
        let [own, one, oracle] = [arm.area, arm.one_rule_area, arm.oracle_area].map(area);
        println!("{:<20} {own:>14} {one:>14} {oracle:>14} {seconds:>10}", arm.name);
    }
    println!("\nmean accuracy over budgets spaced by ratio, mean over targets and seeds");
    for claim in &summary.claims {
        let sides = format!("{:>20} over {:<20}", claim.claim.arm, claim.claim.against);
        let (own, one) = (judged(claim.own.as_ref()), judged(claim.one_rule.as_ref()));
        println!("{sides} {own}{}", time(claim.own.as_ref()));
        if own != one {
            println!("{sides} {one}, both by {}", ONE_RULE.name());
        }
        for at in &claim.at_anchors {
            println!("{sides} {} at the cost of {}", judged(at.own.as_ref()), at.anchor);
        }
    }
    println!("{} of {} cells", summary.cells.1, summary.cells.0);
}

fn print_rules(groups: &[RuleGroup]) {
    let points = |points: Option<f64>| points.map_or_else(|| "-".to_owned(), |points| format!("{points:.2}"));
    for group in groups {
        println!("\n{}: {}", group.title, group.words);
        println!("{:<18} {:>12} {:>12} {:>12}", "rule", "mean regret", "split halves", "Kendall tau");
        for line in &group.lines {
            let [mean, split, tau] = [line.mean, line.split, line.tau].map(points);
            println!("{:<18} {mean:>12} {split:>12} {tau:>12}  {}", line.rule, line.note);
        }
        println!("{:<18} {:>12} {:>12} {:>12}  split halves", "arm", "auto", "snip", "best control");
        for arm in &group.arms {
            let [auto, snip, control] = [arm.auto, arm.snip, arm.best_control].map(|loss| format!("{:.2}", loss.split));
            println!("{:<18} {auto:>12} {snip:>12} {control:>12}  {}", arm.arm, arm.control);
        }
    }
}

/// How the page came to be.
fn about(args: &Args) -> About {
    let words: Vec<String> = std::env::args().skip(1).collect();
    About {
        command: format!("esta-worker {}", words.join(" ")),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: format!("{} cores", machine::cores()),
        date: today(),
        device: args.device.to_string(),
    }
}

/// The date of this moment, as pages write it.
fn today() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or_else(|_| String::new(), |now| date(now.as_secs_f64()))
}

/// An effect and what it says, in words.
fn judged(effect: Option<&Effect>) -> String {
    let figures = effect.map_or_else(|| "-".to_owned(), figures);
    let words = match verdict(effect) {
        Verdict::Holds => "better by more than it may be off",
        Verdict::Reversed => "worse by more than it may be off",
        Verdict::Open => "no clear difference",
        Verdict::NotJudged => "not judged: one target, one seed",
        Verdict::Unknown => "not measured",
    };
    format!("{figures}, {words}")
}

/// The mean, how far it may be off, and what says so.
fn figures(effect: &Effect) -> String {
    let over = match effect.over {
        Over::Targets => format!("{} targets", effect.targets.len()),
        Over::Seeds => "seeds of one target".to_owned(),
    };
    let reach = effect.reach().map_or_else(String::new, |reach| {
        format!(" +- {reach:.2} ({:.2} standard errors over {over})", effect.errors())
    });
    format!("{:+.2}{reach} points, pairs: {}", effect.mean, effect.pairs)
}

fn time(effect: Option<&Effect>) -> String {
    let ratio = effect.and_then(|effect| effect.time);
    ratio.map_or_else(String::new, |ratio| format!(", in {ratio:.2} of the time"))
}
