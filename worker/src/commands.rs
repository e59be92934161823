//! The commands of `esta-worker` (HANDS), one module each.

pub mod ablate;
pub mod angles;
pub mod eval;
pub mod export;
pub mod generate;
pub mod pretrain;
pub mod profile;
pub mod tokenizer;
pub mod train;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use esta_proto::Step;

use crate::{run_dir::RunDir, trainer::DeviceKind};

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
    /// Make a job's anchors from scratch, written where their `weights` point.
    Pretrain(pretrain::Args),
    /// Turn a run into models that need PyTorch alone.
    Export(export::Args),
    /// Let an exported language model answer.
    Generate(generate::Args),
    /// Make a tokenizer from documents, for anchors that are pre-trained on the spot.
    Tokenizer(tokenizer::Args),
    /// Measure how far apart stitches pull the weights they share, on the job's training images.
    Angles(angles::Args),
    /// Run a job under many settings and seeds, or a whole study, and put what came out on one page.
    Ablate(ablate::Args),
    /// Measure how long every stitch takes on this machine, for budgets and palettes by latency. Needs no data.
    Profile(profile::Args),
}

/// A run's folder and what of it is taken.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The run's folder.
    #[arg(long, value_name = "DIR")]
    run_dir: PathBuf,
    /// Applied steps of the checkpoint to take; the newest when absent.
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
    /// Where tensors live.
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
}

impl RunArgs {
    fn open(&self) -> anyhow::Result<RunDir> {
        RunDir::open(&self.run_dir, self.checkpoint.map(Step), self.device)
    }
}

impl Command {
    /// Does it; answers the exit code of a command that did not fail.
    ///
    /// # Errors
    /// What failed, with its causes.
    pub fn run(self) -> anyhow::Result<u8> {
        match self {
            Self::Train(args) => return train::run(args),
            Self::Eval(args) => eval::run(args),
            Self::Pretrain(args) => pretrain::run(args),
            Self::Export(args) => export::run(args),
            Self::Generate(args) => generate::run(args),
            Self::Tokenizer(args) => tokenizer::run(&args),
            Self::Angles(args) => angles::run(args),
            Self::Ablate(args) => ablate::run(args),
            Self::Profile(args) => profile::run(&args),
        }?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const BASE: &str = "
name: tiny
recipe: paper
reduce: {kind: f32}
family:
  anchors:
    - {name: a, weights: a, arch: {image_size: 8, patch_size: 4, in_chans: 1, embed_dim: 8, depth: 2, num_heads: 2}}
    - {name: b, weights: b, arch: {image_size: 8, patch_size: 4, in_chans: 1, embed_dim: 16, depth: 2, num_heads: 2}}
train: {max_steps: 1, batch_size: 4}
data: {num_classes: 2, train: {layout: idx, path: images, labels: labels}}
";

    /// Exit code and line of a command that fails on a job file saying `text`, without the folder's name.
    fn failure(command: &str, text: &str, set: &str) -> (u8, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("writes");
        write("base.yaml", BASE);
        write("job.yaml", text);
        let job = folder.path().join("job.yaml").display().to_string();
        let words = ["esta-worker", command, "--config", &job, "--set", set];
        let error =
            Cli::try_parse_from(words).expect("they are words of this program").command.run().expect_err("flawed");
        let line = format!("{error:#}").replace(&format!("{}/", folder.path().display()), "");
        (crate::exit::of(&error), line)
    }

    #[test]
    fn a_mistake_in_a_job_file_is_named_by_place_and_key_with_a_suggestion() {
        for command in ["pretrain", "angles"] {
            let (code, line) = failure(command, "base: base.yaml\nsede: 1\n", "seed=1");
            assert_eq!(
                (code, line.as_str()),
                (crate::exit::MISFIT, r#"job.yaml:2:1: unknown key "sede"; did you mean "seed"?"#)
            );
            let (code, line) = failure(command, "base: base.yaml\n", "pst.lora_r=0");
            let expected = "--set pst.lora_r=0: pst.lora_r: 0 is no rank; it is at least 1";
            assert_eq!((code, line.as_str()), (crate::exit::MISFIT, expected));
        }
    }

    #[test]
    fn bases_and_overrides_reach_the_job() {
        let extended = "base: base.yaml\n";
        let (code, line) = failure("pretrain", extended, "data.train.path=/nowhere/images");
        assert!(code == crate::exit::DATA && line.contains("/nowhere/images"), "{code}: {line}");
        // Data first: what is wrong with it is known before anything large is read.
        let (code, line) = failure("angles", extended, "data.train.path=/nowhere/others");
        assert!(code == crate::exit::DATA && line.contains("/nowhere/others"), "{code}: {line}");
    }
}
