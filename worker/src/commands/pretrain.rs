//! `esta-worker pretrain` (HANDS): makes small anchors from scratch on a source task.

use std::{path::PathBuf, time::Instant};

use anyhow::Context;
use clap::Args as ClapArgs;
use esta_config::JobArgs;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    pretrain::{alone, pretrain},
    trainer::DeviceKind,
};

/// Arguments of `pretrain`; the `weights` of the job's anchors say where they are written.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    job: JobArgs,
    /// Only this anchor; all of them, smallest first, when absent.
    #[arg(long)]
    anchor: Option<String>,
    /// Steps, instead of the job's.
    #[arg(long)]
    steps: Option<u64>,
    /// Train again even where the anchor's file exists.
    #[arg(long)]
    force: bool,
    /// Where tensors live.
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
}

/// Makes the anchors.
///
/// # Errors
/// What could not be read, trained or written.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut spec = args.job.law()?.spec;
    if let Some(steps) = args.steps {
        spec.train.max_steps = Some(steps);
    }
    let names: Vec<String> = match &args.anchor {
        Some(name) => vec![name.clone()],
        None => spec.family.anchors.iter().map(|anchor| anchor.name.clone()).collect(),
    };
    let speaks = spec.data.text.is_some();
    for name in names {
        let alone = alone(&spec, &name)?;
        let target = PathBuf::from(&alone.family.anchors[0].weights);
        if !args.force && (target.is_file() || target.join("model.safetensors").is_file()) {
            eprintln!("{name}: {} is there", target.display());
            continue;
        }
        let (bar, started) = (bar(&name), Instant::now());
        let hear = |step: u64, total: u64, loss: f64| {
            bar.set_length(total);
            bar.set_position(step + 1);
            if step.is_multiple_of(20) {
                bar.set_message(format!("{loss:.3}"));
            }
        };
        let result = pretrain(alone, args.device, hear).with_context(|| format!("pre-training anchor {name:?}"))?;
        bar.finish_and_clear();
        let held_out = result.map_or_else(String::new, |result| match speaks {
            true => format!(", held-out loss {:.4}", result.loss),
            false => format!(", held-out accuracy {:.2} %", 100.0 * result.accuracy),
        });
        eprintln!("{name}: {:.0} s{held_out}, {}", started.elapsed().as_secs_f64(), target.display());
    }
    Ok(())
}

fn bar(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>8} {bar:40} {pos}/{len} loss {msg} {per_sec} left {eta}");
    let bar = ProgressBar::new(0).with_prefix(name.to_owned());
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
