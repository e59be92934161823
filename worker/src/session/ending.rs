//! How a worker's part in a run ends (HANDS).

use std::{io, time::Duration};

use thiserror::Error;

use super::link::LinkError;
use crate::trainer::SetupError;

/// Why a worker could not take part.
#[derive(Debug, Error)]
pub enum SessionError {
    /// Nobody answered within the budget.
    #[error("no coordinator could be reached within {budget:?}")]
    Unreachable {
        /// The budget.
        budget: Duration,
        /// The last attempt.
        source: LinkError,
    },
    /// A coordinator answered and refused.
    #[error("the coordinator turned this worker away")]
    Refused(#[source] LinkError),
    /// The job's files do not load.
    #[error("the job cannot be set up on this worker")]
    Setup(#[from] SetupError),
    /// After a reconnect another job is served there.
    #[error("the coordinator serves another job than the one this worker has joined")]
    OtherJob,
    /// After a reconnect another run is served there, of the same job.
    #[error("the coordinator leads the run {found} now, and this worker is part of {joined}: start it again")]
    OtherRun {
        /// The worker's.
        joined: String,
        /// The coordinator's.
        found: String,
    },
    /// Nobody could ask this worker to leave.
    #[error("the end of standard input cannot be heard")]
    Deaf(#[source] io::Error),
    /// The trainer thread is gone.
    #[error("the trainer stopped without a word")]
    TrainerGone,
}

/// How a worker's part in a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Why, in one line.
    pub reason: String,
    /// Exit code of the process.
    pub exit_code: i32,
    /// It was asked to leave, and the run is not complete.
    pub drained: bool,
}

impl Ended {
    /// There is nothing left to take part in.
    pub(super) fn complete() -> Self {
        Self { reason: "the run is complete".to_owned(), exit_code: 0, drained: false }
    }

    /// It was asked to leave before it took part.
    pub(super) fn unneeded() -> Self {
        Self { reason: "asked to leave before it took part".to_owned(), exit_code: 0, drained: true }
    }
}
