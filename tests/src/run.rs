//! A run of real processes: coordinators that serve a job, and workers that come and go.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};

use esta_objects::{Access, Bucket};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    lab::Lab,
    network::Network,
    process::{PATIENCE, Process, binary, deadline},
    sight::{self, Sight},
};

/// Coordinators and their workers.
pub struct Run<'a> {
    /// Where everybody's output goes.
    folder: &'a Path,
    /// As its processes' logs are called.
    name: String,
    job: PathBuf,
    dir: PathBuf,
    /// As `--store` takes it; the run's folder when absent.
    store: Option<String>,
    /// Where everybody has a host of its own: the coordinator the first, workers the next ones.
    network: Option<&'a Network>,
    expected: u32,
    /// Coordinators by number.
    seats: Vec<Seat>,
    workers: Vec<Process>,
    started: usize,
    setting: Setting,
    /// How long its end may take.
    patience: Duration,
    runtime: Runtime,
}

/// What a run's processes are told beside what every run's are.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// Variables of everybody's environment.
    pub environment: Vec<(String, String)>,
    /// Further arguments of coordinators.
    pub serve: Vec<String>,
    /// Further arguments of workers.
    pub train: Vec<String>,
    /// Where the run's files are kept, if that is object storage. Then every process has a cache of its own.
    pub kept: Option<String>,
}

/// A place where one coordinator after another serves.
struct Seat {
    address: SocketAddr,
    process: Process,
}

const LOOPBACK: &str = "127.0.0.1";

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
        Self::of_lab(lab, job, expected)?.seated(1)
    }

    /// Serves a job from as many coordinators on one etcd, and starts the workers it expects.
    ///
    /// # Errors
    /// When a process does not start.
    pub fn on_etcd(lab: &'a Lab, job: &Path, store: &str, coordinators: usize, workers: u32) -> anyhow::Result<Self> {
        let run = Self { store: Some(store.to_owned()), ..Self::of_lab(lab, job, workers)? };
        run.seated(coordinators)?.staffed()
    }

    /// Serves a job in a setting of its own from as many coordinators on one etcd, and starts the workers it expects.
    ///
    /// # Errors
    /// When a process does not start.
    pub fn set_on_etcd(
        lab: &'a Lab,
        job: &Path,
        (store, coordinators): (&str, usize),
        workers: u32,
        setting: Setting,
    ) -> anyhow::Result<Self> {
        let run = Self { store: Some(store.to_owned()), setting, ..Self::of_lab(lab, job, workers)? };
        run.seated(coordinators)?.staffed()
    }

    /// Serves a job from the first host of a network, and starts the workers it expects on the next ones.
    ///
    /// # Errors
    /// When a process does not start.
    pub fn across(lab: &'a Lab, job: &Path, network: &'a Network, workers: u32) -> anyhow::Result<Self> {
        Self { network: Some(network), ..Self::of_lab(lab, job, workers)? }.seated(1)?.staffed()
    }

    /// Serves a job in a setting of its own, and starts the workers it expects.
    ///
    /// # Errors
    /// When a process does not start.
    pub fn set(lab: &'a Lab, job: &Path, workers: u32, setting: Setting) -> anyhow::Result<Self> {
        Self { setting, ..Self::of_lab(lab, job, workers)? }.seated(1)?.staffed()
    }

    /// Serves any job, which may take this long and whose results are to lie in the folder of this name, and starts the
    /// workers it expects.
    ///
    /// # Errors
    /// When a process does not start.
    pub fn of_job(folder: &'a Path, name: &str, job: &Path, workers: u32, patience: Duration) -> anyhow::Result<Self> {
        Self { patience, ..Self::vacant(folder, name.to_owned(), job, workers)? }.seated(1)?.staffed()
    }

    /// Serves any job, whose results are to lie in the folder of this name, in a setting of its own, and starts the workers it
    /// expects.
    ///
    /// # Errors
    /// When a process does not start.
    pub fn of_job_set(
        folder: &'a Path,
        name: &str,
        job: &Path,
        workers: u32,
        setting: Setting,
    ) -> anyhow::Result<Self> {
        Self { setting, ..Self::vacant(folder, name.to_owned(), job, workers)? }.seated(1)?.staffed()
    }

    /// Serves any job, whose results are to lie in the folder of this name, to as many workers as are expected, and starts none.
    ///
    /// # Errors
    /// When the coordinator does not start.
    pub fn serve_job(folder: &'a Path, name: &str, job: &Path, expected: u32) -> anyhow::Result<Self> {
        Self::vacant(folder, name.to_owned(), job, expected)?.seated(1)
    }

    /// A job of a lab, whose results are to lie in the folder that it names itself: that of its own name.
    fn of_lab(lab: &'a Lab, job: &Path, expected: u32) -> anyhow::Result<Self> {
        let name = job.file_stem().context("a job file has a name")?.to_string_lossy().into_owned();
        Self::vacant(lab.path(), name, job, expected)
    }

    fn vacant(folder: &'a Path, name: String, job: &Path, expected: u32) -> anyhow::Result<Self> {
        let dir = folder.join(&name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (job, seats, workers) = (job.to_owned(), Vec::new(), Vec::new());
        let (store, network, started, patience) = (None, None, 0, PATIENCE);
        let setting = Setting::default();
        Ok(Self {
            folder,
            name,
            job,
            dir,
            store,
            network,
            expected,
            seats,
            workers,
            started,
            setting,
            patience,
            runtime,
        })
    }

    /// With so many coordinators.
    fn seated(mut self, coordinators: usize) -> anyhow::Result<Self> {
        (0..coordinators).try_for_each(|_| self.add_seat())?;
        Ok(self)
    }

    /// With the workers it expects.
    fn staffed(mut self) -> anyhow::Result<Self> {
        (0..self.expected).try_for_each(|_| self.add_worker())?;
        Ok(self)
    }

    fn add_seat(&mut self) -> anyhow::Result<()> {
        // On a host of its own any port is free.
        let mut address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        if self.network.is_some() {
            address.set_ip(Network::address(0));
        }
        let process = self.coordinator_at(self.seats.len(), address)?;
        self.seats.push(Seat { address, process });
        Ok(())
    }

    fn coordinator_at(&self, number: usize, address: SocketAddr) -> anyhow::Result<Process> {
        let name = self.log_of(&format!("coordinator-{number}"));
        let (job, listen) = (self.job.to_string_lossy(), address.to_string());
        let dir = self.setting.kept.clone().unwrap_or_else(|| self.dir.display().to_string());
        let (workers, dir) = (self.expected.to_string(), format!("output_dir={dir}"));
        // The record is no object.
        let record = format!("redb:{}", self.folder.join(format!("{}.redb", self.name)).display());
        let mut args = vec!["serve", "--config", &job, "--set", &dir, "--listen", &listen, "--workers", &workers];
        let named = self.setting.serve.iter().any(|argument| argument == "--store");
        let file = self.setting.kept.as_ref().filter(|_| !named).map(|_| &record);
        args.extend(self.store.as_ref().or(file).iter().flat_map(|store| ["--store", store]));
        // Nobody else is on that network.
        args.extend(self.network.map(|_| "--plain-text"));
        args.extend(self.setting.serve.iter().map(String::as_str));
        let mut program = self.program(0, "esta-coordinator");
        if self.setting.kept.is_some() && number > 0 {
            program.env("ESTA_CACHE", self.folder.join(format!("{}-cache-standby-{number}", self.name)));
        }
        Process::spawn(self.folder, &name, program.args(args))
    }

    /// Serves a job and starts the workers it expects.
    ///
    /// # Errors
    /// When a process does not start.
    pub fn start(lab: &'a Lab, job: &Path, workers: u32) -> anyhow::Result<Self> {
        Self::serve(lab, job, workers)?.staffed()
    }

    /// Starts one more worker.
    ///
    /// # Errors
    /// When it does not start.
    pub fn add_worker(&mut self) -> anyhow::Result<()> {
        self.add_worker_with(&[])
    }

    /// Starts one more worker, with further arguments.
    ///
    /// # Errors
    /// When it does not start.
    pub fn add_worker_with(&mut self, more: &[&str]) -> anyhow::Result<()> {
        let name = format!("w{}", self.started);
        self.add_worker_called(&name, more)
    }

    /// Starts one more worker, which calls itself that.
    ///
    /// # Errors
    /// When it does not start.
    pub fn add_worker_named(&mut self, name: &str) -> anyhow::Result<()> {
        self.add_worker_called(name, &[])
    }

    fn add_worker_called(&mut self, name: &str, more: &[&str]) -> anyhow::Result<()> {
        let number = self.started;
        self.started += 1;
        let host = self.network.map_or_else(|| LOOPBACK.to_owned(), |_| Network::address(number + 1).to_string());
        let (url, log) = (self.url(), self.log_of(&format!("w{number}")));
        let mut worker = self.program(number + 1, "esta-worker");
        worker.args(train_args(&url, name, &host)).args(&self.setting.train).args(more);
        self.workers.push(Process::spawn(self.folder, &log, &mut worker)?);
        Ok(())
    }

    /// A program, to be started on the host of this number where there are several.
    fn program(&self, host: usize, name: &str) -> Command {
        let mut command =
            self.network.map_or_else(|| Command::new(binary(name)), |network| network.command(host, name));
        command.envs(self.setting.environment.iter().map(|(name, value)| (name, value)));
        if self.setting.kept.is_some() {
            command.env("ESTA_CACHE", self.cache(host));
        }
        command
    }

    /// The cache of a process where each has its own: the first coordinator's is the first, then come the workers' by order of
    /// their start.
    #[must_use]
    pub fn cache(&self, process: usize) -> PathBuf {
        self.folder.join(format!("{}-cache-{process}", self.name))
    }

    /// Brings what object storage keeps of the run into the run's folder.
    fn brought(&self) -> anyhow::Result<()> {
        let Some(kept) = &self.setting.kept else { return Ok(()) };
        let place = kept.parse()?;
        let bucket = Bucket::reached(&place, &Access::by(self.setting.environment.clone()))?;
        bucket.fetch(&place, &self.dir)?;
        Ok(())
    }

    /// Starts a worker that the run does not count, with further arguments.
    ///
    /// # Errors
    /// When it does not start.
    pub fn worker(&self, name: &str, more: &[&str]) -> anyhow::Result<Process> {
        let (url, log) = (self.url(), self.log_of(name));
        let args = [&train_args(&url, name, LOOPBACK), more].concat();
        Process::start(self.folder, &log, "esta-worker", &args)
    }

    /// Starts a worker that the run does not count and that cannot write more than `most` bytes into a file.
    ///
    /// # Errors
    /// When it does not start.
    pub fn worker_on_full_disk(&self, name: &str, most: u64) -> anyhow::Result<Process> {
        let (url, log) = (self.url(), self.log_of(name));
        Process::start_on_full_disk(self.folder, &log, "esta-worker", &train_args(&url, name, LOOPBACK), most)
    }

    fn log_of(&self, worker: &str) -> String {
        format!("{}-{worker}", self.name)
    }

    /// The coordinators' addresses, as `--coordinator` takes them.
    #[must_use]
    pub fn url(&self) -> String {
        let urls: Vec<String> = self.seats.iter().map(Seat::url).collect();
        urls.join(",")
    }

    /// Where the coordinator of this number serves.
    #[must_use]
    pub fn url_of(&self, number: usize) -> String {
        self.seats[number].url()
    }

    /// Where the page of the coordinator of this number is, such as `127.0.0.1:7701`.
    ///
    /// # Errors
    /// When it does not say so in time.
    pub fn page_of(&self, number: usize) -> anyhow::Result<String> {
        let process = &self.seats[number].process;
        let said =
            || process.out().lines().rev().find_map(|line| line.strip_prefix("page: http://").map(str::to_owned));
        deadline("a coordinator to say where its page is", said).with_context(|| process.log())
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

    /// `kill -9` of the first coordinator, and a new one on the same store and port.
    ///
    /// # Errors
    /// When the new one does not start.
    pub fn restart_coordinator(&mut self) -> anyhow::Result<()> {
        self.seats[0].process.kill();
        self.reseat(0)
    }

    /// Starts a coordinator where the one of this number has ended.
    ///
    /// # Errors
    /// When it does not start.
    pub fn reseat(&mut self, number: usize) -> anyhow::Result<()> {
        self.seats[number].process = self.coordinator_at(number, self.seats[number].address)?;
        Ok(())
    }

    /// The process of the coordinator of this number.
    pub fn seat(&mut self, number: usize) -> &mut Process {
        &mut self.seats[number].process
    }

    /// Waits for a coordinator that leads, other than those named, and answers its number.
    ///
    /// # Errors
    /// When nobody comes to lead in time; every coordinator's log is in the error.
    pub fn leader_beside(&self, others: &[usize]) -> anyhow::Result<usize> {
        let found = deadline("a coordinator to lead", || Some(self.sight_beside(others)?.leader));
        found.with_context(|| self.said())
    }

    /// The run as it is, if somebody leads it.
    #[must_use]
    pub fn sight(&self) -> Option<Sight> {
        self.sight_beside(&[])
    }

    /// The run as it is, if a coordinator leads that is none of these. One that is stopped is not asked: its answer would be
    /// waited for.
    #[must_use]
    pub fn sight_beside(&self, others: &[usize]) -> Option<Sight> {
        let mut seats = self
            .seats
            .iter()
            .enumerate()
            .filter(|(number, seat)| !others.contains(number) && !seat.process.is_stopped());
        seats.find_map(|(number, seat)| {
            let status = match self.network {
                None => self.runtime.block_on(sight::ask(&seat.url())),
                Some(network) => sight::ask_within(network, &seat.url()),
            };
            Sight::read(number, &status.ok()?).ok()
        })
    }

    /// `kill -9` of everything at once.
    pub fn kill_all(mut self) {
        self.seats.iter_mut().for_each(|seat| seat.process.kill());
        self.workers.iter_mut().for_each(Process::kill);
    }

    /// What every coordinator has said, one after the other.
    #[must_use]
    pub fn said(&self) -> String {
        let log = |(number, seat): (usize, &Seat)| format!("log of coordinator {number}:\n{}", seat.process.log());
        self.seats.iter().enumerate().map(log).collect()
    }

    /// A worker's process, by order of its start among the living.
    #[must_use]
    pub fn worker_at(&self, number: usize) -> &Process {
        &self.workers[number]
    }

    /// Waits until a coordinator's log has this in it.
    ///
    /// # Errors
    /// When it never does; the logs are in the error.
    pub fn wait_for_log(&self, text: &str) -> anyhow::Result<()> {
        let said = deadline(&format!("a coordinator to say {text:?}"), || self.said().contains(text).then_some(()));
        said.with_context(|| self.said())
    }

    /// The first coordinator's process.
    pub fn coordinator(&mut self) -> &mut Process {
        self.seat(0)
    }

    /// Waits until at least this many steps are durable, whoever leads.
    ///
    /// # Errors
    /// When the run ends or stalls before; the logs are in the error.
    pub fn wait_for_step(&mut self, step: u64) -> anyhow::Result<()> {
        let reached = deadline(&format!("step {step}"), || {
            if !self.seats.iter_mut().any(|seat| seat.process.runs() && !seat.process.is_stopped()) {
                return Some(false);
            }
            // Nobody answers until a coordinator leads: that too is waited for, also at step 0.
            (self.sight()?.durable >= step).then_some(true)
        });
        let reached = reached.with_context(|| self.said())?;
        ensure!(reached, "the coordinators ended before step {step}:\n{}", self.said());
        Ok(())
    }

    /// Waits for the end of the run, ends whoever came too late to hear of it, and reads what it left behind.
    ///
    /// # Errors
    /// When a coordinator fails or hangs; its log is in the error.
    pub fn finish_without_latecomers(mut self) -> anyhow::Result<Outcome> {
        self.coordinators_end()?;
        self.brought()?;
        Outcome::read(&self.dir)
    }

    fn coordinators_end(&mut self) -> anyhow::Result<()> {
        for seat in &mut self.seats {
            let status = seat.process.wait_for(self.patience)?;
            ensure!(status.success(), "a coordinator ended with {status}:\n{}", seat.process.log());
        }
        Ok(())
    }

    /// Waits for the end of the run and reads what it left behind.
    ///
    /// # Errors
    /// When a process fails or hangs; its log is in the error.
    pub fn finish(mut self) -> anyhow::Result<Outcome> {
        self.coordinators_end()?;
        for worker in &mut self.workers {
            let status = worker.wait()?;
            ensure!(status.success(), "a worker ended with {status}:\n{}", worker.log());
        }
        self.brought()?;
        Outcome::read(&self.dir)
    }
}

impl Seat {
    fn url(&self) -> String {
        format!("http://{}", self.address)
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
        let state: Value = serde_json::from_slice(&read(&last.join("trainer_state.json"))?)?;
        Ok(Self {
            table: String::from_utf8(read(&dir.join("table.json"))?)?,
            adapters: read(&last.join("adapters.safetensors"))?,
            optimizer: read(&last.join("optimizer.safetensors"))?,
            digest: state["digest"].to_string(),
        })
    }
}

fn train_args<'a>(url: &'a str, name: &'a str, host: &'a str) -> [&'a str; 7] {
    ["train", "--coordinator", url, "--name", name, "--host", host]
}

fn last_checkpoint(dir: &Path) -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?;
    let step = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("checkpoint-")?.parse::<u64>().ok();
    let checkpoints = entries.flatten().map(|entry| entry.path());
    checkpoints.max_by_key(step).filter(|path| step(path).is_some()).context("the run left no checkpoint")
}
