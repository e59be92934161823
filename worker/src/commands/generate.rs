//! `esta-worker generate` (HANDS): an answer of an exported model, as it is being made.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use esta_engine::spec::{Precision, Template};
use esta_model::{Decoder, read_exported};
use esta_text::{Prompter, Special, Tokenizer};
use serde::Deserialize;

use crate::{
    generate::{Ended, Sampling, answer},
    hub, machine,
    trainer::{DeviceKind, open_device},
};

/// Arguments of `generate`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// A folder of `esta-worker export`, any Hugging Face folder of a supported architecture, or a hub name, which is fetched
    /// where it does not lie in the Hugging Face cache.
    #[arg(long, value_name = "DIR")]
    model: String,
    /// What the model is asked; `-` reads it from standard input.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// What the question is about: the `input` of alpaca's form.
    #[arg(long, value_name = "TEXT", default_value = "")]
    input: String,
    /// How the question is put: as the model was adapted (esta.json), else by its chat template, else in alpaca's form.
    #[arg(long, value_enum)]
    template: Option<Form>,
    /// Tokens at most.
    #[arg(long, default_value_t = 256)]
    max_new_tokens: u64,
    /// 0 takes the likeliest token each time.
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,
    /// Draw among the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f64,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Multiply matrices in bfloat16.
    #[arg(long)]
    bf16: bool,
    /// Where tensors live.
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
}

/// How a question is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Stanford Alpaca's prompts.
    Alpaca,
    /// The tokenizer's chat template.
    Chat,
    /// The text as it is, to be continued.
    Raw,
}

/// The part of `esta.json` that says how the model was asked in training.
#[derive(Deserialize)]
struct Origin {
    template: Option<Template>,
}

/// Prints an answer as it is made; how fast it was goes to standard error.
///
/// # Errors
/// What cannot be read, and prompts the model has no room for.
pub fn run(args: Args) -> anyhow::Result<()> {
    let device = open_device(args.device)?;
    let folder = hub::bring(&args.model)?;
    let tokenizer = Tokenizer::open(&folder)?;
    let precision = if args.bf16 { Precision::Bf16 } else { Precision::F32 };
    let network = read_exported(&folder, precision, device)?;
    let mut decoder = Decoder::new(&network).context("the model answers no prompts")?;
    let Asked { prompt, ends } = asked(&args, &folder, &tokenizer)?;
    if prompt.is_empty() {
        bail!("--prompt is empty, and the tokenizer puts nothing in front of it");
    }
    machine::use_every_core();
    let (started, mut count) = (Instant::now(), 0_u64);
    let mut decoding = tokenizer.decoding();
    let mut out = io::stdout().lock();
    let sampling = Sampling { temperature: args.temperature, top_p: args.top_p, seed: args.seed };
    let ended = answer(&mut decoder, &prompt, &ends, (args.max_new_tokens, sampling), |token| {
        count += 1;
        // Whoever reads no further, as `head` does, ends the answer.
        write!(out, "{}", decoding.push(token)).and_then(|()| out.flush()).is_ok()
    });
    let rest = writeln!(out, "{}", decoding.finish());
    if ended != Ended::Stopped {
        rest.context("cannot write to standard output")?;
    }
    let seconds = started.elapsed().as_secs_f64();
    let prompt = prompt.len();
    eprintln!("{prompt} tokens read, {count} made, {:.1} tokens/s{}", count as f64 / seconds, why(ended));
    if ended == Ended::NoRoom && count == 0 {
        bail!("the prompt has {prompt} tokens, the model has room for {}", decoder.room());
    }
    Ok(())
}

fn why(ended: Ended) -> &'static str {
    match ended {
        Ended::ByModel | Ended::Stopped => "",
        Ended::Full => "; --max-new-tokens ended it",
        Ended::NoRoom => "; the model can read no further",
    }
}

/// A prompt in tokens, and the ids that end its answer.
struct Asked {
    prompt: Vec<u32>,
    ends: Vec<u32>,
}

fn asked(args: &Args, folder: &Path, tokenizer: &Tokenizer) -> anyhow::Result<Asked> {
    let text = match args.prompt.as_str() {
        "-" => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("cannot read the prompt from standard input")?;
            text.trim_end().to_owned()
        }
        text => text.to_owned(),
    };
    let template = match args.template.unwrap_or_else(|| usual(folder, tokenizer)) {
        Form::Raw => {
            return Ok(Asked { prompt: tokenizer.encode(&text, Special::Add)?, ends: tokenizer.eos_ids().to_vec() });
        }
        Form::Alpaca => Template::Alpaca,
        Form::Chat => Template::Chat,
    };
    let prompter = Prompter::new(tokenizer, template)?;
    Ok(Asked { prompt: prompter.instruction(&text, &args.input)?.ids, ends: prompter.ends() })
}

/// How the model is used to being asked.
fn usual(folder: &Path, tokenizer: &Tokenizer) -> Form {
    let path: PathBuf = folder.join("esta.json");
    let said = std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Origin>(&text).ok());
    match said.and_then(|origin| origin.template) {
        Some(Template::Alpaca) => Form::Alpaca,
        Some(Template::Chat) => Form::Chat,
        None if tokenizer.chat_template().is_ok() => Form::Chat,
        None => Form::Alpaca,
    }
}
