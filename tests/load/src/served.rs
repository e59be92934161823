//! A coordinator in a process of its own (HANDS): ended by its handle, whatever happens.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use esta_proto::v1::{StatusRequest, coordinator_client::CoordinatorClient};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use tonic::transport::Channel;

use crate::{door::Door, job::Job};

/// Far longer than a coordinator takes to begin, or to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// A coordinator that serves a job.
#[derive(Debug)]
pub struct Served {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
    url: String,
    log: PathBuf,
}

impl Served {
    /// Starts `program serve` for so many workers, in a folder of its own, with further arguments.
    ///
    /// # Errors
    /// When it does not listen in time; what it said is in the error.
    pub async fn start(program: &Path, job: &Job, workers: u32, folder: &Path, more: &[&str]) -> anyhow::Result<Self> {
        let (path, log) = (job.write(folder)?, folder.join("coordinator.log"));
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--workers", &workers.to_string(), "--config"]).arg(&path);
        command.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let said = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
        let mut served = Self { child, said, url: String::new(), log };
        served.url = served.heard("listening on ").await?;
        Ok(served)
    }

    /// What follows `prefix` on the first line that begins with it.
    async fn heard(&mut self, prefix: &str) -> anyhow::Result<String> {
        let found = async {
            while let Some(line) = self.said.next_line().await? {
                if let Some(rest) = line.strip_prefix(prefix) {
                    return Ok::<_, std::io::Error>(Some(rest.to_owned()));
                }
            }
            Ok(None)
        };
        match timeout(PATIENCE, found).await {
            Ok(found) => {
                found?.with_context(|| format!("the coordinator ended before it said {prefix:?}: {}", self.log()))
            }
            Err(_) => bail!("the coordinator did not say {prefix:?} within {PATIENCE:?}: {}", self.log()),
        }
    }

    /// The way in.
    #[must_use]
    pub fn door(&self) -> Door {
        Door::new(self.url.clone())
    }

    /// What it has written to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Bytes of memory that it holds.
    ///
    /// # Errors
    /// When it does not run.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()?)).context("reading its memory")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024)
    }

    /// Processor time that it has taken.
    ///
    /// # Errors
    /// When it does not run.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()?)).context("reading its processor time")?;
        let fields = stat.rsplit_once(')').context("no name in its stat")?.1;
        let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        // The kernel counts in hundredths of a second, whatever its own ticks.
        Ok(Duration::from_millis(10 * ticks))
    }

    fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("the coordinator has ended")
    }

    /// What it tells an operator.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> anyhow::Result<Value> {
        let mut client: CoordinatorClient<Channel> = self.door().connect().await?;
        Ok(serde_json::from_str(&client.status(StatusRequest {}).await?.into_inner().json)?)
    }

    /// Waits for its end, which has to be a success.
    ///
    /// # Errors
    /// When it fails or does not end in time; what it said is in the error.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        // Whoever prints needs somebody who reads.
        let end = async {
            while self.said.next_line().await?.is_some() {}
            self.child.wait().await
        };
        match timeout(PATIENCE, end).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => Ok(()),
            Ok(status) => bail!("the coordinator ended with {}: {}", status?, self.log()),
            Err(_) => bail!("the coordinator did not end within {PATIENCE:?}: {}", self.log()),
        }
    }
}
