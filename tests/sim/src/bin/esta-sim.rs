//! `make sim SEEDS=10000 FIRST=1`: simulations of many seeds, and any one of them told happening by happening. What the
//! laws come to in figures is measured by name: `esta-sim reports`,
//! `esta-sim useful`.

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use clap::{Parser, Subcommand};
use esta_sim::{Failures, Load, Outcome, Sim, Violation, hear_reports, useful_work};
use serde_json::json;

/// Simulates runs under faults that a seed decides.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    measure: Option<Measure>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Seeds in all.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// Tell everything that happens.
    #[arg(long)]
    verbose: bool,
}

/// Figures of the two laws; each is printed as one JSON object per line.
#[derive(Debug, Subcommand)]
enum Measure {
    /// A million reports, doubled and out of order, heard by four leaders in turn: is the table that of a serial replay?
    Reports {
        /// Decides the disorder.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// The share of useful work against step time over time between failures, with thirty workers.
    Useful {
        /// Decides the failures.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Steps of a run.
        #[arg(long, default_value_t = 1000)]
        steps: u64,
        /// Slots of a step, which thirty workers share.
        #[arg(long, default_value_t = 300)]
        slots: u32,
        /// Step time over mean time between failures.
        #[arg(long, value_delimiter = ',', default_values_t = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])]
        ratios: Vec<f64>,
        /// One JSON object per line instead of a table.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.measure {
        None => simulate(&args),
        Some(Measure::Reports { seed }) => reports(seed),
        Some(Measure::Useful { seed, steps, slots, ratios, json }) => {
            useful(seed, json, ratios.into_iter().map(|ratio| Failures { slots, ..Failures::f10(ratio, steps) }))
        }
    }
}

fn reports(seed: u64) -> ExitCode {
    let begun = Instant::now();
    match hear_reports(seed, &Load::d2()) {
        Ok(tally) => {
            let seconds = begun.elapsed().as_secs_f64();
            println!("{}", json!({ "row": "D2", "seed": seed, "seconds": seconds, "tally": tally, "equal": true }));
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("{}", json!({ "row": "D2", "seed": seed, "equal": false, "violation": violation.to_string() }));
            ExitCode::FAILURE
        }
    }
}

fn useful(seed: u64, json: bool, curve: impl Iterator<Item = Failures>) -> ExitCode {
    if !json {
        println!("step/MTBF   useful    floor   of floor   failures   generations");
    }
    for failures in curve {
        match useful_work(seed, &failures) {
            Ok(share) if json => println!("{}", json!({ "row": "F10", "seed": seed, "share": share })),
            Ok(share) => println!(
                "{:>9.3}   {:>6.4}   {:>6.4}   {:>8.3}   {:>8}   {:>11}",
                share.ratio, share.share, share.floor, share.of_floor, share.failures, share.generations
            ),
            Err(violation) => {
                println!("{violation}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn simulate(args: &Args) -> ExitCode {
    let (next, end) = (AtomicU64::new(args.first), args.first + args.seeds);
    let results: Mutex<Vec<(u64, Result<Outcome, Violation>)>> = Mutex::new(Vec::new());
    let threads = if args.verbose { 1 } else { thread::available_parallelism().map_or(1, usize::from) };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let mut sim = Sim::new(seed);
                    sim.verbose = args.verbose;
                    let result = sim.run();
                    if let Err(violation) = &result {
                        println!("seed {seed}: {violation}; again with --first {seed} --seeds 1 --verbose");
                    }
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((seed, result));
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let held: Vec<&Outcome> = results.iter().filter_map(|(_, result)| result.as_ref().ok()).collect();
    let sum = |value: fn(&Outcome) -> f64| held.iter().map(|outcome| value(outcome)).sum::<f64>();
    println!(
        "{} of {} seeds hold: {:.0} h of virtual time, {:.0} faults, {:.0} terms of office, {:.0} generations, {:.0} of \
         which outlived their leader",
        held.len(),
        results.len(),
        sum(|outcome| outcome.took.as_secs_f64()) / 3600.0,
        sum(|outcome| f64::from(outcome.faults)),
        sum(|outcome| outcome.epochs as f64),
        sum(|outcome| outcome.generations as f64),
        sum(|outcome| outcome.resumed as f64),
    );
    if held.len() == results.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
