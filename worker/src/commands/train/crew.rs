//! `train --processes N` (HANDS): a worker for each GPU of this machine, every one a process with a device of its own. One that ends
//! by what another start may mend is started again, while the others go on.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context;
use esta_client::Devices;
use esta_engine::run::exit as engine_exit;
use esta_telemetry::Exposure;
use tokio::{
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::Args;
use crate::{exit, session::Requests, trainer::DeviceKind};

/// Starts in a row that a worker may need.
const STARTS: u32 = 10;
/// The pause before the second start; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A worker that lived this long is not in a row with the ends before.
const STEADY: Duration = Duration::from_secs(600);

/// What the workers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Stay,
    /// Finish what was given out.
    Leave,
    Now,
}

/// One worker after another of the same name.
struct Seat {
    name: String,
    arguments: Vec<OsString>,
    device: Option<String>,
    /// What a worker ends with that was asked to leave.
    drained: u8,
}

/// Starts as many workers, keeps them running until each has done what it can, and answers what the command ends with.
///
/// # Errors
/// When there are fewer devices, or a worker cannot be started at all.
pub(super) async fn run(args: &Args, name: &str, processes: u32) -> anyhow::Result<u8> {
    let devices = match args.device {
        DeviceKind::Cpu => None,
        DeviceKind::Cuda => Some(Devices::of_environment().for_each(processes)?),
    };
    let mut requests = Requests::listen(args.leash);
    let (order, told) = watch::channel(Order::Stay);
    let mut crew = JoinSet::new();
    for number in 0..processes {
        let name = format!("{name}/{number}");
        let arguments = arguments(env::args_os().skip(1), &name, args.http, u16::try_from(number)?)?;
        let device = devices.as_ref().map(|devices| devices[number as usize].clone());
        let seat = Seat { name, arguments, device, drained: args.drained_exit_code };
        let first = seat.start()?;
        crew.spawn(seat.keep(first, told.clone()));
    }
    let mut codes = Vec::new();
    loop {
        tokio::select! {
            ended = crew.join_next() => match ended {
                Some(code) => codes.push(code.context("a worker's keeper panicked")?),
                None => return Ok(code_of_all(&codes, args.drained_exit_code)),
            },
            () = requests.next() => order.send_modify(|order| {
                *order = if *order == Order::Stay { Order::Leave } else { Order::Now };
            }),
        }
    }
}

impl Seat {
    fn start(&self) -> anyhow::Result<Child> {
        let program = env::current_exe().context("this program's own path")?;
        let mut command = Command::new(&program);
        command.args(&self.arguments).stdin(Stdio::piped()).kill_on_drop(true);
        command.envs(self.device.iter().map(|device| (Devices::VARIABLE, device)));
        command.spawn().with_context(|| format!("cannot start {} as worker {}", program.display(), self.name))
    }

    /// Sees to it that a worker runs until it has done what it can; answers its exit code.
    async fn keep(self, first: Child, mut told: watch::Receiver<Order>) -> u8 {
        let (mut child, mut patience) = (first, Patience::default());
        loop {
            let started = Instant::now();
            let end = End::of(watched(&mut child, &mut told).await);
            let asked = *told.borrow() != Order::Stay;
            if end.is_final(self.drained) || asked {
                return end.code();
            }
            let Some(pause) = patience.after(started.elapsed()) else {
                tracing::error!(worker = %self.name, %end, "a worker is given up: it was started too often");
                return end.code();
            };
            tracing::warn!(worker = %self.name, %end, pause_ms = pause.as_millis() as i64, "a worker is started again");
            tokio::select! {
                () = sleep(pause) => {}
                _ = told.changed() => return self.drained,
            }
            child = match self.start() {
                Ok(child) => child,
                Err(error) => {
                    tracing::error!(worker = %self.name, error = %format!("{error:#}"), "a worker is given up");
                    return end.code();
                }
            };
        }
    }
}

/// Waits for a worker's end, and passes on what it is told: to leave by the end of its standard input, which also comes
/// when this process is killed.
async fn watched(child: &mut Child, told: &mut watch::Receiver<Order>) -> io::Result<ExitStatus> {
    let mut leash = child.stdin.take();
    loop {
        let order = *told.borrow_and_update();
        match order {
            Order::Stay => {}
            Order::Leave => drop(leash.take()),
            Order::Now => child.start_kill()?,
        }
        tokio::select! {
            status = child.wait() => return status,
            changed = told.changed() => if changed.is_err() { return child.wait().await },
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Code(u8),
    Signal(i32),
    /// The system does not say.
    Unknown,
}

impl End {
    fn of(status: io::Result<ExitStatus>) -> Self {
        let Ok(status) = status else { return Self::Unknown };
        let code = status.code().and_then(|code| u8::try_from(code).ok()).map(Self::Code);
        code.or_else(|| status.signal().map(Self::Signal)).unwrap_or(Self::Unknown)
    }

    /// Whether another start would end no better, or is not wanted.
    fn is_final(self, drained: u8) -> bool {
        let Self::Code(code) = self else { return false };
        let given = [engine_exit::DONE, engine_exit::MISFIT, engine_exit::DIVERGED];
        // Whoever starts this command again knows better how long to look for a coordinator, and what to show it.
        let others = [exit::USAGE, exit::DATA, exit::WEIGHTS, exit::UNREACHABLE, exit::DENIED];
        code == drained || given.contains(&i32::from(code)) || others.contains(&code)
    }

    /// What a shell would say.
    fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(exit::FAILED),
            Self::Unknown => exit::FAILED,
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("an end unknown"),
        }
    }
}

/// Ends in a row.
#[derive(Debug, Default)]
struct Patience {
    ends: u32,
}

impl Patience {
    /// The pause after one more end of a worker that lived this long; none once it was started too often.
    fn after(&mut self, lived: Duration) -> Option<Duration> {
        self.ends = if lived >= STEADY { 1 } else { self.ends + 1 };
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.ends - 1).min(16));
        (self.ends < STARTS).then_some(pause.min(LONGEST_PAUSE))
    }
}

/// The run is complete if any worker heard so; else what was asked of them, else the first failure.
fn code_of_all(codes: &[u8], drained: u8) -> u8 {
    let any = |wanted: u8| codes.contains(&wanted).then_some(wanted);
    any(0).or_else(|| any(drained)).or_else(|| codes.first().copied()).unwrap_or(exit::FAILED)
}

/// The command line of one worker: this one's, with a name and a port of its own.
fn arguments(
    own: impl Iterator<Item = OsString>,
    name: &str,
    http: Exposure,
    number: u16,
) -> anyhow::Result<Vec<OsString>> {
    let mut arguments = without(own, &["--processes", "--name", "--http"]);
    let http = match http {
        Exposure::At(mut address) if address.port() > 0 => {
            let port = address.port().checked_add(number);
            address.set_port(port.with_context(|| format!("--http {address}: no port is left for worker {name}"))?);
            Exposure::At(address)
        }
        http => http,
    };
    arguments.extend(["--leash", "--name", name, "--http", &http.to_string()].map(OsString::from));
    Ok(arguments)
}

/// A command line without these options and their values.
fn without(arguments: impl Iterator<Item = OsString>, options: &[&str]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments.filter(|argument| argument != "--leash");
    while let Some(argument) = arguments.next() {
        let said = argument.to_string_lossy();
        let (option, value) = said.split_once('=').map_or((&*said, false), |(option, _)| (option, true));
        if !options.contains(&option) {
            kept.push(argument);
        } else if !value {
            arguments.next();
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(arguments: &[&str], http: &str, number: u16) -> String {
        let own = arguments.iter().map(OsString::from);
        let all = arguments_of(own, http, number);
        all.iter().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    fn arguments_of(own: impl Iterator<Item = OsString>, http: &str, number: u16) -> Vec<OsString> {
        arguments(own, "pod/3", http.parse().expect("an address or off"), number).expect("there are ports")
    }

    #[test]
    fn a_worker_has_the_crews_command_line_with_a_name_and_a_port_of_its_own() {
        let own = ["train", "--processes", "8", "--coordinator=http://c:7700", "--name=pod", "--http", "0.0.0.0:7702"];
        assert_eq!(
            line(&own, "0.0.0.0:7702", 3),
            "train --coordinator=http://c:7700 --leash --name pod/3 --http 0.0.0.0:7705"
        );
        let any = ["train", "--http=0.0.0.0:0", "--processes=2", "--device", "cuda", "--leash"];
        assert_eq!(line(&any, "0.0.0.0:0", 1), "train --device cuda --leash --name pod/3 --http 0.0.0.0:0");
        assert!(line(&["train"], "off", 1).ends_with("--http off"));
        assert!(arguments(std::iter::empty(), "p", "1.1.1.1:65535".parse().expect("an address"), 1).is_err());
    }

    #[test]
    fn what_another_start_may_mend_is_started_again() {
        let again = [End::Signal(9), End::Signal(11), End::Unknown, End::Code(1), End::Code(4), End::Code(9)];
        let later = [End::Code(10), End::Code(12), End::Code(13)];
        assert!(again.iter().chain(&later).all(|end| !end.is_final(143)));
        let over = [0, 2, 3, 5, 6, 7, 8, 11, 143].map(End::Code);
        assert!(over.iter().all(|end| end.is_final(143)));
        assert_eq!([End::Signal(9).code(), End::Code(7).code(), End::Unknown.code()], [137, 7, 1]);
    }

    #[test]
    fn pauses_grow_and_patience_ends() {
        let mut patience = Patience::default();
        let short = Duration::from_secs(3);
        let pauses: Vec<Option<u64>> = (0..10).map(|_| patience.after(short).map(|pause| pause.as_secs())).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60].map(Some).into_iter().chain([None]).collect::<Vec<_>>());
        assert_eq!(patience.after(STEADY), Some(FIRST_PAUSE), "a long life is a new start");
    }

    #[test]
    fn one_worker_that_heard_of_the_end_speaks_for_all() {
        assert_eq!(code_of_all(&[137, 0, 3], 143), 0);
        assert_eq!(code_of_all(&[7, 143], 143), 143);
        assert_eq!(code_of_all(&[7, 3], 143), 7);
    }
}
