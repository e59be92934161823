//! The `esta-worker` program: command line, logging, one clear line and an exit code when something fails.

use std::os::unix::process::CommandExt;

use clap::Parser;
use esta_telemetry::Program;
use esta_worker::{commands::Cli, exit};

fn main() -> ! {
    settle_environment();
    let cli = Cli::parse();
    let telemetry = esta_telemetry::start(Program {
        service: "esta-worker",
        version: env!("CARGO_PKG_VERSION"),
        filter: "info",
        logs: std::io::stderr,
    });
    let done = cli.command.run();
    drop(telemetry);
    exit::at_once(done.unwrap_or_else(|error| {
        eprintln!("esta-worker: {error:#}");
        exit::of(&error)
    }))
}

/// What numerical libraries should hear; a user's own setting stands.
///
/// MKL rounds some products by the alignment of their operands unless it is told not to; the same slot has to give the same
/// bits wherever its tensors lie (RD-4), and cuBLAS needs a fixed workspace for that. OpenMP's threads wait for each other
/// spinning unless they are told not to: no faster where a processor is free for each, and several times slower where it is not.
/// Where models are timed MKL is left as they will find it.
///
/// NCCL connects to all peers while a group is formed, on a thread that can be left behind, and not within the first collective,
/// which would block whoever begins it. After an error libtorch writes no dump, for which it would hold the group for a minute,
/// and does not ask a group's store every second whether anybody wants one: the store ends with its generation.
const ENVIRONMENT: [(&str, &str); 7] = [
    ("MKL_CBWR", "AUTO,STRICT"),
    ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
    ("OMP_WAIT_POLICY", "passive"),
    ("NCCL_RUNTIME_CONNECT", "0"),
    ("NCCL_PAT_ENABLE", "0"),
    ("TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", "0"),
    ("TORCH_NCCL_DUMP_ON_TIMEOUT", "0"),
];

/// OpenMP reads its environment before `main`, so the program replaces itself by one that has it; its process id stays.
fn settle_environment() {
    let times = std::env::args_os().nth(1).is_some_and(|command| command == "profile");
    let wanted = ENVIRONMENT.into_iter().filter(|(name, _)| !(times && *name == "MKL_CBWR"));
    let missing: Vec<_> = wanted.filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    if missing.is_empty() {
        return;
    }
    for (name, value) in missing {
        // SAFETY: this is the first statement of the program: no other thread reads the environment.
        unsafe { std::env::set_var(name, value) };
    }
    if let Ok(program) = std::env::current_exe() {
        // Where that fails, all but OpenMP hears of it, which costs time alone.
        drop(std::process::Command::new(program).args(std::env::args_os().skip(1)).exec());
    }
}
