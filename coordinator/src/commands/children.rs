//! Worker processes of `run` (HANDS): started beside the coordinator, listened to, ended by their own handles.

use std::{
    collections::VecDeque,
    env, fmt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use esta_client::{Devices, ENVIRONMENT};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// How long children that were told to stop may take to leave by themselves.
const FAREWELL: Duration = Duration::from_secs(10);

/// Worker processes that are still alive, and a queue of those that left.
pub(super) struct Crew {
    alive: u32,
    gone: mpsc::UnboundedReceiver<Gone>,
    keepers: Vec<JoinHandle<()>>,
    end: CancellationToken,
}

/// Whether the children know that the run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The coordinator told them.
    Told,
    /// They look for a coordinator that is gone.
    Untold,
}

/// A child that left.
#[derive(Debug)]
pub(super) struct Gone {
    name: String,
    status: std::io::Result<ExitStatus>,
    /// The last line on its standard error that says why.
    last_word: Option<String>,
}

impl Crew {
    /// Starts this many workers for the coordinator at `url`, each on a CUDA device of its own where such are named.
    pub fn start(url: &str, count: u32, devices: Option<&[String]>) -> Result<Self, Failure> {
        let program = program();
        let (leave, gone) = mpsc::unbounded_channel();
        let end = CancellationToken::new();
        let mut crew = Self { alive: 0, gone, keepers: Vec::new(), end };
        for index in 0..count {
            let name = format!("worker-{index}");
            let device = devices.map(|devices| devices[index as usize].as_str());
            let spawned = command(&program, url, &name, device).spawn();
            let child = spawned.map_err(|source| Failure::Worker { program: program.clone(), source })?;
            crew.alive += 1;
            crew.keepers.push(tokio::spawn(keep(name, child, leave.clone(), crew.end.clone())));
        }
        Ok(crew)
    }

    /// The next child that leaves; `None` when all have.
    pub async fn next_gone(&mut self) -> Option<Gone> {
        let gone = self.gone.recv().await?;
        self.alive -= 1;
        Some(gone)
    }

    /// Whether every child has left.
    pub fn is_empty(&self) -> bool {
        self.alive == 0
    }

    /// Ends every child at once; what they say about it is not passed on.
    pub fn end(&self) {
        self.end.cancel();
    }

    async fn all_gone(&mut self) {
        while !self.is_empty() && self.next_gone().await.is_some() {}
    }

    /// Lets the children leave by themselves if the run's end told them to, and ends those that do not.
    pub async fn dismiss(mut self, farewell: Farewell) {
        if farewell == Farewell::Told && timeout(FAREWELL, self.all_gone()).await.is_err() {
            tracing::warn!("workers that did not leave are ended");
        }
        self.end();
        for keeper in self.keepers {
            keeper.await.ok();
        }
    }
}

/// The worker's program: `ESTA_WORKER`, or the one beside this one.
fn program() -> PathBuf {
    if let Some(program) = env::var_os("ESTA_WORKER") {
        return program.into();
    }
    let beside = env::current_exe().ok().and_then(|own| own.parent().map(|folder| folder.join("esta-worker")));
    beside.unwrap_or_else(|| "esta-worker".into())
}

/// A worker, on a CUDA device of its own where one is named.
fn command(program: &Path, url: &str, name: &str, device: Option<&str>) -> Command {
    let mut command = Command::new(program);
    command.args(["train", "--coordinator", url, "--name", name]);
    if let Some(device) = device {
        command.args(["--device", "cuda"]).env(Devices::VARIABLE, device);
    }
    // What this process shows other coordinators is not for its own children, which reach it on this machine.
    for variable in ENVIRONMENT {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The child that speaks for all of them of what each finds when it loads the job.
const SPEAKER: &str = "worker-0";

/// The target of what a worker says of its job before it trains: what it will need, what its texts hold.
const SETUP: &str = "esta::setup";

/// Watches over one child until it leaves or is ended.
async fn keep(name: String, mut child: Child, leave: mpsc::UnboundedSender<Gone>, end: CancellationToken) {
    let words = Arc::new(Mutex::new(VecDeque::new()));
    let listener = child
        .stderr
        .take()
        .map(|stderr| tokio::spawn(end.clone().run_until_cancelled_owned(listen(name.clone(), stderr, words.clone()))));
    let status = tokio::select! {
        status = child.wait() => status,
        () = end.cancelled() => {
            child.start_kill().ok();
            child.wait().await
        }
    };
    if let Some(listener) = listener {
        listener.await.ok();
    }
    let last_word = words.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
    leave.send(Gone { name, status, last_word }).ok();
}

/// A line of a child that is passed on.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// A warning, an error, or what is no log line.
    Trouble(String),
    /// What the job is to a worker, and whether that is worth a warning.
    Setup { warns: bool, word: String },
}

/// Passes on what matters of a child's standard error, and remembers the last trouble.
async fn listen(name: String, stderr: impl AsyncRead + Unpin, words: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let word = match what_matters(&line) {
            Some(Heard::Trouble(word)) => word,
            Some(Heard::Setup { warns, word }) if name == SPEAKER => {
                match warns {
                    true => tracing::warn!("{word}"),
                    false => tracing::info!("{word}"),
                }
                continue;
            }
            Some(Heard::Setup { .. }) | None => continue,
        };
        tracing::warn!(worker = name, "{word}");
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.clear();
        words.push_back(word);
    }
}

/// A log line matters from `WARN` on, and where it tells of the job; anything that is no log line does.
fn what_matters(line: &str) -> Option<Heard> {
    let Ok(Value::Object(event)) = serde_json::from_str(line) else {
        return (!line.trim().is_empty()).then(|| Heard::Trouble(line.trim_end().to_owned()));
    };
    let said = |key: &str| event.get(key).and_then(Value::as_str);
    let (warns, of_setup) = (matches!(said("level"), Some("WARN" | "ERROR")), said("target") == Some(SETUP));
    if !warns && !of_setup {
        return None;
    }
    let known = ["message", "level", "timestamp", "target", "span"];
    let shown = event.iter().filter(|(key, _)| !known.contains(&key.as_str()));
    let message = said("message").unwrap_or(line).to_owned();
    let word = shown.fold(message, |text, (key, value)| format!("{text} {key}={value}"));
    Some(if of_setup { Heard::Setup { warns, word } } else { Heard::Trouble(word) })
}

impl Gone {
    /// A child that leaves in peace is not worth a warning; why another did was passed on when it said so.
    pub fn log(&self) {
        match &self.status {
            Ok(status) if status.success() => tracing::debug!(worker = self.name, "a worker has left"),
            _ => tracing::warn!("{}", self.end()),
        }
    }

    fn end(&self) -> String {
        let Self { name, status, .. } = self;
        match status {
            Ok(status) => match status.code() {
                Some(code) => format!("{name} exited with code {code}"),
                None => format!("{name} ended by {status}"),
            },
            Err(error) => format!("{name} cannot be waited for: {error}"),
        }
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.end())?;
        self.last_word.as_ref().map_or(Ok(()), |word| write!(f, " ({word})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_matter_pass() {
        assert_eq!(what_matters(r#"{"level":"INFO","message":"step"}"#), None);
        let warning = r#"{"level":"WARN","message":"slow","rank":2,"target":"x","span":{"name":"step"}}"#;
        let trouble = |word: &str| Some(Heard::Trouble(word.to_owned()));
        assert_eq!(what_matters(warning), trouble("slow rank=2"));
        assert_eq!(what_matters("esta-worker: no weights"), trouble("esta-worker: no weights"));
        assert_eq!(what_matters("  "), None);
    }

    #[test]
    fn what_a_worker_finds_in_its_job_passes_at_every_level() {
        let line = |level: &str| format!(r#"{{"level":"{level}","message":"2 texts","target":"esta::setup"}}"#);
        let setup = |warns| Some(Heard::Setup { warns, word: "2 texts".to_owned() });
        assert_eq!([what_matters(&line("INFO")), what_matters(&line("WARN"))], [setup(false), setup(true)]);
    }
}
