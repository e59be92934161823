//! `esta-load`: figures of a coordinator under load, as the rows of `make bench`, one JSON object per line (HANDS).

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use esta_load::parts::{Bench, Part};

/// Drives a coordinator with simulated ranks and measures it.
#[derive(Debug, Parser)]
#[command(name = "esta-load")]
struct Args {
    /// The coordinator's program; by default the one beside this program.
    #[arg(long, value_name = "FILE")]
    coordinator: Option<PathBuf>,
    /// These parts instead of all that take seconds.
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Steps of the long run.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    soak_steps: u64,
    /// Steps of the run whose trainers' waits are measured.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    wait_steps: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let beside = || -> anyhow::Result<PathBuf> {
        let own = std::env::current_exe().context("looking for this program")?;
        Ok(own.with_file_name("esta-coordinator"))
    };
    let coordinator = args.coordinator.map_or_else(beside, Ok)?;
    let bench = Bench { coordinator, soak_steps: args.soak_steps, wait_steps: args.wait_steps };
    let parts = if args.only.is_empty() { Part::SHORT.to_vec() } else { args.only };
    for part in parts {
        bench.measure(part).await.with_context(|| format!("measuring {part:?}"))?;
    }
    Ok(())
}
