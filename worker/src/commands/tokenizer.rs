//! `esta-worker tokenizer` (HANDS): makes the tokenizer of small models that are pre-trained on the spot.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args as ClapArgs;
use esta_text::train_tokenizer;
use serde::Deserialize;

/// Arguments of `tokenizer`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Documents, one JSON object with `text` per line.
    #[arg(long, value_name = "JSONL", required = true)]
    texts: Vec<PathBuf>,
    /// Tokens at most.
    #[arg(long, default_value_t = 4096)]
    vocab_size: usize,
    /// Folder that receives `tokenizer.json` and `tokenizer_config.json`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Deserialize)]
struct Document {
    text: String,
}

/// Trains and writes it.
///
/// # Errors
/// What cannot be read or written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut texts = Vec::new();
    for path in &args.texts {
        let file = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        for (number, line) in (1..).zip(file.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let document: Document =
                serde_json::from_str(line).with_context(|| format!("{}, line {number}", path.display()))?;
            texts.push(document.text);
        }
    }
    let count = texts.len();
    let tokenizer = train_tokenizer(texts, args.vocab_size, &args.out)?;
    eprintln!("{}: {} tokens from {count} documents", args.out.display(), tokenizer.len());
    Ok(ExitCode::SUCCESS)
}
