//! `esta-worker profile` (HANDS): the latency of every stitch on this machine, as a table and as `latency.json`.

mod show;

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use anyhow::bail;
use clap::Args as ClapArgs;
use esta_engine::{law::Law, profile::Profile, spec::Precision};
use indicatif::{ProgressBar, ProgressStyle};
use tch::{Cuda, Device};

use crate::{
    machine,
    profile::{Bench, Conditions, Target, hardware},
    run_dir,
    trainer::DeviceError,
};

/// Arguments of `profile`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Set a value of the job's file, such as family.space.kind=twoway; null takes a key back.
    #[arg(long = "set", value_name = "KEY=VALUE", conflicts_with = "run_dir")]
    set: Vec<String>,
    /// Where stitches run: cpu, cuda, or cuda:1 for the second card.
    #[arg(long, value_parser = parse_device, default_value = "cpu")]
    device: Device,
    /// Images of a forward pass.
    #[arg(long, default_value = "1")]
    batch: NonZeroU32,
    /// Measurements of every stitch.
    #[arg(long, default_value = "30")]
    rounds: NonZeroU32,
    /// libtorch's threads; as many as there are processors when absent.
    #[arg(long)]
    threads: Option<NonZeroU32>,
    /// Arithmetic of matrix products, f32 or bf16; exported models compute in f32.
    #[arg(long, value_parser = parse_precision, default_value = "f32")]
    precision: Precision,
    /// Measure stitches as they are exported, LoRA folded into plain weights; --merged=false as a bundle switches between
    /// them.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value = "true", action = clap::ArgAction::Set)]
    merged: bool,
    /// File that receives the latencies; latency.json, in the run's folder with --run-dir, when absent.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
struct Which {
    /// The job's YAML file. Its data is not opened, and a profile that its budgets name need not be there yet.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A run's folder instead.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

/// Measures, writes and prints.
///
/// # Errors
/// What could not be read, measured or written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let law = law(args)?;
    check_device(args.device)?;
    let target = Target::at(&args.out.clone().unwrap_or_else(|| beside(args.which.run_dir.as_deref())))?;
    let threads = args.threads.map_or_else(machine::cores, NonZeroU32::get);
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    let &Args { device, precision, merged, batch, rounds, .. } = args;
    let absent = |name: &str, path: &str| {
        eprintln!("anchor {name:?}: no weights at {path}; random ones of its shape take as long");
    };
    let bench = Bench::new(law.clone(), Conditions { device, precision, merged, batch }, absent)?;
    let bar = bar();
    let stitches = bench.measure(rounds, |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let profile = Profile {
        device: name(device),
        hardware: hardware(device),
        precision,
        merged,
        batch: batch.get(),
        threads: tch::get_num_threads().unsigned_abs(),
        rounds: rounds.get(),
        torch: esta_c10d::torch_version(),
        stitches,
    };
    target.write(&profile)?;
    show::table(&law, &profile);
    show::summary(&profile);
    match &args.which.run_dir {
        Some(run_dir) => show::answers(&profile, target.path(), run_dir),
        None => show::budgets(&profile, target.path()),
    }
    Ok(())
}

fn law(args: &Args) -> anyhow::Result<Law> {
    match (&args.which.config, &args.which.run_dir) {
        (Some(config), _) => Ok(esta_config::load_unmeasured(config, &args.set)?),
        (None, Some(run_dir)) => Ok(Law::new(run_dir::job(run_dir)?)?),
        (None, None) => bail!("give --config or --run-dir"),
    }
}

fn beside(run_dir: Option<&Path>) -> PathBuf {
    run_dir.unwrap_or(Path::new("")).join("latency.json")
}

fn parse_device(text: &str) -> Result<Device, String> {
    let index = |text: &str| text.strip_prefix("cuda:").and_then(|index| index.parse().ok());
    match text {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda(0)),
        text => index(text).map(Device::Cuda).ok_or_else(|| "there are cpu, cuda and cuda:N".to_owned()),
    }
}

fn parse_precision(text: &str) -> Result<Precision, String> {
    match text {
        "f32" => Ok(Precision::F32),
        "bf16" => Ok(Precision::Bf16),
        _ => Err("there are f32 and bf16".to_owned()),
    }
}

fn check_device(device: Device) -> anyhow::Result<()> {
    match device {
        Device::Cuda(_) if !Cuda::is_available() => Err(DeviceError.into()),
        Device::Cuda(index) if index as i64 >= Cuda::device_count() => {
            bail!("--device cuda:{index}: this machine has {} CUDA device(s)", Cuda::device_count())
        }
        _ => Ok(()),
    }
}

fn name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

/// Passes left, on a terminal.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} measurements, left {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_torch_names_them() {
        for text in ["cpu", "cuda:0", "cuda:3"] {
            assert_eq!(parse_device(text).map(name).as_deref(), Ok(text));
        }
        assert_eq!(parse_device("cuda").map(name).as_deref(), Ok("cuda:0"));
        assert!(["gpu", "cuda:", "cuda:x", "cuda:-1"].iter().all(|text| parse_device(text).is_err()));
    }
}
