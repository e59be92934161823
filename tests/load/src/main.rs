//! `esta-load`: figures of a coordinator under load, as the rows of `make bench`, one JSON object per line (HANDS).

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use esta_load::{
    Wire,
    parts::{Bench, Kill, Part},
};

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
    /// What is spoken, in turn.
    #[arg(long, value_enum, default_values = ["plain", "tls"])]
    wire: Vec<Wire>,
    /// Steps that are on record when the coordinator is killed.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    history: u64,
    /// Ranks that come back after that.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    back: u32,
    /// How many of them share a connection.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=250))]
    sessions: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let beside = || -> anyhow::Result<PathBuf> {
        let own = std::env::current_exe().context("looking for this program")?;
        Ok(own.with_file_name("esta-coordinator"))
    };
    let coordinator = args.coordinator.map_or_else(beside, Ok)?;
    let kill = |wire| Kill { history: args.history, sessions: args.sessions, wire, ..Kill::of(args.back) };
    let bench = Bench {
        coordinator,
        soak_steps: args.soak_steps,
        wait_steps: args.wait_steps,
        kills: args.wire.iter().copied().map(kill).collect(),
        wires: args.wire,
    };
    let parts = if args.only.is_empty() { Part::SHORT.to_vec() } else { args.only };
    for part in parts {
        bench.measure(part).await.with_context(|| format!("measuring {part:?}"))?;
    }
    Ok(())
}
