//! `esta-worker tokenizer` (HANDS): makes the tokenizer of small models that are pre-trained on the spot.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use esta_text::{read_documents, train_tokenizer};

/// Arguments of `tokenizer`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Documents, JSON objects with `text`: a file with one per line or a list of them, plain or .gz, or a folder of such
    /// files.
    #[arg(long, value_name = "PATH", required = true)]
    texts: Vec<PathBuf>,
    /// Tokens at most.
    #[arg(long, default_value_t = 4096)]
    vocab_size: usize,
    /// Folder that receives `tokenizer.json` and `tokenizer_config.json`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Trains and writes it.
///
/// # Errors
/// What cannot be read or written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut texts = Vec::new();
    for path in &args.texts {
        texts.extend(read_documents(path)?);
    }
    let count = texts.len();
    let tokenizer = train_tokenizer(texts, args.vocab_size, &args.out)?;
    eprintln!("{}: {} tokens from {count} documents", args.out.display(), tokenizer.len());
    Ok(())
}
