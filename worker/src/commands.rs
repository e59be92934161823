//! The commands of `esta-worker` (HANDS), one module each.

pub mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Trains the stitches a coordinator gives it, and turns finished runs into models.
#[derive(Debug, Parser)]
#[command(name = "esta-worker", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the worker can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take part in a run.
    Train(train::Args),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// What failed, with its causes.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Train(args) => train::run(args),
        }
    }
}
