//! A child process with its output on record: ended by its id when the test ends, whatever happens.

use std::{
    cell::Cell,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};

/// How long a test waits for a condition before it fails: far more than any healthy run needs.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Bytes that earlier processes of this name have written to standard output.
    before: usize,
    /// It was sent `STOP`: nobody who asks it anything is answered.
    stopped: Cell<bool>,
}

/// A program of this workspace: beside the own executable, or one folder up from a test's `deps`.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows its own path");
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not beside {}: run `cargo build --workspace` first", own.display()))
}

/// Looks every few milliseconds until `found` answers.
///
/// # Errors
/// When [`PATIENCE`] runs out first; `what` says what was waited for.
pub fn deadline<T>(what: &str, found: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    within(PATIENCE, what, found)
}

/// The same for what may take longer.
///
/// # Errors
/// When the patience runs out first.
pub fn within<T>(patience: Duration, what: &str, found: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    looking(Duration::from_millis(5), patience, what, found)
}

/// The same, looking this often.
///
/// # Errors
/// When the patience runs out first.
pub(crate) fn looking<T>(
    every: Duration,
    patience: Duration,
    what: &str,
    mut found: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Some(value) = found() {
            return Ok(value);
        }
        thread::park_timeout(every);
    }
    bail!("waited {patience:?} in vain for {what}")
}

impl Process {
    /// Starts a program of this workspace; what it says goes to files in `folder`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(folder: &Path, name: &str, program: &str, args: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(binary(program));
        Self::spawn(folder, name, command.args(args))
    }

    /// Starts it where no file can grow beyond this many bytes: every longer write fails, as on a full disk.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_on_full_disk(
        folder: &Path,
        name: &str,
        program: &str,
        args: &[&str],
        most: u64,
    ) -> anyhow::Result<Self> {
        // The limit counts blocks of 512 bytes. Ignored, its signal leaves the failed write to the program.
        let script = r#"trap '' XFSZ; ulimit -f "$0"; exec "$@""#;
        let mut command = Command::new("sh");
        Self::spawn(
            folder,
            name,
            command.args(["-c", script, &(most / 512).to_string()]).arg(binary(program)).args(args),
        )
    }

    /// Starts any program; what it says goes to files in `folder`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn spawn(folder: &Path, name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let open = |kind: &str| File::options().create(true).append(true).open(folder.join(format!("{name}.{kind}")));
        if !command.get_envs().any(|(name, _)| name == "RUST_LOG") {
            command.env("RUST_LOG", "info");
        }
        let (out, log) = (open("out")?, open("log")?);
        let before = usize::try_from(out.metadata()?.len())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log)
            .env_remove("RUST_BACKTRACE")
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let (log, stopped) = (folder.join(format!("{name}.log")), Cell::new(false));
        Ok(Self { name: name.to_owned(), child, log, before, stopped })
    }

    /// What it has written to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it has written to standard output.
    #[must_use]
    pub fn out(&self) -> String {
        let all = std::fs::read_to_string(self.log.with_extension("out")).unwrap_or_default();
        all.get(self.before..).unwrap_or_default().to_owned()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time; its log is in the error.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.wait_for(PATIENCE)
    }

    /// Waits this long for its end.
    ///
    /// # Errors
    /// When it does not end in time; its log is in the error.
    pub fn wait_for(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let child = &mut self.child;
        let status = within(patience, &format!("the end of {}", self.name), || child.try_wait().ok().flatten());
        status.with_context(|| format!("log of {}:\n{}", self.name, self.log()))
    }

    /// Waits for its end, which has to be a failure with this exit code, and answers the one line that says why.
    ///
    /// # Errors
    /// When it ends otherwise, or its last line is not the program's own; its log is in the error.
    pub fn fails_with(&mut self, code: i32) -> anyhow::Result<String> {
        let (status, log) = (self.wait()?, self.log());
        ensure!(status.code() == Some(code), "{} ended with {status}, not with code {code}:\n{log}", self.name);
        let last = log.lines().last().filter(|line| line.starts_with("esta-"));
        last.map(str::to_owned).with_context(|| format!("{} does not say why at its end:\n{log}", self.name))
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether it was stopped and has not been told to go on.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Sends it a signal by name, such as `STOP`.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: &str) -> anyhow::Result<()> {
        let status = Command::new("kill").args([format!("-{signal}"), self.id().to_string()]).status()?;
        ensure!(status.success(), "{} cannot be sent SIG{signal}: {status}", self.name);
        match signal {
            "STOP" => self.stopped.set(true),
            "CONT" => self.stopped.set(false),
            _ => {}
        }
        Ok(())
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processes that it started and that live, by id.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn children(&self) -> anyhow::Result<Vec<u32>> {
        let (parent, mut children) = (self.id().to_string(), Vec::new());
        for entry in std::fs::read_dir("/proc")? {
            // A process that ends meanwhile has no status to read.
            let Ok(status) = std::fs::read_to_string(entry?.path().join("stat")) else { continue };
            // Its name, in brackets, may hold anything; state and parent follow.
            let Some((id, rest)) = status.split_once(" (").and_then(|(id, rest)| Some((id, rest.rsplit_once(") ")?.1)))
            else {
                continue;
            };
            let mut fields = rest.split(' ');
            if fields.next() != Some("Z") && fields.next() == Some(&parent) {
                children.push(id.parse()?);
            }
        }
        children.sort_unstable();
        Ok(children)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
