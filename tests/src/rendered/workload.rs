//! What the chart would start, as `scripts/chart-rendered.sh` says it.

use std::{
    collections::BTreeMap,
    fs::File,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde::Deserialize;

/// One pod of a workload.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Workload {
    pub kind: String,
    /// What the StatefulSet, Job or pod is called.
    #[serde(rename = "name")]
    pub owner: String,
    pub pod: String,
    /// How many of them there are.
    pub pods: u32,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Secrets whose keys are variables, too.
    pub secrets_env: Vec<String>,
    pub files: BTreeMap<String, String>,
    pub secret_files: BTreeMap<String, SecretKey>,
    /// Names in the certificates that cert-manager would make, by Secret.
    pub certificates: BTreeMap<String, Vec<String>>,
    pub tokens: BTreeMap<String, Projected>,
    pub folders: BTreeMap<String, Place>,
    pub ports: BTreeMap<String, u16>,
    pub probes: BTreeMap<String, Probe>,
    pub pre_stop_seconds: u64,
    pub grace_seconds: u64,
    #[serde(default)]
    pub min_ready_seconds: u64,
    pub job: Option<JobRules>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct SecretKey {
    pub secret: String,
    pub key: String,
}

/// A token of a service account that is projected into a pod.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Projected {
    pub audience: String,
    pub account: String,
}

/// A folder of a pod: of a claim, or its own.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Place {
    pub claim: Option<String>,
    pub sub_path: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Probe {
    pub path: String,
    pub port: u16,
    period_seconds: u64,
    timeout_seconds: u64,
    pub failure_threshold: u32,
}

impl Probe {
    pub fn period(&self) -> Duration {
        Duration::from_secs(self.period_seconds)
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

/// By what a Job judges how its pods end.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobRules {
    pub backoff_limit_per_index: u32,
    pub pod_failure_policy: FailurePolicy,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct FailurePolicy {
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rule {
    pub action: Action,
    pub on_exit_codes: Option<ExitCodes>,
}

/// What a Job does about a pod that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Action {
    /// Another try, which does not count.
    Ignore,
    /// The Job fails at once.
    FailJob,
    /// The pod's place is given up.
    FailIndex,
    /// Another try, which counts.
    Count,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct ExitCodes {
    operator: Operator,
    values: Vec<i32>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Operator {
    In,
    NotIn,
}

impl JobRules {
    /// The action of the first rule that fits; a failure counts where none does.
    pub fn judge(&self, code: i32) -> Action {
        let fits = |rule: &&Rule| rule.on_exit_codes.as_ref().is_some_and(|codes| codes.fit(code));
        self.pod_failure_policy.rules.iter().find(fits).map_or(Action::Count, |rule| rule.action)
    }
}

impl ExitCodes {
    fn fit(&self, code: i32) -> bool {
        match self.operator {
            Operator::In => self.values.contains(&code),
            Operator::NotIn => !self.values.contains(&code),
        }
    }
}

/// The chart with the values of a scenario.
pub(super) struct Chart {
    /// Arguments that say what is rendered, whichever pod is asked for.
    values: Vec<String>,
    /// Texts and what stands in their place.
    pub replace: Vec<(String, String)>,
    /// Where claims are mounted, for all pods.
    pub claims: PathBuf,
    /// Where pods have folders of their own.
    pub pods: PathBuf,
}

/// Which pod is asked for.
#[derive(Debug, Clone)]
pub(super) struct Which {
    pub kind: &'static str,
    pub index: u32,
    /// How its name ends if it is one of a Job.
    pub suffix: String,
    pub ip: Ipv4Addr,
    pub node: String,
}

/// A question that is being answered.
pub(super) struct Asked {
    script: Child,
    kind: &'static str,
}

impl Chart {
    pub fn new(scenario: &str, folder: &Path) -> Self {
        let values = vec![format!("charts/esta/ci/{scenario}-values.yaml")];
        Self { values, replace: Vec::new(), claims: folder.join("claims"), pods: folder.join("pods") }
    }

    /// With values in a file, given as `--instead` or `--values`.
    pub fn add_file(&mut self, option: &str, path: &Path) {
        self.values.extend([option.to_owned(), path.to_string_lossy().into_owned()]);
    }

    /// With a value as `--set` takes it.
    pub fn set(&mut self, value: &str) {
        self.values.extend(["--set".to_owned(), value.to_owned()]);
    }

    /// Begins to ask; several can be asked for at once.
    pub fn ask(&self, which: &Which) -> anyhow::Result<Asked> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = self.pods.join(format!("{}-{}-{}", which.kind, which.index, which.suffix));
        let mut command = Command::new(repository.join("scripts/chart-rendered.sh"));
        command.current_dir(repository).args(&self.values);
        command.args(["--index", &which.index.to_string(), "--suffix", &which.suffix, "--node", &which.node]);
        command.args(["--pod-ip", &which.ip.to_string()]).arg("--root").arg(root).arg("--claims").arg(&self.claims);
        for (old, new) in &self.replace {
            command.args(["--replace", &format!("{old}={new}")]);
        }
        // Nobody else's address is listened on.
        command.args(["--replace", &format!("0.0.0.0={}", which.ip)]);
        let script = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Ok(Asked { script: script.context("starting scripts/chart-rendered.sh")?, kind: which.kind })
    }

    /// Asks while nobody else does who might still have to bring the tools: the first question of a test.
    pub fn ask_alone(&self, which: &Which) -> anyhow::Result<Workload> {
        let script = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/chart-rendered.sh"))?;
        script.lock()?;
        self.ask(which)?.answer()
    }
}

impl Asked {
    pub fn answer(self) -> anyhow::Result<Workload> {
        let output = self.script.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the chart does not render: {said}");
        let found: Vec<Workload> = serde_json::from_slice(&output.stdout).context("reading what the chart starts")?;
        found.into_iter().find(|workload| workload.kind == self.kind).context("the chart starts no such workload")
    }
}
