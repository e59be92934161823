//! `esta-worker eval` (HANDS): held-out accuracy of stitches, and the palette's regret against exhaustive evaluation.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args as ClapArgs;
use esta_engine::regret::{Measured, Regret, regrets};
use esta_proto::StitchId;

use super::RunArgs;
use crate::{
    eval::{Evaluation, StitchResult, evaluate},
    machine,
    run_dir::RunDir,
};

/// Arguments of `eval`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
struct Which {
    /// What any rule chose, and the anchors.
    #[arg(long)]
    palette: bool,
    /// These stitches.
    #[arg(long, value_delimiter = ',')]
    stitch: Vec<u32>,
    /// The whole catalog, with every rule's regret.
    #[arg(long)]
    all: bool,
}

/// Evaluates and prints.
///
/// # Errors
/// What could not be read or evaluated.
pub fn run(args: Args) -> anyhow::Result<()> {
    let run = args.run.open()?;
    let stitches = stitches(&run, &args.which)?;
    let home = Home::of(&run)?;
    machine::use_every_core();
    let total = stitches.len();
    let mut evaluation = evaluate(&run.family, &run.state.net, &stitches, |number, result| {
        eprintln!("{}/{total} stitch {}: {:.2} %", number + 1, result.stitch, 100.0 * result.accuracy);
    })?;
    print_table(&run, &evaluation);
    // First of all: what follows may lack a file.
    let own = evaluation.results.clone();
    evaluation.step = Some(run.state.applied);
    keep_what_is_known(home.folder(), &mut evaluation)?;
    evaluation.save(home.folder())?;
    println!("step {}: {}", run.state.applied, home.folder().join("eval.json").display());
    match (args.which.all, &home) {
        (false, _) => {}
        (true, Home::Run(_)) => print_regrets(&regrets(&measured(&run, &own)?)),
        (true, Home::Checkpoint(_)) => println!("no regrets: table.json is the table of the run's last step"),
    }
    Ok(())
}

/// The folder whose `eval.json` speaks of a checkpoint. The run's speaks of the newest, which is what the report shows and
/// what was exported.
#[derive(Debug, PartialEq)]
enum Home {
    Run(PathBuf),
    Checkpoint(PathBuf),
}

impl Home {
    fn of(run: &RunDir) -> anyhow::Result<Self> {
        let checkpoints = &run.family.checkpoints;
        let newest = checkpoints.complete()?.last() == Some(&run.state.applied);
        Ok(if newest { Self::Run(run.path.clone()) } else { Self::Checkpoint(checkpoints.path(run.state.applied)) })
    }

    fn folder(&self) -> &Path {
        match self {
            Self::Run(folder) | Self::Checkpoint(folder) => folder,
        }
    }
}

fn stitches(run: &RunDir, which: &Which) -> anyhow::Result<Vec<StitchId>> {
    let catalog = &run.family.law.catalog;
    let mut stitches: Vec<StitchId> = if which.all {
        catalog.stitches().map(|stitch| stitch.id).collect()
    } else if which.palette {
        let palettes = run.palettes()?;
        let picked = palettes.iter().flat_map(|(_, choices)| choices).map(|choice| choice.stitch);
        picked.chain(catalog.stitches().filter(|stitch| stitch.is_anchor()).map(|stitch| stitch.id)).collect()
    } else {
        which.stitch.iter().copied().map(StitchId).collect()
    };
    stitches.sort_unstable();
    stitches.dedup();
    Ok(stitches)
}

/// Results and exports of earlier evaluations stay in `eval.json` unless this one measured them again, or they are of
/// another step: a file that says no step is of the run's end.
fn keep_what_is_known(folder: &Path, evaluation: &mut Evaluation) -> anyhow::Result<()> {
    let path = folder.join("eval.json");
    let Ok(text) = std::fs::read(&path) else { return Ok(()) };
    let earlier: Evaluation =
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
    if earlier.step.is_some() && earlier.step != evaluation.step {
        return Ok(());
    }
    evaluation.exports = earlier.exports;
    // What the run took, not what this command takes.
    (evaluation.peak_memory, evaluation.cpu_seconds) = (earlier.peak_memory, earlier.cpu_seconds);
    evaluation.train_texts = earlier.train_texts;
    let again = |stitch: StitchId| evaluation.results.iter().any(|result| result.stitch == stitch);
    let kept: Vec<StitchResult> = earlier.results.into_iter().filter(|result| !again(result.stitch)).collect();
    evaluation.results.extend(kept);
    evaluation.results.sort_by_key(|result| result.stitch);
    Ok(())
}

fn measured(run: &RunDir, results: &[StitchResult]) -> anyhow::Result<Vec<Measured>> {
    let table = run.table()?;
    let of = |result: &StitchResult| {
        let stitch = run.family.law.catalog.get(result.stitch)?;
        let (_, row) = table.iter().find(|(id, _)| *id == result.stitch)?;
        let (budget, macs) = (stitch.budget, stitch.macs);
        let halves = Some(result.halves);
        Some(Measured { stitch: result.stitch, budget, macs, row: *row, accuracy: result.accuracy, halves })
    };
    Ok(results.iter().filter_map(of).collect())
}

fn print_table(run: &RunDir, evaluation: &Evaluation) {
    println!("{:>7} {:>6} {:>14} {:>12} {:>10} {:>8}", "stitch", "budget", "MACs", "parameters", "accuracy", "loss");
    for result in &evaluation.results {
        let Some(stitch) = run.family.law.catalog.get(result.stitch) else { continue };
        println!(
            "{:>7} {:>6} {:>14} {:>12} {:>8.2} % {:>8.4}",
            result.stitch.0,
            stitch.budget.0,
            stitch.macs,
            stitch.params,
            100.0 * result.accuracy,
            result.loss
        );
    }
    println!("{} held-out images, {:.1} s", evaluation.images, evaluation.seconds);
}

fn print_regrets(regrets: &[Regret]) {
    let points = |points: Option<f64>| points.map_or_else(|| "-".to_owned(), |points| format!("{points:.2}"));
    println!("\n{:<16} {:>12} {:>12} {:>12}", "rule", "mean regret", "split halves", "Kendall tau");
    for regret in regrets {
        println!(
            "{:<16} {:>12} {:>12} {:>12}",
            regret.selector.name(),
            points(regret.mean),
            points(regret.split),
            points(regret.tau)
        );
    }
    println!("points of accuracy below the best of each budget with more than one stitch, mean over budgets");
}

#[cfg(test)]
mod tests {
    use esta_proto::Step;

    use super::*;
    use crate::eval::Exported;

    fn evaluation(step: Option<u64>, accuracies: &[(u32, f64)]) -> Evaluation {
        let result = |&(stitch, accuracy)| StitchResult {
            stitch: StitchId(stitch),
            accuracy,
            halves: [accuracy; 2],
            loss: 1.0,
            correct: 1,
            tokens_per_second: None,
            planned_memory: None,
            probe: None,
        };
        let results = accuracies.iter().map(result).collect();
        Evaluation { step: step.map(Step), results, ..Evaluation::default() }
    }

    /// What a file holds after `later` was measured beside `earlier`.
    fn kept(earlier: &Evaluation, mut later: Evaluation) -> (Vec<(u32, f64)>, usize) {
        let folder = tempfile::tempdir().expect("a folder");
        earlier.save(folder.path()).expect("writes");
        keep_what_is_known(folder.path(), &mut later).expect("reads");
        let results = later.results.iter().map(|result| (result.stitch.0, result.accuracy)).collect();
        (results, later.exports.len())
    }

    #[test]
    fn what_was_measured_at_another_step_does_not_stand_beside() {
        let exports = vec![Exported { stitch: StitchId(1), path: "export/stitch-1".into() }];
        let of = |step| Evaluation { exports: exports.clone(), ..evaluation(step, &[(1, 0.5), (2, 0.6)]) };
        let again = || evaluation(Some(120), &[(2, 0.7)]);
        let together = (vec![(1, 0.5), (2, 0.7)], 1);
        assert_eq!(kept(&of(Some(120)), again()), together);
        assert_eq!(kept(&of(None), again()), together, "a file that says none");
        assert_eq!(kept(&of(Some(80)), again()), (vec![(2, 0.7)], 0));
    }
}
