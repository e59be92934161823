//! Builds process groups (HANDS): of the generation that begins, or beside the steps of the current one for a generation
//! to come.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use esta_c10d::{Backend, C10dError, GroupConfig, Host, ProcessGroup};
use esta_engine::run::Seat;
use esta_proto::Fence;
use esta_worker_engine::TrainerEvent;
use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender};

use super::{DeviceKind, TrainerOptions, in_one_line};
use crate::session::{SessionStore, StoreCall};

/// Builds a worker's groups and keeps the one that was prepared last.
#[derive(Clone)]
pub struct Builder {
    options: TrainerOptions,
    /// Limit on building a group, and on each of its collectives.
    timeout: Duration,
    /// The way to the rendezvous store.
    calls: UnboundedSender<StoreCall>,
    /// The way to the worker's law; whether the trainer lives is told by those that hold it for good.
    events: WeakUnboundedSender<TrainerEvent>,
    side: Arc<Mutex<Side>>,
}

/// The group of a generation to come.
#[derive(Default)]
enum Side {
    /// Nobody wants one.
    #[default]
    Idle,
    /// It is being built.
    Wanted(Fence),
    /// It stands.
    Built(Fence, ProcessGroup),
}

impl Builder {
    /// A builder for a process of these options.
    #[must_use]
    pub fn new(
        options: TrainerOptions,
        timeout: Duration,
        calls: UnboundedSender<StoreCall>,
        events: &UnboundedSender<TrainerEvent>,
    ) -> Self {
        Self { options, timeout, calls, events: events.downgrade(), side: Arc::default() }
    }

    /// Limit on a collective.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Builds a group; blocks meanwhile. The fence is that of whoever serves the rendezvous.
    ///
    /// # Errors
    /// [`C10dError`] when a peer does not come or cannot be reached in time.
    pub fn build(&self, fence: Fence, seat: Seat) -> Result<ProcessGroup, C10dError> {
        let config = GroupConfig {
            backend: match self.options.device {
                DeviceKind::Cpu => Backend::Gloo,
                DeviceKind::Cuda => Backend::Nccl,
            },
            rank: seat.rank.0,
            world: seat.world,
            timeout: self.timeout,
            host: self.options.host.clone().map(Host::Hostname),
        };
        ProcessGroup::new(&config, Arc::new(SessionStore::new(fence, self.calls.clone(), self.timeout)))
    }

    /// Builds a group to come on a thread of its own, in place of any other that was prepared, and says what became of it.
    pub fn prepare(&self, fence: Fence, seat: Seat) {
        self.put(Side::Wanted(fence));
        let builder = self.clone();
        let thread = std::thread::Builder::new().name("next-group".to_owned());
        let begun = thread.spawn(move || match builder.build(fence, seat) {
            Ok(group) => builder.keep(fence, group),
            Err(error) => builder.say(TrainerEvent::NotPrepared(fence, in_one_line(&error))),
        });
        if let Err(error) = begun {
            self.say(TrainerEvent::NotPrepared(fence, format!("no thread to build a process group on: {error}")));
        }
    }

    fn keep(&self, fence: Fence, group: ProcessGroup) {
        let mut side = self.side();
        if !matches!(*side, Side::Wanted(wanted) if wanted == fence) {
            return group.abandon();
        }
        *side = Side::Built(fence, group);
        drop(side);
        self.say(TrainerEvent::Prepared(fence));
    }

    /// Hands over the group that was prepared under this fence; any other is given up.
    #[must_use]
    pub fn take(&self, fence: Fence) -> Option<ProcessGroup> {
        match mem::take(&mut *self.side()) {
            Side::Built(built, group) if built == fence => Some(group),
            Side::Built(_, group) => {
                group.abandon();
                None
            }
            Side::Idle | Side::Wanted(_) => None,
        }
    }

    /// Gives up what was prepared.
    pub fn clear(&self) {
        self.put(Side::Idle);
    }

    fn put(&self, side: Side) {
        if let Side::Built(_, group) = mem::replace(&mut *self.side(), side) {
            group.abandon();
        }
    }

    fn side(&self) -> MutexGuard<'_, Side> {
        self.side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, event: TrainerEvent) {
        // A worker that is at its end wants no news.
        self.events.upgrade().map(|events| events.send(event).ok());
    }
}
