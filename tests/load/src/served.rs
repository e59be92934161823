//! A coordinator in a process of its own (HANDS): ended by its handle, whatever happens.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use esta_proto::v1::{StatusRequest, coordinator_client::CoordinatorClient};
use esta_tests::{Certificates, Process};
use serde_json::Value;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::{
    crowd::Cast,
    door::{Door, Wire},
    job::Job,
};

/// Far longer than a coordinator takes to begin, or to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(2);

/// A coordinator that serves a job.
pub struct Served {
    program: PathBuf,
    args: Vec<String>,
    environment: Vec<(String, String)>,
    folder: PathBuf,
    certificates: Option<Certificates>,
    url: String,
    process: Process,
    /// Processes so far: each writes files of its own.
    starts: u32,
}

impl Served {
    /// Starts `program serve` for a cast, in a folder of its own, with further arguments and variables of its environment.
    ///
    /// # Errors
    /// When it does not listen in time; what it said is in the error.
    pub async fn start(
        program: &Path,
        job: &Job,
        cast: &Cast,
        folder: &Path,
        (more, environment): Extras<'_>,
    ) -> anyhow::Result<Self> {
        let certificates = match cast.wire {
            Wire::Plain => None,
            Wire::Tls => Some(Certificates::write(folder)?),
        };
        let (config, workers) = (job.write(folder)?, cast.ranks.to_string());
        let config = config.to_string_lossy();
        let own = ["serve", "--workers", &workers, "--config", &config];
        let mut args: Vec<String> = own.iter().chain(more).map(|&arg| arg.to_owned()).collect();
        args.extend(certificates.iter().flat_map(Certificates::server_args));
        let process = spawn(program, (&args, environment), "127.0.0.1:0", folder, 1)?;
        let (program, folder, environment) = (program.to_owned(), folder.to_owned(), environment.to_vec());
        let url = String::new();
        let mut served = Self { program, args, environment, folder, certificates, url, process, starts: 1 };
        served.url = served.heard("listening on ").await?;
        Ok(served)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was, on what it left, and waits until it serves.
    ///
    /// # Errors
    /// When it does not; what it said is in the error.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        let address = self.url.split_once("://").map_or(self.url.as_str(), |(_, address)| address);
        self.starts += 1;
        self.process = spawn(&self.program, (&self.args, &self.environment), address, &self.folder, self.starts)?;
        self.heard("listening on ").await?;
        Ok(())
    }

    /// What follows `prefix` on the first line that begins with it.
    ///
    /// # Errors
    /// When it ends before, or does not say it in time; what it said is in the error.
    pub async fn heard(&mut self, prefix: &str) -> anyhow::Result<String> {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            // Looked at first: what a process said before it ended is there once it has.
            let runs = self.process.runs();
            let said = self.process.out();
            if let Some(rest) = said.lines().find_map(|line| line.strip_prefix(prefix)) {
                return Ok(rest.to_owned());
            }
            ensure!(runs, "the coordinator ended before it said {prefix:?}: {}", self.log());
            ensure!(
                tokio::time::Instant::now() < end,
                "the coordinator did not say {prefix:?} within {PATIENCE:?}: {}",
                self.log()
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The way in.
    ///
    /// # Errors
    /// When certificates cannot be read.
    pub fn door(&self) -> anyhow::Result<Door> {
        Door::new(self.url.clone(), self.certificates.as_ref())
    }

    /// What it has written to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Bytes of memory that it holds.
    ///
    /// # Errors
    /// When it does not run.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).context("reading its memory")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024)
    }

    /// Processor time that it has taken.
    ///
    /// # Errors
    /// When it does not run.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()));
        let stat = stat.context("reading its processor time")?;
        let fields = stat.rsplit_once(')').context("no name in its stat")?.1;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        // The kernel counts in hundredths of a second, whatever its own ticks.
        Ok(Duration::from_millis(10 * ticks))
    }

    /// What it tells an operator.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> anyhow::Result<Value> {
        let mut client: CoordinatorClient<Channel> = self.door()?.connect().await?;
        Ok(serde_json::from_str(&client.status(StatusRequest {}).await?.into_inner().json)?)
    }

    /// Waits for its end, which has to be a success.
    ///
    /// # Errors
    /// When it fails or does not end in time; what it said is in the error.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        let end = async {
            while self.process.runs() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if timeout(PATIENCE, end).await.is_err() {
            bail!("the coordinator did not end within {PATIENCE:?}: {}", self.log());
        }
        let status = self.process.wait()?;
        ensure!(status.success(), "the coordinator ended with {status}: {}", self.log());
        Ok(())
    }
}

/// Further arguments, and variables of its environment.
type Extras<'a> = (&'a [&'a str], &'a [(String, String)]);

fn spawn(
    program: &Path,
    (args, environment): (&[String], &[(String, String)]),
    listen: &str,
    folder: &Path,
    start: u32,
) -> anyhow::Result<Process> {
    let mut command = Command::new(program);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.args(args).args(["--listen", listen]);
    Process::spawn(folder, &format!("coordinator-{start}"), &mut command)
}
