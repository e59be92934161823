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
use tch::{Device, Tensor};
use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender};

use super::{DeviceKind, TrainerOptions, in_one_line};
use crate::session::{SessionStore, StoreCall};

/// Builds a worker's groups and keeps the one that was prepared last.
#[derive(Clone)]
pub struct Builder {
    options: TrainerOptions,
    /// Limit on building a group, and on each of its collectives.
    timeout: Duration,
    /// Whether the ranks of a node need a group of their own.
    by_node: bool,
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
    Built(Fence, Groups),
}

/// What a generation reduces and broadcasts in.
pub struct Groups {
    /// All ranks.
    pub all: ProcessGroup,
    /// Those of this node, where they share its blocks.
    pub node: Option<ProcessGroup>,
}

impl Groups {
    /// Leaves both without waiting for anybody.
    pub fn abandon(self) {
        self.all.abandon();
        if let Some(node) = self.node {
            node.abandon();
        }
    }
}

impl Builder {
    /// A builder for a process of these options.
    #[must_use]
    pub fn new(
        options: TrainerOptions,
        (timeout, by_node): (Duration, bool),
        calls: UnboundedSender<StoreCall>,
        events: &UnboundedSender<TrainerEvent>,
    ) -> Self {
        Self { options, timeout, by_node, calls, events: events.downgrade(), side: Arc::default() }
    }

    /// Limit on a collective.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Builds the groups of a generation; blocks meanwhile. The fence is that of whoever serves the rendezvous.
    ///
    /// # Errors
    /// [`C10dError`] when a peer does not come or cannot be reached in time.
    pub fn build(&self, fence: Fence, seat: Seat) -> Result<Groups, C10dError> {
        let store = SessionStore::new(fence, self.calls.clone(), self.timeout);
        let all = self.group(store, (seat.rank.0, seat.world))?;
        if !self.by_node {
            return Ok(Groups { all, node: None });
        }
        let named = node_number(&self.options.node);
        let nodes = self.nodes(&all, named)?;
        let peers = |nodes: &[i64]| nodes.iter().filter(|node| **node == named).count() as u32;
        let place = (peers(&nodes[..seat.rank.index()]), peers(&nodes));
        let store = SessionStore::new(fence, self.calls.clone(), self.timeout).under(&format!("node {named:016x}"));
        Ok(Groups { node: Some(self.group(store, place)?), all })
    }

    fn group(&self, store: SessionStore, (rank, world): (u32, u32)) -> Result<ProcessGroup, C10dError> {
        let config = GroupConfig {
            backend: match self.options.device {
                DeviceKind::Cpu => Backend::Gloo,
                DeviceKind::Cuda => Backend::Nccl,
            },
            rank,
            world,
            timeout: self.timeout,
            host: self.options.host.clone().map(Host::Hostname),
        };
        ProcessGroup::new(&config, Arc::new(store))
    }

    /// By rank: the number of its node.
    fn nodes(&self, all: &ProcessGroup, named: i64) -> Result<Vec<i64>, C10dError> {
        let mut nodes = vec![0_i64; all.world() as usize];
        nodes[all.rank() as usize] = named;
        let device = match self.options.device {
            DeviceKind::Cpu => Device::Cpu,
            DeviceKind::Cuda => Device::Cuda(0),
        };
        let sum = Tensor::from_slice(&nodes).to_device(device);
        // The group's own limit ends this, with an error that says who is missing.
        all.all_reduce_sum(&sum)?.finish(2 * self.timeout)?;
        Ok(Vec::try_from(sum.to_device(Device::Cpu)).expect("integers become integers"))
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

    fn keep(&self, fence: Fence, group: Groups) {
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
    pub fn take(&self, fence: Fence) -> Option<Groups> {
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

/// A node's name as a number that no other name has.
fn node_number(name: &str) -> i64 {
    let digest = blake3::hash(name.as_bytes());
    i64::from_le_bytes(digest.as_bytes()[..8].try_into().expect("a digest has eight bytes"))
}
