//! The `esta-worker` program: command line, logging, one clear line and an exit code when something fails.

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use esta_worker::{commands::Cli, exit};

fn main() -> ExitCode {
    fix_rounding();
    let cli = Cli::parse();
    start_logging();
    match cli.command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("esta-worker: {error:#}");
            ExitCode::from(exit::of(&error))
        }
    }
}

/// MKL rounds some products by the alignment of their operands unless it is told not to; the same slot has to give the
/// same bits wherever its tensors lie (RD-4).
fn fix_rounding() {
    if std::env::var_os("MKL_CBWR").is_none() {
        // SAFETY: this is the first statement of the program: no other thread reads the environment.
        unsafe { std::env::set_var("MKL_CBWR", "AUTO,STRICT") };
    }
}

/// Text on a terminal, JSON lines otherwise; `RUST_LOG` chooses.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() { builder.init() } else { builder.json().init() }
}
