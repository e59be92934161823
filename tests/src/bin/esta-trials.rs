//! `esta-trials`: kills processes of runs, or listens to them, and tells what it cost.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use esta_tests::{
    collector::Collector,
    trials::{kills, soak},
};

#[derive(Debug, Parser)]
#[command(about = "Kills processes of real runs, or listens to them, and tells what it cost")]
struct Cli {
    #[command(subcommand)]
    trial: Trial,
}

#[derive(Debug, Subcommand)]
enum Trial {
    /// How long a run stands still when a process is killed or stopped, as JSON.
    Kills {
        /// Workers that are killed, and as many that are stopped; a third of that for leaders and etcd.
        #[arg(long, default_value_t = 30)]
        rounds: u32,
    },
    /// A run that loses a worker again and again has to end with the bits of one that loses none.
    Soak {
        /// The job.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Folder for both runs.
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
        /// Workers of a run.
        #[arg(long, default_value_t = 2)]
        workers: u32,
        /// Seconds between two kills.
        #[arg(long, default_value_t = 4.0)]
        every: f64,
    },
    /// A collector of traces and metrics: says by which variables programs export to it, as JSON, and when its input ends how
    /// many spans came.
    Collect,
}

fn main() -> ExitCode {
    match carry_out(Cli::parse().trial) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("esta-trials: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(trial: Trial) -> anyhow::Result<String> {
    match trial {
        Trial::Collect => {
            let collector = Collector::start()?;
            let variables: BTreeMap<String, String> = collector.environment().into_iter().collect();
            println!("{}", serde_json::to_string(&variables)?);
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
            Ok(collector.spans().len().to_string())
        }
        Trial::Kills { rounds } => Ok(serde_json::to_string_pretty(&kills::measure(rounds)?)?),
        Trial::Soak { config, folder, workers, every } => {
            std::fs::create_dir_all(&folder)?;
            let soaked = soak::soak(&folder, &config, workers, Duration::try_from_secs_f64(every)?)?;
            let [calm, rough] = soaked.seconds;
            Ok(format!(
                "{} steps, {} workers killed: the same table and adapters, bit for bit ({calm:.0} s undisturbed, \
                 {rough:.0} s with the kills)",
                soaked.steps, soaked.killed
            ))
        }
    }
}
