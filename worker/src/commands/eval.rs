//! `esta-worker eval` (HANDS): held-out accuracy of stitches, and the palette's regret against exhaustive evaluation.

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
    machine::use_every_core();
    let total = stitches.len();
    let mut evaluation = evaluate(&run.family, &run.state.net, &stitches, |number, result| {
        eprintln!("{}/{total} stitch {}: {:.2} %", number + 1, result.stitch, 100.0 * result.accuracy);
    })?;
    print_table(&run, &evaluation);
    if args.which.all {
        print_regrets(&regrets(&measured(&run, &evaluation.results)?));
    }
    keep_what_is_known(&run, &mut evaluation)?;
    evaluation.save(&run.path)?;
    Ok(())
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

/// Results and exports of earlier evaluations stay in `eval.json` unless this one measured them again.
fn keep_what_is_known(run: &RunDir, evaluation: &mut Evaluation) -> anyhow::Result<()> {
    let path = run.path.join("eval.json");
    let Ok(text) = std::fs::read(&path) else { return Ok(()) };
    let earlier: Evaluation = serde_json::from_slice(&text)?;
    evaluation.exports = earlier.exports;
    // What the run took, not what this command takes.
    (evaluation.peak_memory, evaluation.cpu_seconds) = (earlier.peak_memory, earlier.cpu_seconds);
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
