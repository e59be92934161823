//! `esta-worker train` (HANDS): takes part in a run; an address is all it needs.

pub(crate) mod crew;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args as ClapArgs;
use esta_client::Credentials;
use esta_telemetry::{Exposure, http};
use tokio::runtime::Runtime;
use tonic::transport::Uri;

use crate::{
    machine,
    session::{Caller, SessionOptions, run as run_session},
    telemetry::Place,
    trainer::{DeviceKind, TrainerOptions},
};

/// Arguments of `train`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Addresses of coordinators, such as `http://10.0.0.1:7700`; several are tried in turn.
    #[arg(long, required = true, value_delimiter = ',', value_parser = address, env = "ESTA_COORDINATOR")]
    coordinator: Vec<String>,
    /// Identity among the live workers; host name and process id when absent.
    #[arg(long, env = "ESTA_WORKER_NAME")]
    name: Option<String>,
    /// Where tensors live.
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
    /// Start as many workers, called `<name>/0`, `<name>/1` and so on, each on a GPU of its own with `--device cuda`. One that crashes
    /// is started again. `--http` serves probes then, and the workers serve metrics on the ports that follow.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    processes: Option<u32>,
    /// Address other workers reach this one at, for Gloo; `GLOO_SOCKET_IFNAME` is understood too.
    #[arg(long, env = "ESTA_WORKER_HOST")]
    host: Option<String>,
    /// Name of the node this process is on, where a job spreads blocks over nodes (`model.shard: node`); the running kernel's
    /// when absent.
    #[arg(long, env = "ESTA_WORKER_NODE")]
    node: Option<String>,
    /// Seconds to look for a coordinator before giving up; when absent 60, and the job's `timeouts.reconnect` once it has
    /// joined.
    #[arg(long, value_name = "SECONDS", value_parser = duration)]
    reconnect_budget: Option<Duration>,
    /// Exit code of a worker that leaves in order because it was asked to, before the run is complete. An orchestrator that takes 0
    /// for a job that is done is told another.
    #[arg(long, value_name = "CODE", env = "ESTA_DRAINED_EXIT_CODE", default_value_t = 0)]
    drained_exit_code: u8,
    /// Serve metrics and probes at this address, in plain HTTP and to whoever asks.
    #[arg(long, value_name = "ADDRESS|off", env = "ESTA_HTTP", default_value_t = Exposure::Off)]
    http: Exposure,
    /// Leave, as at a signal, when standard input ends: for a program that starts workers and must not leave any behind.
    #[arg(long)]
    leash: bool,
    #[command(flatten)]
    credentials: Credentials,
}

/// Takes part in a run until it ends; answers the exit code that says how.
///
/// # Errors
/// When the worker could not take part.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let name = args.name.clone().unwrap_or_else(default_name);
    match args.processes {
        Some(processes) => runtime.block_on(crew::run(&args, &name, processes)),
        None => take_part(args, name, &runtime),
    }
}

fn take_part(args: Args, name: String, runtime: &Runtime) -> anyhow::Result<u8> {
    let place = Place::watched(args.device);
    let _shown = match args.http {
        Exposure::Off => None,
        Exposure::At(address) => {
            let place = place.clone();
            let served = http::serve(address, http::watched(move || place.is_ready()))?;
            tracing::info!(address = %served.address(), "metrics and probes are served");
            Some(served)
        }
    };
    let options = SessionOptions {
        coordinators: args.coordinator,
        caller: Caller { name, incarnation: incarnation() },
        credentials: args.credentials,
        reconnect_budget: args.reconnect_budget,
        trainer: TrainerOptions { device: args.device, host: args.host, node: args.node.unwrap_or_else(machine::name) },
        place,
        on_leash: args.leash,
    };
    let ended = runtime.block_on(run_session(options))?;
    if ended.exit_code == 0 {
        tracing::info!(reason = %ended.reason, "done");
        if ended.drained {
            return Ok(args.drained_exit_code);
        }
    } else {
        eprintln!("esta-worker: {}", ended.reason);
    }
    Ok(u8::try_from(ended.exit_code).unwrap_or(crate::exit::FAILED))
}

/// An address of a coordinator: what is none would only be said to have refused.
fn address(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        None => Err(format!("it has no scheme: http://{text}, or https://{text}")),
        Some((scheme, _)) if !matches!(scheme, "http" | "https") => {
            Err(format!("{scheme:?} is no scheme of a coordinator: http or https"))
        }
        Some((_, rest)) if rest.is_empty() || rest.starts_with(['/', ':']) => Err("it names no host".to_owned()),
        Some(_) => match text.parse::<Uri>() {
            Ok(_) => Ok(text.to_owned()),
            Err(flaw) => Err(flaw.to_string()),
        },
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "it is no length of time: 0 or more seconds".to_owned())
}

/// Host and process: unique among live workers without being told.
fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "worker".to_owned());
    let host = host.trim();
    match std::env::var("JOB_COMPLETION_INDEX").or_else(|_| std::env::var("RANK")) {
        Ok(index) => format!("{host}-{index}"),
        Err(_) => format!("{host}-{}", std::process::id()),
    }
}

/// Later processes of one name have larger numbers.
fn incarnation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_a_host() {
        for fine in ["http://127.0.0.1:7700", "https://host", "http://[::1]:7700", "http://c1.esta.svc:7700/"] {
            assert_eq!(address(fine).as_deref(), Ok(fine));
        }
        let flaw = |text: &str| address(text).expect_err(text);
        assert_eq!(flaw("localhost:7700"), "it has no scheme: http://localhost:7700, or https://localhost:7700");
        assert_eq!(flaw("ftp://host"), r#""ftp" is no scheme of a coordinator: http or https"#);
        assert_eq!([flaw("http://"), flaw("http://:7700")], ["it names no host"; 2]);
        assert!(!flaw("http://a host:7700").is_empty());
    }

    #[test]
    fn a_budget_is_a_number_of_seconds_from_0() {
        assert_eq!([duration("0"), duration("0.3")], [Ok(Duration::ZERO), Ok(Duration::from_millis(300))]);
        assert!(
            ["-1", "NaN", "inf", "1e300"].iter().all(|text| duration(text).is_err_and(|flaw| flaw.contains("length")))
        );
        assert_eq!(duration("soon").expect_err("a word"), "it is no number of seconds");
    }
}
