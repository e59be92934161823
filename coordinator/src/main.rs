//! The `esta-coordinator` program (HANDS): command line, logging, one clear line and an exit code when something fails.

use std::process::ExitCode;

use clap::Parser;
use esta_coordinator::{commands::Cli, progress::LogWriter};
use esta_telemetry::Program;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let telemetry = esta_telemetry::start(Program {
        service: "esta-coordinator",
        version: env!("CARGO_PKG_VERSION"),
        filter: "warn,esta_coordinator=info",
        logs: LogWriter::default,
    });
    let done = cli.command.carry_out().await;
    drop(telemetry);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("esta-coordinator: {}", failure.line());
            failure.exit_code()
        }
    }
}
