//! Keeps what libtorch has not let go of, so that nobody has to wait for it (room: HANDS).
//!
//! Destroying a Gloo group waits for its pending collectives, and their buffers may be written to until then. So every
//! pending collective owns a share of its group, and an abandoned one lives here until it has ended. Aborting and destroying
//! an NCCL group takes from milliseconds to minutes, however little of it is left: each has a thread of its own for that.

use std::mem;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use cxx::{SharedPtr, UniquePtr};

use crate::bridge::ffi::{Group, Pending, Phase};
use crate::group::Backend;

/// Time between two looks at what has been abandoned.
const ROUND: Duration = Duration::from_millis(20);
/// How long a thread of its own waits for what was abandoned: longer than any time-out that libtorch keeps.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A group, and a collective of it or null for the group itself. The collective is destroyed first.
pub(crate) struct Abandoned {
    pub(crate) pending: UniquePtr<Pending>,
    pub(crate) group: SharedPtr<Group>,
    pub(crate) backend: Backend,
}

impl Abandoned {
    fn is_running(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.look().phase == Phase::Running)
    }

    /// Whole groups are aborted where that is possible; a group whose abort fails still ends by its time-out.
    fn abort(&self) {
        if self.pending.is_null()
            && let Some(group) = self.group.as_ref()
        {
            drop(group.abort());
        }
    }

    /// Waits for its end, and leaves; what does not end for long is left to the end of the process.
    fn see_off(self) {
        self.abort();
        let until = Instant::now() + PATIENCE;
        while self.is_running() {
            if Instant::now() > until {
                return mem::forget(self);
            }
            thread::sleep(ROUND);
        }
    }
}

/// Takes over; never blocks.
pub(crate) fn bury(abandoned: Abandoned) {
    match abandoned.backend {
        Backend::Gloo => to_the_reaper(abandoned),
        Backend::Nccl => alone(abandoned),
    }
}

/// A thread for this one. Without any, leaking is the only way not to wait.
fn alone(abandoned: Abandoned) {
    let (sender, only) = mpsc::channel();
    let thread = thread::Builder::new().name("c10d-reaper".to_owned());
    let started = thread.spawn(move || only.into_iter().for_each(Abandoned::see_off));
    let kept = match started {
        Ok(_) => sender.send(abandoned).err().map(|error| error.0),
        Err(_) => Some(abandoned),
    };
    mem::forget(kept);
}

/// One thread for all, which only looks at them.
fn to_the_reaper(abandoned: Abandoned) {
    static INBOX: OnceLock<Option<Sender<Abandoned>>> = OnceLock::new();
    let refused = match INBOX.get_or_init(start) {
        Some(inbox) => inbox.send(abandoned).err().map(|error| error.0),
        None => Some(abandoned),
    };
    // Without a thread to wait on, leaking is the only way not to wait.
    mem::forget(refused);
}

fn start() -> Option<Sender<Abandoned>> {
    let (sender, inbox) = mpsc::channel();
    thread::Builder::new().name("c10d-reaper".to_owned()).spawn(move || reap(&inbox)).ok().map(|_| sender)
}

fn reap(inbox: &Receiver<Abandoned>) {
    let mut kept: Vec<Abandoned> = Vec::new();
    loop {
        let wait = if kept.is_empty() { Duration::MAX } else { ROUND };
        match inbox.recv_timeout(wait) {
            Ok(abandoned) => kept.push(abandoned),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        kept.retain(Abandoned::is_running);
    }
}
