//! How the program fails (HANDS): every failure is one line with its causes and an exit code that means something.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | something failed that no other code names |
//! | 2 | the command line is wrong |
//! | 3 | the job's configuration is wrong |
//! | 4 | the run's record cannot be kept or read |
//! | 5 | the run cannot go on: ranks disagree, or its record does not replay |
//! | 6 | an address is in use, or no coordinator answers |
//! | 7 | every worker is gone before the run was complete |
//! | 8 | a certificate or token is unusable, or refused |
//! | 130 | interrupted; the same command resumes |

use std::{error::Error, io, net::SocketAddr, path::PathBuf, process::ExitCode};

use esta_client::{DialError, TooFewDevices};
use esta_config::ConfigError;
use esta_objects::ObjectsError;
use thiserror::Error;

use crate::{
    coordinator::StartError, leader::Ending, report::ReportError, rpc::BindError, security::FileError,
    store::StoreError,
};

/// Why a command failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The record cannot be kept or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record does not replay, or the law ended the run.
    #[error("the run cannot go on: {0}")]
    Diverged(String),
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The page's address cannot be listened on.
    #[error(transparent)]
    Exposure(#[from] esta_telemetry::http::ServeError),
    /// Others would read and change what is said.
    #[error(
        "{listen} is reached from other machines: give --tls-cert and --tls-key, or --plain-text where nobody else can \
         read or change what is said"
    )]
    PlainText {
        /// Where it was to listen.
        listen: SocketAddr,
    },
    /// Certificates, keys or tokens cannot be used.
    #[error(transparent)]
    Protection(#[from] FileError),
    /// No connection to a coordinator.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// A coordinator does not let this program do what it wants.
    #[error("the coordinator at {url} refuses: {why}")]
    Denied {
        /// Where it is.
        url: String,
        /// Its reason.
        why: String,
    },
    /// No coordinator answers, or it refuses.
    #[error("the coordinator at {url} does not answer: {why}")]
    Call {
        /// Where it was looked for.
        url: String,
        /// What came back.
        why: String,
    },
    /// Nobody is left to train.
    #[error("every worker is gone and the run is not complete: {0}")]
    Workers(String),
    /// Fewer devices are visible than workers are wanted.
    #[error(transparent)]
    Devices(#[from] TooFewDevices),
    /// The worker program cannot be started.
    #[error("cannot start {}; build it, or name it in ESTA_WORKER", program.display())]
    Worker {
        /// The program.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The files of the run cannot be written.
    #[error("cannot write the files of the run in {}", run_dir.display())]
    Artifacts {
        /// The run's folder.
        run_dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The files of the run do not go to object storage, or come from it.
    #[error("the run's files in object storage")]
    Kept(#[from] ObjectsError),
    /// The report cannot be written.
    #[error("cannot write the report")]
    Report(#[from] ReportError),
    /// Somebody stopped the coordinator.
    #[error("interrupted; the same command resumes the run")]
    Interrupted,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Kept(ObjectsError::Place(_)) => 3,
            Self::Kept(_) | Self::Worker { .. } | Self::Artifacts { .. } | Self::Report(_) | Self::Other(_) => 1,
            Self::PlainText { .. } | Self::Devices(_) => 2,
            Self::Config(_) => 3,
            Self::Store(_) => 4,
            Self::Diverged(_) => 5,
            Self::Bind(_) | Self::Exposure(_) | Self::Call { .. } => 6,
            Self::Workers(_) => 7,
            Self::Dial(error) if !error.is_about_trust() => 6,
            Self::Dial(_) | Self::Protection(_) | Self::Denied { .. } => 8,
            Self::Interrupted => 130,
        })
    }

    /// One line: the failure and its causes.
    #[must_use]
    pub fn line(&self) -> String {
        let causes = std::iter::successors(self.source(), |&cause| cause.source());
        causes.fold(self.to_string(), |line, cause| {
            let cause = cause.to_string();
            // Some libraries repeat their cause in their own text.
            if line.ends_with(&cause) { line } else { format!("{line}: {cause}") }
        })
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Store(error) => Self::Store(error),
            StartError::Bind(error) => Self::Bind(error),
            StartError::Replay(error) => Self::Diverged(error.to_string()),
            StartError::Thread(error) => Self::Other(format!("cannot start a thread for the record: {error}")),
        }
    }
}

impl Ending {
    /// A run that did not complete is a failure.
    ///
    /// # Errors
    /// [`Failure`] for every other ending.
    pub fn into_result(self) -> Result<(), Failure> {
        match self {
            Self::Complete => Ok(()),
            Self::Failed(reason) => Err(Failure::Diverged(reason)),
            Self::Store(error) => Err(Failure::Store(error)),
            Self::Stopped => Err(Failure::Interrupted),
            Self::Broken(reason) => Err(Failure::Other(reason)),
            Self::Deposed => Err(Failure::Other("this coordinator leads no more; another one does".to_owned())),
        }
    }
}
