//! `esta-worker export` (HANDS): turns a finished run's checkpoint into models that need PyTorch alone.

use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use esta_proto::StitchId;

use super::RunArgs;
use crate::{
    export::{Heads, Models, NoForm, adapter_folder, stitch_folder},
    run_dir::RunDir,
};

/// Arguments of `export`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    form: Form,
    /// Folder that receives `stitch-<id>/`, `adapter-<id>/` or `bundle/`; `export/` in the run's when absent.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What becomes a folder.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
struct What {
    /// One stitch of the catalog, merged.
    #[arg(long, value_name = "N")]
    stitch: Option<u32>,
    /// Every stitch that a rule chose, each merged.
    #[arg(long)]
    palette: bool,
    /// The whole run: anchors once, switching between stitches at run time.
    #[arg(long)]
    bundle: bool,
}

/// How a language model is written; a Hugging Face folder with everything merged when absent.
#[derive(Debug, ClapArgs)]
#[group(multiple = false)]
struct Form {
    /// A lone anchor as a PEFT adapter of the weights that the job names.
    #[arg(long, conflicts_with_all = ["palette", "bundle"])]
    adapter: bool,
    /// Attention filled up with zeros to one geometry for all blocks, as vLLM's transformers backend needs it; the model
    /// answers the same. Nothing changes where the anchors have one geometry.
    #[arg(long, conflicts_with = "bundle")]
    pad_heads: bool,
    /// Refused: GGUF has no form for a model of two widths.
    #[arg(long)]
    gguf: bool,
}

/// Exports and prints the folders that were written.
///
/// # Errors
/// When the run cannot be read or a model cannot be written.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.form.gguf {
        return Err(NoForm::Gguf.into());
    }
    let run = args.run.open()?;
    let out = args.out.clone().unwrap_or_else(|| run.path.join("export"));
    for folder in write(&args, &run, &out)? {
        println!("{}", folder.display());
    }
    Ok(())
}

fn write(Args { what, form, .. }: &Args, run: &RunDir, out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let heads = if form.pad_heads { Heads::Padded } else { Heads::AsTrained };
    let models = Models::of(&run.family, &run.state)?.with_heads(heads);
    if what.palette {
        let written = models.write_palette(&run.palettes()?, out, "")?;
        return Ok(written.into_iter().map(|model| out.join(model.path)).collect());
    }
    let folder = match what.stitch.map(StitchId) {
        Some(stitch) => {
            let palettes = if_written(run, "palette.json", RunDir::palettes)?;
            let folder = out.join(if form.adapter { adapter_folder(stitch) } else { stitch_folder(stitch) });
            match form.adapter {
                true => models.write_adapter(stitch, &palettes, &folder)?,
                false => models.write_stitch(stitch, &palettes, &folder)?,
            }
            folder
        }
        None => {
            let folder = out.join("bundle");
            models.write_bundle(&if_written(run, "table.json", RunDir::table)?, &folder)?;
            folder
        }
    };
    Ok(vec![folder])
}

/// What a file of the run says; nothing where the run has not got so far as to write it.
fn if_written<T>(
    run: &RunDir,
    file: &str,
    read: impl FnOnce(&RunDir) -> anyhow::Result<Vec<T>>,
) -> anyhow::Result<Vec<T>> {
    if run.path.join(file).exists() {
        return read(run);
    }
    tracing::warn!(file, "the run has not ended: exporting without what this file says");
    Ok(Vec::new())
}
