//! A pod as a process, and its kubelet: probes, the order to stop, the grace it has.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::workload::{Probe, Workload};
use crate::{
    http::probe,
    process::{Process, binary},
};

/// Probes are asked this many times as often as the chart says, so that a short run is asked in every phase; as many more
/// may fail, so that the time in which they have to succeed stays the same.
const PACE: u32 = 10;

/// A running pod.
pub(super) struct Pod {
    pub workload: Workload,
    ip: Ipv4Addr,
    index: u32,
    process: Process,
    life: Life,
    watches: BTreeMap<String, Watch>,
    /// Since when it is ready.
    ready: Option<Instant>,
    /// Probes that failed where none should.
    flaws: Vec<String>,
    /// Its metrics when it was told to end.
    last: Option<String>,
    code: Option<i32>,
}

#[derive(Debug, Clone, Copy)]
enum Life {
    /// Its startup probe has not succeeded yet.
    Starting,
    Started,
    /// It is to end; told so by a signal, after what the chart lets pass before that.
    Leaving {
        since: Instant,
        told: bool,
    },
}

/// A probe that is asked again and again.
struct Watch {
    probe: Probe,
    due: Instant,
    asked: u32,
    /// Failures in a row.
    failed: u32,
    /// What they were. A program stops to listen before it ends: they count once it answers again.
    excused: Vec<String>,
}

impl Pod {
    /// Starts it; what it says goes to files in `logs`.
    pub fn start(
        workload: Workload,
        ip: Ipv4Addr,
        index: u32,
        logs: &Path,
        command: &mut Command,
    ) -> anyhow::Result<Self> {
        let process = Process::spawn(logs, &workload.pod, command)?;
        let watch = |(name, probe): (&String, &Probe)| {
            (
                name.clone(),
                Watch { probe: probe.clone(), due: Instant::now(), asked: 0, failed: 0, excused: Vec::new() },
            )
        };
        let watches = workload.probes.iter().map(watch).collect();
        let (life, ready, flaws, last, code) = (Life::Starting, None, Vec::new(), None, None);
        Ok(Self { workload, ip, index, process, life, watches, ready, flaws, last, code })
    }

    /// The program that a pod starts, with nothing in its environment but what a container has.
    pub fn program(workload: &Workload) -> anyhow::Result<Command> {
        let (name, rest) = workload.command.split_first().context("a container has a command")?;
        let mut command = Command::new(binary(name));
        command.args(rest).args(&workload.args).env_clear().env("HOSTNAME", &workload.pod);
        // What an image has of its own: its programs, and libraries that they find.
        let own = ["PATH", "LD_LIBRARY_PATH"].map(|name| std::env::var_os(name).map(|value| (name, value)));
        command.envs(own.into_iter().flatten());
        Ok(command)
    }

    /// Workers in it: each of several has a port of its own.
    pub fn workers(&self) -> usize {
        self.workload.ports.keys().filter(|name| name.starts_with("http-")).count().max(1)
    }

    /// Does what a kubelet has to do by now.
    ///
    /// # Errors
    /// When the kubelet would start or kill the container; what it said is in the error.
    pub fn tick(&mut self) -> anyhow::Result<()> {
        if self.has_ended()? {
            return Ok(());
        }
        match self.life {
            Life::Starting => {
                if self.succeeds("startup")?.unwrap_or(!self.watches.contains_key("startup")) {
                    self.life = Life::Started;
                }
            }
            Life::Started => {
                self.succeeds("liveness")?;
                self.look_whether_ready()?;
            }
            Life::Leaving { since, told: false } => {
                self.look_whether_ready()?;
                if since.elapsed() >= Duration::from_secs(self.workload.pre_stop_seconds) && !self.has_ended()? {
                    self.last = self.get("/metrics").ok();
                    self.process.signal("TERM")?;
                    self.life = Life::Leaving { since, told: true };
                }
            }
            Life::Leaving { since, told: true } => {
                let grace = Duration::from_secs(self.workload.grace_seconds);
                ensure!(since.elapsed() < grace, "{} did not end within {grace:?}:\n{}", self.name(), self.log());
            }
        }
        Ok(())
    }

    /// Whether it is ready, where it has a probe for that.
    fn look_whether_ready(&mut self) -> anyhow::Result<()> {
        match self.succeeds("readiness")?.or_else(|| (!self.watches.contains_key("readiness")).then_some(true)) {
            Some(true) => self.ready = self.ready.or_else(|| Some(Instant::now())),
            // A moment in which nobody leads passes unnoticed, as it does under a kubelet.
            Some(false) if self.ready.is_some() && self.patience_is_over("readiness") => {
                self.ready = None;
                self.flaws.push(format!("{} was not ready while it was {:?}", self.name(), self.life));
            }
            Some(false) | None => {}
        }
        Ok(())
    }

    /// Asks a probe if it is time to.
    fn succeeds(&mut self, name: &str) -> anyhow::Result<Option<bool>> {
        let now = Instant::now();
        let Some(watch) = self.watches.get_mut(name).filter(|watch| watch.due <= now) else { return Ok(None) };
        watch.due = now + watch.probe.period() / PACE;
        let address = SocketAddr::from((self.ip, watch.probe.port));
        let answer = probe(address, &watch.probe.path, watch.probe.timeout());
        let passed = answer.as_ref().is_ok_and(|(status, _)| (200..400).contains(status));
        watch.asked += 1;
        watch.failed = if passed { 0 } else { watch.failed + 1 };
        if passed {
            self.flaws.append(&mut watch.excused);
        }
        if passed || self.has_ended()? {
            return Ok(Some(passed));
        }
        let why = answer.map_or_else(|why| format!("{why:#}"), |(status, _)| format!("status {status}"));
        if name == "liveness" {
            let flaw = format!("{name} of {} failed while it was {:?}: {why}", self.name(), self.life);
            self.watches.entry(name.to_owned()).and_modify(|watch| watch.excused.push(flaw));
        }
        let over = name != "readiness" && self.patience_is_over(name);
        ensure!(!over, "{name} of {} failed too often, last with {why}:\n{}", self.name(), self.log());
        Ok(Some(false))
    }

    fn patience_is_over(&self, name: &str) -> bool {
        self.watches.get(name).is_some_and(|watch| watch.failed >= watch.probe.failure_threshold * PACE)
    }

    /// Whether it has ended; its exit code is known then.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        if self.code.is_none() && !self.process.runs() {
            let status = self.process.wait()?;
            // As a container's runtime says it.
            self.code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
            self.ready = None;
        }
        Ok(self.code.is_some())
    }

    /// Its exit code, once it has ended.
    pub fn code(&self) -> Option<i32> {
        self.code
    }

    /// Has it end: first it is taken out of Services, then told.
    pub fn leave(&mut self) {
        self.life = Life::Leaving { since: Instant::now(), told: false };
    }

    /// `kill -9`, as when its memory is over.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Since when it has been ready, unless it is leaving.
    pub fn ready_since(&self) -> Option<Instant> {
        self.ready.filter(|_| !matches!(self.life, Life::Leaving { .. }))
    }

    /// Which one of its workload it is.
    pub fn index(&self) -> u32 {
        self.index
    }

    pub fn name(&self) -> &str {
        &self.workload.pod
    }

    pub fn log(&self) -> String {
        self.process.log()
    }

    pub fn out(&self) -> String {
        self.process.out()
    }

    /// An address of a port by its name.
    pub fn address(&self, port: &str) -> Option<SocketAddr> {
        self.workload.ports.get(port).map(|port| SocketAddr::from((self.ip, *port)))
    }

    /// Probes that failed where none should.
    pub fn flaws(&self) -> &[String] {
        &self.flaws
    }

    /// How often each probe was asked.
    pub fn asked(&self) -> impl Iterator<Item = (&str, u32)> {
        self.watches.iter().map(|(name, watch)| (name.as_str(), watch.asked))
    }

    /// What it serves at a path.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        let address = self.address("http").context("it serves no pages")?;
        let (status, body) = probe(address, path, Duration::from_secs(5))?;
        ensure!(status == 200, "{path} of {}: status {status}", self.name());
        Ok(body)
    }

    /// The sum of a metric over its labels, or nothing where it has no such metric; once it is told to end, what it was then.
    pub fn metric(&self, name: &str) -> anyhow::Result<Option<f64>> {
        let body = self.last.clone().map_or_else(|| self.get("/metrics"), Ok)?;
        let named = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        let values: Vec<f64> = body.lines().filter(named).filter_map(value).collect();
        Ok((!values.is_empty()).then(|| values.iter().sum()))
    }
}
