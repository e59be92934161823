//! What a worker's trainer is at (LAW), as it says with every sign of life.

use std::time::Duration;

use esta_proto::{SlotId, Step};

/// What a worker's trainer is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// At what.
    pub activity: Activity,
    /// For how long.
    pub since: Duration,
}

/// What a trainer can be at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activity {
    /// Waiting for work.
    #[default]
    Idle,
    /// Building a process group, or taking over a state.
    Forming,
    /// Waiting for the images of a slot.
    Batch(Step, SlotId),
    /// Forward and backward of a slot.
    Compute(Step, SlotId),
    /// In the all-reduce: waiting for its peers is no fault of its own.
    Reduce(Step),
    /// Digest and optimizer.
    Apply(Step),
    /// Writing a checkpoint, or the results, which take what they take.
    Writing,
}

impl Activity {
    /// In a word, as `status` and the page say it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Forming => "forming",
            Self::Batch(..) => "batch",
            Self::Compute(..) => "compute",
            Self::Reduce(_) => "reduce",
            Self::Apply(_) => "apply",
            Self::Writing => "writing",
        }
    }

    /// The step it is part of.
    #[must_use]
    pub fn step(self) -> Option<Step> {
        match self {
            Self::Batch(step, _) | Self::Compute(step, _) | Self::Reduce(step) | Self::Apply(step) => Some(step),
            Self::Idle | Self::Forming | Self::Writing => None,
        }
    }

    /// In words, as whoever is lost or ended is told of it.
    pub(super) fn in_words(self) -> String {
        match self {
            Self::Idle => "waiting for work".to_owned(),
            Self::Writing => "writing".to_owned(),
            Self::Forming => "building a process group".to_owned(),
            Self::Reduce(step) => format!("in the all-reduce of step {step}"),
            Self::Batch(step, slot) => format!("waiting for the images of step {step} slot {slot}"),
            Self::Apply(step) => format!("applying step {step}"),
            Self::Compute(step, slot) => format!("computing step {step} slot {slot}"),
        }
    }
}
