//! `train --processes N` (HANDS): a worker for each GPU of this machine, every one a process with a device of its own. One that ends
//! by what another start may mend is started again, while the others go on.

use std::{
    env,
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::ExitStatusExt,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use esta_client::{DeviceKind, Devices, TooFewDevices};
use esta_engine::run::exit as engine_exit;
use esta_telemetry::{Exposure, http};
use thiserror::Error;
use tokio::{
    process::{Child, Command},
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep},
};

use super::Args;
use crate::{exit, session::Requests};

/// Starts in a row that a worker may need, the first among them.
const STARTS: u32 = 10;
/// The pause before the second start; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A worker that lived this long is not in a row with the ends before.
const STEADY: Duration = Duration::from_secs(600);

/// How often workers are asked whether they have joined.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the workers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Order {
    Stay,
    /// The run is complete: nobody is started again.
    Complete,
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
/// When there are fewer devices, an address cannot be had, or a worker cannot be started at all.
pub(super) async fn run(args: &Args, name: &str, processes: u32) -> anyhow::Result<u8> {
    let devices = devices(args.device, processes)?;
    let mut requests = Requests::listen(args.leash).context("the end of standard input cannot be heard")?;
    let pages = pages(args.http, processes)?;
    let seats = (0..).zip(&pages).map(|(number, page)| {
        let name = format!("{name}/{number}");
        let arguments = arguments(env::args_os().skip(1), &name, *page);
        let device = devices.as_ref().map(|devices| devices[number].clone());
        Seat { name, arguments, device, drained: args.drained_exit_code }
    });
    let joined = Arc::new(AtomicBool::new(false));
    let _shown = show(args.http, joined.clone())?;
    let (order, told) = watch::channel(Order::Stay);
    let mut crew = JoinSet::new();
    for seat in seats {
        let first = seat.start()?;
        crew.spawn(seat.keep(first, told.clone()));
    }
    let mut codes = Vec::new();
    let mut look = interval(LOOK_EVERY);
    loop {
        tokio::select! {
            ended = crew.join_next() => match ended {
                Some(code) => {
                    codes.push(code.context("a worker's keeper panicked")?);
                    order.send_if_modified(|order| {
                        let complete = *order == Order::Stay && codes.last() == Some(&0);
                        if complete {
                            *order = Order::Complete;
                        }
                        complete
                    });
                }
                None => {
                    let code = code_of_all(&codes, args.drained_exit_code);
                    if code != 0 && *order.borrow() < Order::Leave {
                        eprintln!("esta-worker: all {processes} workers of {name} have ended, the first with code {code}; each has said why");
                    }
                    return Ok(code);
                }
            },
            () = requests.next() => order.send_modify(|order| {
                *order = if *order < Order::Leave { Order::Leave } else { Order::Now };
            }),
            _ = look.tick(), if args.http != Exposure::Off => {
                let pages = pages.clone();
                let joined = joined.clone();
                // Beside this loop: who does not answer keeps nobody waiting.
                tokio::spawn(async move { joined.store(any_is_ready(&pages).await, Ordering::Relaxed) });
            }
        }
    }
}

/// The device of each worker, where they compute on any: no fewer than there are.
fn devices(device: DeviceKind, processes: u32) -> Result<Option<Vec<String>>, TooFewDevices> {
    let Some(named) = device.for_each(processes)? else { return Ok(None) };
    let present = u32::try_from(tch::Cuda::device_count()).unwrap_or(0);
    if present < processes {
        return Err(TooFewDevices::Present { workers: processes, present });
    }
    Ok(Some(named))
}

/// Probes of the crew: it works, and is ready once a worker is.
fn show(http: Exposure, joined: Arc<AtomicBool>) -> anyhow::Result<Option<http::Served>> {
    let Exposure::At(address) = http else { return Ok(None) };
    let ready = move || match joined.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err("no worker of this crew takes part in a run".to_owned()),
    };
    let served = http::serve(address, http::probes(ready))?;
    tracing::info!(address = %served.address(), "probes are served");
    Ok(Some(served))
}

/// Where each worker serves metrics and probes: on the ports that follow the crew's.
fn pages(http: Exposure, processes: u32) -> anyhow::Result<Vec<Exposure>> {
    let Exposure::At(first) = http else { return Ok(vec![Exposure::Off; processes as usize]) };
    let page = |number: u32| {
        let port = match first.port() {
            0 => Some(0),
            port => u16::try_from(number).ok().and_then(|number| port.checked_add(number)),
        };
        port.map(|port| Exposure::At(SocketAddr::new(first.ip(), port))).ok_or(NoPort { first, processes })
    };
    Ok((1..=processes).map(page).collect::<Result<_, _>>()?)
}

/// There are not enough ports.
#[derive(Debug, Error)]
#[error("--http {first}: no ports are left for {processes} workers after it")]
pub struct NoPort {
    first: SocketAddr,
    processes: u32,
}

async fn any_is_ready(pages: &[Exposure]) -> bool {
    for page in pages {
        let Exposure::At(mut address) = *page else { continue };
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        if http::ask(&format!("http://{address}/readyz"), LOOK_EVERY, 256).await.is_ok() {
            return true;
        }
    }
    false
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
            let order = *told.borrow();
            if end.is_final(self.drained) || order != Order::Stay {
                if order < Order::Leave && end != End::Code(0) {
                    tracing::error!(worker = %self.name, %end, "a worker has ended and is not started again");
                }
                return end.code();
            }
            let Some(pause) = patience.after(started.elapsed()) else {
                tracing::error!(worker = %self.name, %end, "a worker is given up: it was started too often");
                return end.code();
            };
            tracing::warn!(worker = %self.name, %end, pause_ms = pause.as_millis() as i64, "a worker is started again");
            tokio::select! {
                () = sleep(pause) => {}
                _ = told.changed() => return if *told.borrow() == Order::Complete { end.code() } else { self.drained },
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
            Order::Stay | Order::Complete => {}
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
        // Who lost its name to a later process would take it back.
        let given = [engine_exit::DONE, engine_exit::MISFIT, engine_exit::IDENTITY, engine_exit::DIVERGED];
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
fn arguments(own: impl Iterator<Item = OsString>, name: &str, http: Exposure) -> Vec<OsString> {
    let mut arguments = without(own, &["--processes", "--name", "--http"]);
    arguments.extend(["--leash", "--name", name, "--http", &http.to_string()].map(OsString::from));
    arguments
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

    fn line(own: &[&str], http: &str) -> String {
        let http = http.parse().expect("an address or off");
        let all = arguments(own.iter().map(OsString::from), "pod/3", http);
        all.iter().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_worker_has_the_crews_command_line_with_a_name_and_a_port_of_its_own() {
        let own = ["train", "--processes", "8", "--coordinator=http://c:7700", "--name=pod", "--http", "0.0.0.0:7702"];
        assert_eq!(
            line(&own, "0.0.0.0:7706"),
            "train --coordinator=http://c:7700 --leash --name pod/3 --http 0.0.0.0:7706"
        );
        let any = ["train", "--http=0.0.0.0:0", "--processes=2", "--device", "cuda", "--leash"];
        assert_eq!(line(&any, "off"), "train --device cuda --leash --name pod/3 --http off");
    }

    #[test]
    fn workers_have_the_ports_after_the_crews() {
        let of = |http: &str, processes| {
            let pages = pages(http.parse().expect("an address or off"), processes);
            pages.map(|pages| pages.iter().map(Exposure::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(of("0.0.0.0:7702", 3).expect("ports"), "0.0.0.0:7703 0.0.0.0:7704 0.0.0.0:7705");
        assert_eq!(of("[::1]:0", 2).expect("ports"), "[::1]:0 [::1]:0");
        assert_eq!(of("off", 2).expect("none"), "off off");
        let none = of("1.1.1.1:65534", 2).expect_err("there is one").to_string();
        assert_eq!(none, "--http 1.1.1.1:65534: no ports are left for 2 workers after it");
    }

    #[test]
    fn what_another_start_may_mend_is_started_again() {
        let again = [End::Signal(9), End::Signal(11), End::Unknown, End::Code(1), End::Code(9)];
        let later = [End::Code(10), End::Code(12), End::Code(13)];
        assert!(again.iter().chain(&later).all(|end| !end.is_final(143)));
        let over = [0, 2, 3, 4, 5, 6, 7, 8, 11, 143].map(End::Code);
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
