//! The command line of `esta-coordinator` (HANDS), one module per command.

mod catalog;
mod children;
mod config;
mod exposure;
mod live;
mod memory;
mod outcome;
mod palette;
mod protection;
mod pull;
mod record;
mod replay;
mod report;
mod run;
mod serve;
mod sitting;
mod status;
mod store;
mod watch;

use std::io::{self, Write};

use clap::{Parser, Subcommand, ValueEnum};
use esta_config::JobArgs;
use esta_engine::law::Law;

use crate::failure::Failure;

/// As [`crate::failure`] tells them apart.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong command line, 3 wrong configuration, 4 the record cannot be \
kept or read, 5 the run cannot go on, 6 an address is in use or nobody answers, 7 every worker is gone, 8 a certificate or token is \
refused, 130 interrupted.";

/// Leads ESTA runs: one fine-tuning run that turns a family of anchors into a palette of networks, one per budget.
#[derive(Debug, Parser)]
#[command(name = "esta-coordinator", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the coordinator can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lead a run; workers connect to it. The same command resumes the run.
    Serve(serve::ServeArgs),
    /// Lead a run on this machine, with its workers as child processes. The same command resumes the run.
    Run(run::RunArgs),
    /// List the stitches of a job with their MACs, parameters and bins.
    Catalog(catalog::CatalogArgs),
    /// Say what a worker of a language-model job needs in memory, and on which cards it fits.
    Memory(memory::MemoryArgs),
    /// Ask a coordinator how its run goes.
    Status(status::StatusArgs),
    /// Show the stitches chosen for deployment, of a live run or of a run's folder.
    Palette(palette::PaletteArgs),
    /// Derive any plan and the table behind it again from a run's record, and compare.
    Replay(replay::ReplayArgs),
    /// Check, resolve and describe configurations.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Write report.html into a run's folder.
    Report(report::ReportArgs),
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines and columns for reading.
    Table,
    /// JSON for programs.
    Json,
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// [`Failure`], with the exit code it deserves.
    pub async fn carry_out(self) -> Result<(), Failure> {
        match self {
            Self::Serve(args) => serve::serve(args).await,
            Self::Run(args) => run::run(args).await,
            Self::Catalog(args) => catalog::catalog(&args),
            Self::Memory(args) => memory::memory(&args),
            Self::Status(args) => status::status(&args).await,
            Self::Palette(args) => palette::palette(args).await,
            Self::Replay(args) => replay::replay(&args).await,
            Self::Config(command) => config::config(&command),
            Self::Report(args) => report::report(&args),
        }
    }
}

/// Reads a job and warns of what is allowed in it but probably not meant.
fn law(job: &JobArgs) -> Result<Law, Failure> {
    let law = job.law()?;
    for warning in law.catalog.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(law)
}

/// Writes a command's result to standard output. A reader that has seen enough, as `head` has, is no failure.
fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Other(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
