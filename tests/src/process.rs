//! A child process with its output on record: ended by its id when the test ends, whatever happens.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// How long a test waits for a condition before it fails: far more than any healthy run needs.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// A program of this workspace: beside the test's own executable, one folder up from `deps`.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/<profile>/deps");
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not built: run `cargo build --workspace` first", path.display());
    path
}

/// Looks every few milliseconds until `found` answers.
///
/// # Errors
/// When [`PATIENCE`] runs out first; `what` says what was waited for.
pub fn deadline<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(value) = found() {
            return Ok(value);
        }
        thread::park_timeout(Duration::from_millis(5));
    }
    bail!("waited {PATIENCE:?} in vain for {what}")
}

impl Process {
    /// Starts a program of this workspace; its standard error goes to a file in `folder`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(folder: &Path, name: &str, program: &str, args: &[&str]) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let stderr = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(binary(program))
            .args(args)
            .stdin(Stdio::null())
            .stdout(File::options().create(true).append(true).open(folder.join(format!("{name}.out")))?)
            .stderr(stderr)
            .env("RUST_LOG", "info")
            .env_remove("RUST_BACKTRACE")
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// What it has written to standard error.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time; its log is in the error.
    pub fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        let child = &mut self.child;
        let status = deadline(&format!("the end of {}", self.name), || child.try_wait().ok().flatten());
        status.with_context(|| format!("log of {}:\n{}", self.name, self.log()))
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
