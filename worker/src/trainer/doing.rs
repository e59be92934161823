//! What the trainer is at (HANDS), said by its thread and read by the session's heartbeats.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use esta_engine::run::{Activity, Progress};

/// One trainer's activity; clones share it.
#[derive(Debug, Clone)]
pub struct Doing(Arc<Mutex<(Activity, Instant)>>);

impl Default for Doing {
    fn default() -> Self {
        Self(Arc::new(Mutex::new((Activity::Idle, Instant::now()))))
    }
}

impl Doing {
    /// The trainer begins something else.
    pub fn begin(&self, activity: Activity) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (activity, Instant::now());
    }

    /// What it is at, and for how long.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let (activity, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Progress { activity, since: since.elapsed() }
    }
}
