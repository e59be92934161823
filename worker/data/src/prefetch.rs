//! Batches prepared ahead on threads of their own (HANDS).

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::error::DataError;
use crate::loader::Loader;
use crate::samples::Batch;

type Prepared = Result<Batch, DataError>;

/// Batches per thread that may lie ready or be in preparation with nobody waiting for them.
const AHEAD_PER_THREAD: usize = 4;

/// Loader threads over one training set, working in the order of the requests. Dropping it ends them after the batches
/// they are at; tickets still open then say [`DataError::Stopped`].
pub struct Prefetcher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// A batch asked for. It may be waited for on any thread; dropping it gives the batch up and frees its place.
#[must_use = "a dropped ticket gives its batch up"]
pub struct BatchTicket {
    shared: Arc<Shared>,
    id: u64,
}

impl Prefetcher {
    /// Starts `threads` loader threads, at least one.
    ///
    /// # Errors
    /// What the system said when it gave no thread.
    pub fn start(loader: &Loader, threads: u32) -> std::io::Result<Self> {
        let loader = loader.clone();
        Self::start_with(move |counters| loader.batch(counters), threads)
    }

    fn start_with(
        prepare: impl Fn(Range<u64>) -> Prepared + Send + Sync + 'static,
        threads: u32,
    ) -> std::io::Result<Self> {
        let prepare = Arc::new(prepare);
        let threads = threads.max(1);
        let mut prefetcher = Self { shared: Arc::new(Shared::new(threads)), threads: Vec::new() };
        for number in 0..threads {
            let (shared, prepare) = (Arc::clone(&prefetcher.shared), Arc::clone(&prepare));
            let thread = std::thread::Builder::new().name(format!("loader-{number}"));
            prefetcher.threads.push(thread.spawn(move || shared.serve(&*prepare))?);
        }
        Ok(prefetcher)
    }

    /// Asks for the batch of these counters. Never blocks: what lies beyond the bound waits for its turn unprepared.
    pub fn request(&self, counters: Range<u64>) -> BatchTicket {
        let id = self.shared.lock().enter(counters);
        self.shared.work.notify_one();
        BatchTicket { shared: Arc::clone(&self.shared), id }
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        self.shared.ready.notify_all();
        for thread in self.threads.drain(..) {
            // Panics were delivered as errors of their batches.
            drop(thread.join());
        }
    }
}

impl BatchTicket {
    /// The batch, as soon as it is prepared. It goes before all that nobody waits for, so tickets may be waited for in
    /// any order.
    ///
    /// # Errors
    /// What went wrong with this batch, or [`DataError::Stopped`].
    pub fn wait(self) -> Result<Batch, DataError> {
        let mut state = self.shared.lock();
        loop {
            let closed = state.closed;
            let request = state.requests.get_mut(&self.id).expect("a ticket's request stays until the ticket drops");
            request.wanted = true;
            match std::mem::replace(&mut request.progress, Progress::Running) {
                Progress::Ready(prepared) => return prepared,
                Progress::Waiting if closed => return Err(DataError::Stopped),
                progress => request.progress = progress,
            }
            self.shared.work.notify_one();
            state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for BatchTicket {
    fn drop(&mut self) {
        self.shared.lock().requests.remove(&self.id);
        self.shared.work.notify_one();
    }
}

impl std::fmt::Debug for BatchTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchTicket").field("id", &self.id).finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    /// A thread may have something to do, or to stop for.
    work: Condvar,
    /// A batch may be ready.
    ready: Condvar,
    /// Batches in preparation or ready with nobody waiting for them, at most.
    ahead: usize,
}

impl Shared {
    fn new(threads: u32) -> Self {
        let ahead = threads as usize * AHEAD_PER_THREAD;
        Self { state: Mutex::default(), work: Condvar::new(), ready: Condvar::new(), ahead }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, prepare: &dyn Fn(Range<u64>) -> Prepared) {
        while let Some((id, counters)) = self.next_job() {
            let caught = catch_unwind(AssertUnwindSafe(|| prepare(counters.clone())));
            self.deliver(id, caught.unwrap_or(Err(DataError::Panicked { counters })));
        }
    }

    /// The request to work at; none when closed.
    fn next_job(&self) -> Option<(u64, Range<u64>)> {
        let mut state = self.lock();
        while !state.closed {
            if let Some(job) = state.begin(self.ahead) {
                return Some(job);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn deliver(&self, id: u64, prepared: Prepared) {
        // A request whose ticket was dropped is gone.
        if let Some(request) = self.lock().requests.get_mut(&id) {
            request.progress = Progress::Ready(prepared);
            self.ready.notify_all();
        }
    }
}

#[derive(Default)]
struct State {
    /// By ticket, so in the order they came.
    requests: BTreeMap<u64, Request>,
    entered: u64,
    closed: bool,
}

struct Request {
    counters: Range<u64>,
    progress: Progress,
    wanted: bool,
}

enum Progress {
    Waiting,
    Running,
    Ready(Prepared),
}

impl State {
    fn enter(&mut self, counters: Range<u64>) -> u64 {
        let id = self.entered;
        self.entered += 1;
        self.requests.insert(id, Request { counters, progress: Progress::Waiting, wanted: false });
        id
    }

    /// Takes up a request somebody waits for, or else the oldest one if the bound allows.
    fn begin(&mut self, ahead: usize) -> Option<(u64, Range<u64>)> {
        let waiting = |request: &Request| matches!(request.progress, Progress::Waiting);
        let taken_up = self.requests.values().filter(|request| !request.wanted && !waiting(request)).count();
        let bound = taken_up < ahead;
        let wanted = self.requests.iter().find(|(_, request)| request.wanted && waiting(request));
        let next = wanted.or_else(|| self.requests.iter().find(|(_, request)| bound && waiting(request)));
        let id = *next?.0;
        let request = self.requests.get_mut(&id)?;
        request.progress = Progress::Running;
        Some((id, request.counters.clone()))
    }
}

#[cfg(test)]
mod tests;
