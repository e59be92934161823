//! The chart without a cluster: what a scenario renders is started as processes, with a stand-in for each part of Kubernetes
//! that the chart relies on (kubelet, StatefulSet, Indexed Job, Service, Secrets, claims).
//!
//! Every pod has an address of its own on this machine (127.77.x.y), so ports stay as they are rendered. Paths inside pods lie
//! below a folder, names of the cluster are replaced by addresses, `cuda` by `cpu`; nothing else is changed.

mod job;
mod pod;
mod secrets;
mod service;
mod workload;

use std::{
    fs,
    ops::AddAssign,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;

pub use self::{job::Ended, workload::Action};
use self::{
    job::Job,
    pod::Pod,
    secrets::Secrets,
    service::Service,
    workload::{Chart, Place, Which, Workload},
};
use crate::process::{PATIENCE, looking};

/// As the scenarios of the chart's tests are installed.
const RELEASE: &str = "esta";
const NAMESPACE: &str = "train";
const DOMAIN: &str = "train.svc.cluster.local";
/// More coordinators than any scenario has.
const COORDINATORS: u8 = 9;
const GRPC: u16 = 7700;
/// How often everybody is looked after.
const TICK: Duration = Duration::from_millis(10);

/// What is installed, and where.
#[derive(Debug, Clone, Default)]
pub struct Scenario {
    /// As its file in `charts/esta/ci` is called, without `-values.yaml`.
    pub name: String,
    /// Values in YAML whose keys stand whole in place of the scenario's.
    pub instead: String,
    /// Further values, as `--set` takes them.
    pub set: Vec<String>,
    /// Addresses, interfaces and the like, and what stands in their place.
    pub replace: Vec<(String, String)>,
    /// What claims hold that are there already: `claim` or `claim/folder`, and where it is.
    pub claims: Vec<(String, PathBuf)>,
    /// Secrets that are there already: name, key, content.
    pub secrets: Vec<(String, String, String)>,
    /// Secrets with certificates that are there already, and the names in them.
    pub certificates: Vec<(String, Vec<String>)>,
    /// Whether coordinators are told the keys by which the cluster signs tokens.
    pub signs_tokens: bool,
    /// Workers on one node.
    pub per_node: u32,
}

/// What a run has lost, as metrics count it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lost {
    /// `esta_steps_lost_total`.
    pub steps: f64,
    /// `esta_workers_lost_total`.
    pub workers: f64,
}

/// A release of the chart that runs.
pub struct Cluster {
    maker: Maker,
    service: Service,
    /// By ordinal.
    coordinators: Vec<Pod>,
    job: Job,
    /// What was noticed of pods that are gone.
    flaws: Vec<String>,
    /// What coordinators that are gone had lost.
    lost: Lost,
}

/// Makes pods.
struct Maker {
    chart: Chart,
    secrets: Secrets,
    volumes: PathBuf,
    logs: PathBuf,
    service_address: [u8; 4],
    per_node: u32,
    made: u32,
}

impl Cluster {
    /// Installs a scenario; everything it writes lies in `folder`.
    ///
    /// # Errors
    /// When it does not render, or a process does not start.
    pub fn install(folder: &Path, scenario: &Scenario) -> anyhow::Result<Self> {
        let service = Service::start(GRPC)?;
        let mut maker = Maker::new(folder, scenario, &service)?;
        let asked = maker.which("coordinator", 0);
        let first = maker.chart.ask_alone(&asked)?;
        let (count, first) = (first.pods, maker.start(&asked, first)?);
        let mut coordinators = vec![first];
        coordinators.extend(maker.pods("coordinator", 1..count)?);
        let first = maker.pods("worker", 0..1)?.pop().context("the chart starts workers")?;
        let rules = first.workload.job.clone().context("workers have a Job")?;
        let mut job = Job::new(rules, first.workload.pods);
        job.fill(0, first);
        Ok(Self { maker, service, coordinators, job, flaws: Vec::new(), lost: Lost::default() })
    }

    /// Does what the parts of a cluster have to do by now.
    fn tick(&mut self) -> anyhow::Result<()> {
        for (ordinal, pod) in self.coordinators.iter_mut().enumerate() {
            pod.tick()?;
            ensure!(pod.code().is_none(), "coordinator {ordinal} ended with {:?}:\n{}", pod.code(), pod.log());
        }
        self.tick_workers()
    }

    fn tick_workers(&mut self) -> anyhow::Result<()> {
        let ready = self.coordinators.iter().filter(|pod| pod.ready_since().is_some());
        self.service.set(ready.filter_map(|pod| pod.address("grpc")).collect());
        let lacking = self.job.tick()?;
        for pod in self.maker.pods("worker", lacking.iter().copied())? {
            let index = pod.index();
            self.job.fill(index, pod);
        }
        Ok(())
    }

    /// Lets the cluster go on until something is found.
    ///
    /// # Errors
    /// When a pod does what it should not, or nothing is found in time; all logs are in the error.
    pub fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut Self) -> Option<T>) -> anyhow::Result<T> {
        let looked = looking(TICK, PATIENCE, what, || match self.tick().and_then(|()| self.job.fails()) {
            Ok(()) => found(self).map(Ok),
            Err(flaw) => Some(Err(flaw)),
        });
        looked.and_then(|found| found).with_context(|| self.said())
    }

    /// The state of the run as the coordinator serves it that leads; nothing while nobody does.
    #[must_use]
    pub fn state(&self) -> Option<Value> {
        let states = self.coordinators.iter().filter_map(|pod| pod.get("/api/state").ok());
        let mut states = states.filter_map(|state| serde_json::from_str::<Value>(&state).ok());
        states.find(|state| state["leading"] == true && state["run"].is_object())
    }

    /// Waits for a state of the run.
    ///
    /// # Errors
    /// When it does not come in time.
    pub fn until_state(&mut self, what: &str, mut is: impl FnMut(&Value) -> bool) -> anyhow::Result<Value> {
        self.until(what, |cluster| cluster.state().filter(&mut is))
    }

    /// Waits until so many steps are committed.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn until_step(&mut self, step: u64) -> anyhow::Result<()> {
        let reached = |state: &Value| state["progress"]["committed"].as_u64().is_some_and(|at| at >= step);
        self.until_state(&format!("step {step}"), reached).map(|_| ())
    }

    /// Waits until so many steps are committed beyond those that are now.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn until_steps_more(&mut self, steps: u64) -> anyhow::Result<()> {
        let state = self.until_state("a coordinator to lead", |_| true)?;
        let at = state["progress"]["committed"].as_u64().context("a state says how many steps are committed")?;
        self.until_step(at + steps)
    }

    /// Waits until so many workers are in the group and can train, and their pods are ready.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn until_members(&mut self, count: usize) -> anyhow::Result<()> {
        let member = |member: &&Value| member["ready"] == true && member["draining"] != true;
        self.until(&format!("{count} workers"), |cluster| {
            let ready = cluster.job.pods().filter(|pod| pod.ready_since().is_some()).map(Pod::workers).sum::<usize>();
            let state = cluster.state().filter(|_| ready == count)?;
            let members = state["members"].as_array()?;
            (members.iter().filter(member).count() == count && members.len() == count).then_some(())
        })
    }

    /// Runs the pod of `helm test` and answers what it said.
    ///
    /// # Errors
    /// When it fails.
    pub fn helm_test(&mut self) -> anyhow::Result<String> {
        let mut pod = self.maker.pods("status", 0..1)?.pop().context("the chart has a test")?;
        let code = self.until("the end of the test", |_| match pod.has_ended() {
            Ok(ended) => ended.then(|| pod.code()).flatten(),
            Err(_) => None,
        })?;
        ensure!(code == 0, "`helm test` ended with {code}: {}{}", pod.log(), pod.out());
        Ok(pod.out())
    }

    /// Other values that change the coordinators' pods alone: they are replaced as a StatefulSet does it, highest ordinal first,
    /// the next one when the one before has been ready for long enough.
    ///
    /// # Errors
    /// When they change the workers, or a coordinator does not become ready.
    pub fn roll(&mut self, values: &[&str]) -> anyhow::Result<()> {
        let before: Vec<String> = self.job.pods().map(|pod| pod.workload.owner.clone()).collect();
        values.iter().for_each(|value| self.maker.chart.set(value));
        let which = self.maker.which("worker", 0);
        let worker = self.maker.chart.ask(&which)?.answer()?;
        ensure!(before.iter().all(|name| *name == worker.owner), "{values:?} make another Job of the workers");
        for ordinal in (0..self.coordinators.len()).rev() {
            self.end_coordinator(ordinal)?;
            let pods = self.maker.pods("coordinator", [ordinal as u32])?;
            self.coordinators.splice(ordinal..=ordinal, pods);
            let least = Duration::from_secs(self.coordinators[ordinal].workload.min_ready_seconds);
            self.until(&format!("coordinator {ordinal} to be ready for {least:?}"), |cluster| {
                cluster.coordinators[ordinal].ready_since().filter(|since| since.elapsed() >= least)
            })?;
        }
        Ok(())
    }

    /// Has a coordinator end as the kubelet does it, while everybody else goes on, and answers its exit code.
    fn end_coordinator(&mut self, ordinal: usize) -> anyhow::Result<i32> {
        self.coordinators[ordinal].leave();
        let ended = looking(TICK, PATIENCE, "a coordinator to end", || {
            let looked = (0..self.coordinators.len()).try_for_each(|other| {
                let pod = &mut self.coordinators[other];
                pod.tick()?;
                ensure!(other == ordinal || pod.code().is_none(), "coordinator {other} ended: {}", pod.log());
                Ok(())
            });
            match looked.and_then(|()| self.tick_workers()) {
                Ok(()) => self.coordinators[ordinal].code().map(Ok),
                Err(flaw) => Some(Err(flaw)),
            }
        });
        let code = ended.and_then(|ended| ended).with_context(|| self.said())?;
        self.flaws.extend_from_slice(self.coordinators[ordinal].flaws());
        self.lost += Lost::by(&self.coordinators[ordinal])?;
        Ok(code)
    }

    /// Has a worker leave, as whoever drains its node does.
    ///
    /// # Errors
    /// When nobody is at that place.
    pub fn drain_worker(&mut self, index: u32) -> anyhow::Result<()> {
        self.job.pod(index).map(Pod::leave)
    }

    /// `kill -9` of a worker.
    ///
    /// # Errors
    /// When nobody is at that place.
    pub fn kill_worker(&mut self, index: u32) -> anyhow::Result<()> {
        self.job.pod(index).map(Pod::kill)
    }

    /// Patches `parallelism` and `completions` of the Job.
    pub fn scale(&mut self, workers: u32) {
        self.job.scale(workers);
    }

    /// Waits until a pod of this place has ended, beside those that had before, and answers how.
    ///
    /// # Errors
    /// When none has in time.
    pub fn until_ended(&mut self, index: u32) -> anyhow::Result<&Ended> {
        let before = self.job.ended.len();
        let of_place = move |ended: &Vec<Ended>| ended.iter().skip(before).position(|pod| pod.index == index);
        let at = self.until("a worker to end", |cluster| of_place(&cluster.job.ended))?;
        Ok(&self.job.ended[before + at])
    }

    /// Waits until every place of the Job is done.
    ///
    /// # Errors
    /// When the Job fails, or does not end in time.
    pub fn until_success(&mut self) -> anyhow::Result<()> {
        self.until("the Job to succeed", |cluster| cluster.job.is_complete().then_some(()))
    }

    /// Waits until the Job has failed by its rules, and answers why.
    ///
    /// # Errors
    /// When it does not.
    pub fn until_failure(&mut self) -> anyhow::Result<String> {
        let looked = looking(TICK, PATIENCE, "the Job to fail", || match self.tick() {
            Ok(()) => self.job.failed.clone().map(Ok),
            Err(flaw) => Some(Err(flaw)),
        });
        looked.and_then(|failed| failed).with_context(|| self.said())
    }

    /// Pods of the Job that have ended.
    #[must_use]
    pub fn ended(&self) -> &[Ended] {
        &self.job.ended
    }

    /// What was lost under everybody who has led.
    ///
    /// # Errors
    /// When the one that leads does not count it.
    pub fn lost(&self) -> anyhow::Result<Lost> {
        let mut lost = self.lost;
        for pod in &self.coordinators {
            lost += Lost::by(pod)?;
        }
        Ok(lost)
    }

    /// Where the run's results lie: the only folder of the claim of checkpoints.
    ///
    /// # Errors
    /// When there is none, or another one too.
    pub fn results(&self) -> anyhow::Result<PathBuf> {
        let folder = self.maker.chart.claims.join("checkpoints");
        let found: Vec<PathBuf> = fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
        ensure!(found.len() == 1, "{} holds {found:?}", folder.display());
        found.into_iter().next().context("one was found")
    }

    /// Ends everything as when the release goes, checks that every probe held at any time, and answers the coordinators' exit
    /// codes.
    ///
    /// # Errors
    /// When a pod does not end within its grace, or a probe had failed.
    pub fn uninstall(mut self) -> anyhow::Result<Vec<i32>> {
        self.job.scale(0);
        self.coordinators.iter_mut().for_each(Pod::leave);
        let ended = looking(TICK, PATIENCE, "everybody to end", || {
            let looked = self.coordinators.iter_mut().try_for_each(Pod::tick).and_then(|()| self.tick_workers());
            let over = self.job.pods().next().is_none() && self.coordinators.iter().all(|pod| pod.code().is_some());
            looked.map(|()| over.then_some(())).transpose()
        });
        ended.and_then(|ended| ended).with_context(|| self.said())?;
        let pods = self.coordinators.iter().chain(self.job.all());
        let flaws: Vec<&String> = self.flaws.iter().chain(pods.flat_map(Pod::flaws)).collect();
        ensure!(flaws.is_empty(), "probes failed: {flaws:#?}\n{}", self.said());
        for (name, asked) in self.coordinators.iter().flat_map(Pod::asked) {
            ensure!(asked > 0, "nobody asked for {name}");
        }
        Ok(self.coordinators.iter().filter_map(Pod::code).collect())
    }

    /// What everybody has said.
    #[must_use]
    pub fn said(&self) -> String {
        let log = |pod: &Pod| format!("{} ({:?}):\n{}\n", pod.name(), pod.code(), pod.log());
        self.coordinators.iter().chain(self.job.all()).map(log).collect()
    }
}

impl Maker {
    fn new(folder: &Path, scenario: &Scenario, service: &Service) -> anyhow::Result<Self> {
        let [volumes, logs] = ["volumes", "logs"].map(|name| folder.join(name));
        fs::create_dir_all(&logs)?;
        for (claim, holds) in &scenario.claims {
            let at = volumes.join(claim);
            fs::create_dir_all(at.parent().context("a claim has a name")?)?;
            symlink(holds, &at).with_context(|| format!("filling the claim {claim}"))?;
        }
        let named = |ordinal: u8| {
            let host = format!("{RELEASE}-coordinator-{ordinal}.{RELEASE}-coordinators.{DOMAIN}");
            (host, service.neighbour(address_of("coordinator", ordinal.into())).to_string())
        };
        let mut hosts: Vec<(String, String)> = (0..COORDINATORS).map(named).collect();
        let address = service.neighbour(1);
        hosts.push((format!("{RELEASE}.{DOMAIN}"), address.to_string()));
        let mut chart = Chart::new(&scenario.name, folder);
        chart.replace = [&hosts[..], &scenario.replace, &[("cuda".to_owned(), "cpu".to_owned())]].concat();
        let mut secrets = Secrets::new(hosts)?;
        for (secret, key, content) in &scenario.secrets {
            secrets.put(secret, key, content);
        }
        for (secret, names) in &scenario.certificates {
            secrets.certify(secret, names)?;
        }
        let written = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map(|()| path)
        };
        chart.add_file("--instead", &written("instead.yaml", &scenario.instead)?);
        if scenario.signs_tokens {
            let values = serde_json::json!({"auth": {"serviceAccountTokens": {"jwks": secrets.jwks()}}}).to_string();
            chart.add_file("--values", &written("keys.yaml", &values)?);
        }
        scenario.set.iter().for_each(|value| chart.set(value));
        let (service_address, per_node) = (address.octets(), scenario.per_node.max(1));
        Ok(Self { chart, secrets, volumes, logs, service_address, per_node, made: 0 })
    }

    /// Names the next pod.
    fn which(&mut self, kind: &'static str, index: u32) -> Which {
        self.made += 1;
        let [a, b, c, _] = self.service_address;
        let number = if kind == "coordinator" { index } else { self.made };
        let ip = [a, b, c, address_of(kind, number)].into();
        Which { kind, index, suffix: format!("{:05}", self.made), ip, node: format!("node-{}", index / self.per_node) }
    }

    /// Makes pods of these indices.
    fn pods(&mut self, kind: &'static str, indices: impl IntoIterator<Item = u32>) -> anyhow::Result<Vec<Pod>> {
        let which: Vec<Which> = indices.into_iter().map(|index| self.which(kind, index)).collect();
        let asked = which.iter().map(|which| self.chart.ask(which)).collect::<anyhow::Result<Vec<_>>>()?;
        let answers = asked.into_iter().map(workload::Asked::answer).collect::<anyhow::Result<Vec<_>>>()?;
        which.iter().zip(answers).map(|(which, workload)| self.start(which, workload)).collect()
    }

    fn start(&mut self, which: &Which, workload: Workload) -> anyhow::Result<Pod> {
        for (at, place) in workload.folders.iter().filter(|(at, _)| !at.starts_with("/dev/")) {
            self.lay_folder(Path::new(at), place)?;
        }
        for (path, content) in &workload.files {
            write(Path::new(path), content)?;
        }
        for (secret, names) in &workload.certificates {
            self.secrets.certify(secret, names)?;
        }
        for (path, key) in &workload.secret_files {
            let secret = self.secrets.get(&key.secret)?;
            let content = secret.get(&key.key).with_context(|| format!("{} has no {}", key.secret, key.key))?;
            write(Path::new(path), content)?;
        }
        for (path, token) in &workload.tokens {
            write(Path::new(path), &self.secrets.token(token, NAMESPACE, &workload.pod)?)?;
        }
        let mut command = Pod::program(&workload)?;
        for secret in &workload.secrets_env {
            command.envs(self.secrets.get(secret)?);
        }
        command.envs(&workload.env);
        Pod::start(workload, which.ip, which.index, &self.logs, &mut command)
    }

    /// A folder of a pod's own, or of a claim: one that all pods see.
    fn lay_folder(&self, at: &Path, place: &Place) -> anyhow::Result<()> {
        let Some(claim) = &place.claim else { return Ok(fs::create_dir_all(at)?) };
        let volume = self.volumes.join(claim).join(place.sub_path.as_deref().unwrap_or_default());
        fs::create_dir_all(&volume).with_context(|| format!("making {}", volume.display()))?;
        fs::create_dir_all(at.parent().context("a folder lies in another")?)?;
        if fs::read_link(at).is_ok_and(|there| there == volume) {
            return Ok(());
        }
        symlink(&volume, at).with_context(|| format!("laying {}", at.display()))
    }
}

/// Steps that were given out again under this coordinator; one that has never led does not say.
impl Lost {
    fn by(pod: &Pod) -> anyhow::Result<Self> {
        let leads = pod.metric("esta_leading")?.is_some_and(|leads| leads > 0.0);
        let steps = pod.metric("esta_steps_lost_total")?;
        ensure!(steps.is_some() || !leads, "{} leads and has no esta_steps_lost_total", pod.name());
        let workers = pod.metric("esta_workers_lost_total")?.unwrap_or_default();
        Ok(Self { steps: steps.unwrap_or_default(), workers })
    }
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.steps += other.steps;
        self.workers += other.workers;
    }
}

/// The last number of a pod's address.
fn address_of(kind: &str, number: u32) -> u8 {
    let first = if kind == "coordinator" { 10 } else { 20 };
    u8::try_from(first + number).expect("a test makes few pods")
}

fn write(path: &Path, content: &str) -> anyhow::Result<()> {
    fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
    fs::write(path, content).with_context(|| format!("writing {}", path.display()))
}
