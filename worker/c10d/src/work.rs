//! A collective under way, polled to its end (room: HANDS).

use std::hint;
use std::mem;
use std::thread;
use std::time::{Duration, Instant};

use crate::bridge::ffi::Phase;
use crate::error::{C10dError, Cause, Operation, read_libtorch};
use crate::reaper::{self, Abandoned};

/// How long a wait spins before it sleeps between glances. Short, because gloo's threads may need the core: on two cores
/// shared by two peers, 200 microseconds of it doubled the time of a small all-reduce.
const SPIN: Duration = Duration::from_micros(5);
/// First and longest sleep between two glances; it doubles in between.
const SHORTEST_SLEEP: Duration = Duration::from_micros(20);
const LONGEST_SLEEP: Duration = Duration::from_micros(80);

/// What a poll found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The collective is under way.
    Pending,
    /// The collective is done and the tensor holds its result; on CUDA, for work queued on the current stream from now on.
    Done,
}

/// How a wait ended, other than by an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The collective is done.
    Done,
    /// The deadline passed first.
    DeadlinePassed,
    /// `cancelled` said so first.
    Cancelled,
}

/// A collective. Keeps its tensor alive; dropped unfinished, it is left to a background thread until libtorch lets go.
#[must_use = "a collective has happened only once its work is done"]
pub struct Work {
    ticket: Ticket,
    state: State,
}

enum State {
    Running(Abandoned),
    Ended(Result<(), C10dError>),
}

/// What identifies a collective in its errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    pub(crate) operation: Operation,
    pub(crate) sequence: u64,
    pub(crate) rank: u32,
    pub(crate) world: u32,
}

impl Ticket {
    pub(crate) fn failure(&self, text: &str) -> C10dError {
        self.error(read_libtorch(text))
    }

    fn too_late(&self, limit: Duration) -> C10dError {
        self.error((Cause::TimedOut, format!("not done within {limit:?}")))
    }

    fn error(&self, (cause, reason): (Cause, String)) -> C10dError {
        let Self { operation, sequence, rank, world } = *self;
        C10dError::Collective { operation, sequence, rank, world, cause, reason }
    }
}

impl Work {
    pub(crate) fn running(ticket: Ticket, started: Abandoned) -> Self {
        Self { ticket, state: State::Running(started) }
    }

    pub(crate) fn done(ticket: Ticket) -> Self {
        Self { ticket, state: State::Ended(Ok(())) }
    }

    /// Looks once, without blocking. A failure is reported again by every later poll.
    pub fn poll(&mut self) -> Result<Progress, C10dError> {
        if let State::Running(started) = &self.state {
            let look = started.pending.look();
            let ended = match look.phase {
                Phase::Finished => Ok(()),
                Phase::Failed => Err(self.ticket.failure(&look.reason)),
                _ => return Ok(Progress::Pending),
            };
            let failed = ended.is_err();
            if let State::Running(started) = mem::replace(&mut self.state, State::Ended(ended))
                && failed
            {
                // It may hold the last share of a group that takes long to destroy.
                reaper::bury(started);
            }
        }
        match &self.state {
            State::Ended(Err(error)) => Err(error.clone()),
            _ => Ok(Progress::Done),
        }
    }

    /// Waits until the collective is done; one that takes longer than `limit` is an error.
    pub fn finish(mut self, limit: Duration) -> Result<(), C10dError> {
        match self.wait_until(Instant::now() + limit, &|| false)? {
            Outcome::Done => Ok(()),
            Outcome::DeadlinePassed | Outcome::Cancelled => Err(self.ticket.too_late(limit)),
        }
    }

    /// Polls until the collective is done or has failed, `deadline` passes, or `cancelled` returns true. Spins for some
    /// microseconds and then sleeps between glances, so `cancelled` is asked often and must be cheap.
    pub fn wait_until(&mut self, deadline: Instant, cancelled: &dyn Fn() -> bool) -> Result<Outcome, C10dError> {
        let mut pause = Pause::new();
        loop {
            if self.poll()? == Progress::Done {
                return Ok(Outcome::Done);
            }
            if cancelled() {
                return Ok(Outcome::Cancelled);
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(Outcome::DeadlinePassed);
            }
            pause.next(now, deadline - now);
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let state = mem::replace(&mut self.state, State::Ended(Ok(())));
        if let State::Running(started) = state {
            reaper::bury(started);
        }
    }
}

/// The time between two glances: none at first, then longer and longer.
struct Pause {
    spin_until: Option<Instant>,
    sleep: Duration,
}

impl Pause {
    fn new() -> Self {
        Self { spin_until: None, sleep: SHORTEST_SLEEP }
    }

    fn next(&mut self, now: Instant, at_most: Duration) {
        if now < *self.spin_until.get_or_insert(now + SPIN) {
            return hint::spin_loop();
        }
        thread::sleep(self.sleep.min(at_most));
        self.sleep = (self.sleep * 2).min(LONGEST_SLEEP);
    }
}
