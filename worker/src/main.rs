//! The `esta-worker` program: command line, logging, one clear line and an exit code when something fails.

use std::{io::IsTerminal, process::ExitCode};

use clap::Parser;
use esta_worker::{commands::Cli, exit};

fn main() -> ExitCode {
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

/// Text on a terminal, JSON lines otherwise; `RUST_LOG` chooses.
fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() { builder.init() } else { builder.json().init() }
}
