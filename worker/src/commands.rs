//! The commands of `esta-worker` (HANDS), one module each.

pub mod angles;
pub mod eval;
pub mod export;
pub mod pretrain;
pub mod train;

use std::{path::Path, process::ExitCode};

use anyhow::Context;
use clap::{Parser, Subcommand};
use esta_engine::spec::JobSpec;

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
    /// Measure stitches on held-out images.
    Eval(eval::Args),
    /// Make small anchors from scratch.
    Pretrain(pretrain::Args),
    /// Turn a run into models that need PyTorch alone.
    Export(export::Args),
    /// Measure how far apart stitches pull the weights they share.
    Angles(angles::Args),
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// What failed, with its causes.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Train(args) => train::run(args),
            Self::Eval(args) => eval::run(args),
            Self::Pretrain(args) => pretrain::run(args),
            Self::Export(args) => export::run(args),
            Self::Angles(args) => angles::run(args),
        }
    }
}

/// Reads a job file or a run's resolved `job.json`.
///
/// # Errors
/// With the file's name, and line and column of what is wrong.
pub(crate) fn read_job(path: &Path) -> anyhow::Result<JobSpec> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let spec: JobSpec = serde_saphyr::from_str(&text).with_context(|| format!("{} is no job", path.display()))?;
    Ok(spec)
}
