//! A run of real processes: a coordinator that serves a job, and workers that come and go.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use esta_proto::v1::{StatusRequest, coordinator_client::CoordinatorClient};

use crate::{
    lab::Lab,
    process::{Process, deadline},
};

/// A coordinator and its workers.
pub struct Run<'a> {
    lab: &'a Lab,
    job: PathBuf,
    dir: PathBuf,
    port: u16,
    expected: u32,
    coordinator: Process,
    workers: Vec<Process>,
    started: usize,
}

/// What a finished run leaves behind, to be compared bit for bit.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `table.json`.
    pub table: String,
    /// The trained parameters of the last checkpoint.
    pub adapters: Vec<u8>,
    /// The optimizer's state of the last checkpoint.
    pub optimizer: Vec<u8>,
    /// The chained digest of everything that was reduced.
    pub digest: String,
}

impl<'a> Run<'a> {
    /// Serves a job to as many workers as are expected, and starts none.
    ///
    /// # Errors
    /// When the coordinator does not start.
    pub fn serve(lab: &'a Lab, job: &Path, expected: u32) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let coordinator = start_coordinator(lab, job, port, expected)?;
        let name = job.file_stem().context("a job file has a name")?;
        let dir = lab.path().join(name);
        let (job, workers) = (job.to_owned(), Vec::new());
        Ok(Self { lab, job, dir, port, expected, coordinator, workers, started: 0 })
    }

    /// Serves a job and starts the workers it expects.
    ///
    /// # Errors
    /// When a process does not start.
    pub fn start(lab: &'a Lab, job: &Path, workers: u32) -> anyhow::Result<Self> {
        let mut run = Self::serve(lab, job, workers)?;
        (0..workers).try_for_each(|_| run.add_worker())?;
        Ok(run)
    }

    /// Starts one more worker.
    ///
    /// # Errors
    /// When it does not start.
    pub fn add_worker(&mut self) -> anyhow::Result<()> {
        let name = format!("w{}", self.started);
        self.started += 1;
        let worker = self.worker(&name, &[])?;
        self.workers.push(worker);
        Ok(())
    }

    /// Starts a worker that the run does not count, with further arguments.
    ///
    /// # Errors
    /// When it does not start.
    pub fn worker(&self, name: &str, more: &[&str]) -> anyhow::Result<Process> {
        let (url, log) = (self.url(), self.log_of(name));
        let args = [&train_args(&url, name), more].concat();
        Process::start(self.lab.path(), &log, "esta-worker", &args)
    }

    /// Starts a worker that the run does not count and that cannot write more than `most` bytes into a file.
    ///
    /// # Errors
    /// When it does not start.
    pub fn worker_on_full_disk(&self, name: &str, most: u64) -> anyhow::Result<Process> {
        let (url, log) = (self.url(), self.log_of(name));
        Process::start_on_full_disk(self.lab.path(), &log, "esta-worker", &train_args(&url, name), most)
    }

    fn log_of(&self, worker: &str) -> String {
        format!("{}-{worker}", self.job.file_stem().unwrap_or_default().to_string_lossy())
    }

    /// The coordinator's address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The run's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `kill -9` of a worker, by order of its start among the living.
    pub fn kill_worker(&mut self, number: usize) {
        self.workers.remove(number).kill();
    }

    /// Hands a worker over to the test, which answers for its end.
    pub fn take_worker(&mut self, number: usize) -> Process {
        self.workers.remove(number)
    }

    /// `kill -9` of the coordinator, and a new one on the same store and port.
    ///
    /// # Errors
    /// When the new one does not start.
    pub fn restart_coordinator(&mut self) -> anyhow::Result<()> {
        self.coordinator.kill();
        self.coordinator = start_coordinator(self.lab, &self.job, self.port, self.expected)?;
        Ok(())
    }

    /// `kill -9` of everything at once.
    pub fn kill_all(mut self) {
        self.coordinator.kill();
        self.workers.iter_mut().for_each(Process::kill);
    }

    /// A worker's process, by order of its start among the living.
    #[must_use]
    pub fn worker_at(&self, number: usize) -> &Process {
        &self.workers[number]
    }

    /// Waits until the coordinator's log has this in it.
    ///
    /// # Errors
    /// When it never does; the log is in the error.
    pub fn wait_for_log(&self, text: &str) -> anyhow::Result<()> {
        let said = deadline(&format!("the coordinator to say {text:?}"), || {
            self.coordinator.log().contains(text).then_some(())
        });
        said.with_context(|| format!("log of the coordinator:\n{}", self.coordinator.log()))
    }

    /// The coordinator's process.
    pub fn coordinator(&mut self) -> &mut Process {
        &mut self.coordinator
    }

    /// Waits until at least this many steps are committed.
    ///
    /// # Errors
    /// When the run ends or stalls before; the coordinator's log is in the error.
    pub fn wait_for_step(&mut self, step: u64) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let url = self.url();
        let coordinator = &mut self.coordinator;
        let reached = deadline(&format!("step {step}"), || {
            if !coordinator.runs() {
                return Some(false);
            }
            // Nobody answers until the coordinator listens: that too is waited for, also at step 0.
            let committed = runtime.block_on(committed(&url)).ok()?;
            (committed >= step).then_some(true)
        });
        let log = || format!("log of the coordinator:\n{}", self.coordinator.log());
        let reached = reached.with_context(log)?;
        ensure!(reached, "the coordinator ended before step {step}:\n{}", self.coordinator.log());
        Ok(())
    }

    /// Waits for the end of the run and reads what it left behind.
    ///
    /// # Errors
    /// When a process fails or hangs; its log is in the error.
    pub fn finish(mut self) -> anyhow::Result<Outcome> {
        let status = self.coordinator.wait()?;
        ensure!(status.success(), "the coordinator ended with {status}:\n{}", self.coordinator.log());
        for worker in &mut self.workers {
            let status = worker.wait()?;
            ensure!(status.success(), "a worker ended with {status}:\n{}", worker.log());
        }
        Outcome::read(&self.dir)
    }
}

impl Outcome {
    /// Reads a finished run.
    ///
    /// # Errors
    /// Naming the file that is absent.
    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("reading {}", path.display()));
        let last = last_checkpoint(dir)?;
        let state: serde_json::Value = serde_json::from_slice(&read(&last.join("trainer_state.json"))?)?;
        Ok(Self {
            table: String::from_utf8(read(&dir.join("table.json"))?)?,
            adapters: read(&last.join("adapters.safetensors"))?,
            optimizer: read(&last.join("optimizer.safetensors"))?,
            digest: state["digest"].to_string(),
        })
    }
}

fn train_args<'a>(url: &'a str, name: &'a str) -> [&'a str; 7] {
    ["train", "--coordinator", url, "--name", name, "--host", "127.0.0.1"]
}

fn last_checkpoint(dir: &Path) -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
    let step = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse::<u64>().ok();
    let checkpoints = entries.flatten().map(|entry| entry.path());
    checkpoints.max_by_key(step).filter(|path| step(path).is_some()).context("the run left no checkpoint")
}

fn start_coordinator(lab: &Lab, job: &Path, port: u16, expected: u32) -> anyhow::Result<Process> {
    let name = format!("{}-coordinator", job.file_stem().unwrap_or_default().to_string_lossy());
    let (job, listen, workers) = (job.to_string_lossy(), format!("127.0.0.1:{port}"), expected.to_string());
    let args = ["serve", "--config", &job, "--listen", &listen, "--workers", &workers];
    Process::start(lab.path(), &name, "esta-coordinator", &args)
}

async fn committed(url: &str) -> anyhow::Result<u64> {
    let mut client = CoordinatorClient::connect(url.to_owned()).await?;
    let status = client.status(StatusRequest {}).await?.into_inner();
    let status: serde_json::Value = serde_json::from_str(&status.json)?;
    status["durable_steps"].as_u64().context("the status names the committed steps")
}
