//! One process's end of a group: forming it, its collectives, leaving it (room: HANDS).

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use cxx::{SharedPtr, UniquePtr};
use tch::{Device, Kind, Tensor};

use crate::bridge::{FirstFailure, StoreBridge, ffi};
use crate::error::{C10dError, Cause, Operation, read_libtorch};
use crate::reaper::{self, Abandoned};
use crate::store::{Store, StoreError};
use crate::work::{Ticket, Work};

/// How much longer than its time-out forming a group may take, so that a store that times out says so itself.
const STORE_FIRST: Duration = Duration::from_millis(100);

/// The engine that moves the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// TCP between CPU tensors.
    Gloo,
    /// NVIDIA's collectives between CUDA tensors, one device per rank; needs the feature `cuda`. An error of the CUDA device
    /// itself (not of a peer) still ends the process, from libtorch's watchdog, unless `TORCH_NCCL_RETHROW_CUDA_ERRORS=0`.
    Nccl,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gloo => "Gloo",
            Self::Nccl => "NCCL",
        })
    }
}

/// Where Gloo listens for its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// The address of a network interface, such as `eth0`.
    Interface(String),
    /// A name or address of this machine, such as `127.0.0.1`.
    Hostname(String),
}

/// How to form a group. All ranks give the same backend and world, each its own rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// The engine. An NCCL group uses the CUDA device that is current on the thread that forms it.
    pub backend: Backend,
    /// This process, below `world`.
    pub rank: u32,
    /// Number of processes. A world of one needs neither peers nor store.
    pub world: u32,
    /// Limit on forming the group, and on each collective.
    pub timeout: Duration,
    /// Gloo's address. `None` takes the interfaces named in `GLOO_SOCKET_IFNAME`, else this machine's hostname, or the
    /// loopback address where that does not resolve.
    pub host: Option<Host>,
}

impl GroupConfig {
    fn check(&self) -> Result<(), C10dError> {
        if self.rank >= self.world {
            return Err(C10dError::Config(format!("rank {} in a world of {}", self.rank, self.world)));
        }
        if self.timeout < Duration::from_millis(1) {
            return Err(C10dError::Config(format!("a time-out of {:?}", self.timeout)));
        }
        Ok(())
    }

    fn seat(&self) -> Result<ffi::Seat, C10dError> {
        let device = match self.backend {
            Backend::Gloo => 0,
            Backend::Nccl => {
                ffi::current_cuda_device().map_err(|exception| self.refused(read_libtorch(exception.what())))?
            }
        };
        let small =
            |number: u32| i32::try_from(number).map_err(|_| C10dError::Config(format!("{number} is too large")));
        Ok(ffi::Seat {
            rank: small(self.rank)?,
            world: small(self.world)?,
            // Some weeks at most: libtorch adds it to the time of day without a check.
            timeout_ms: i64::from(i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)),
            device,
        })
    }

    /// The store's own error if it had one, else libtorch's text.
    fn not_formed(&self, text: &str, store: &FirstFailure) -> C10dError {
        store.take().map_or_else(|| self.refused(read_libtorch(text)), |error| self.not_served(error))
    }

    fn not_connected(&self, store: &FirstFailure) -> C10dError {
        let reason = format!("not connected to every peer within {:?}", self.timeout);
        store.take().map_or_else(|| self.refused((Cause::TimedOut, reason)), |error| self.not_served(error))
    }

    fn not_served(&self, error: StoreError) -> C10dError {
        let Self { backend, rank, world, .. } = *self;
        C10dError::Store { backend, rank, world, error }
    }

    fn refused(&self, (cause, reason): (Cause, String)) -> C10dError {
        let Self { backend, rank, world, .. } = *self;
        C10dError::Form { backend, rank, world, cause, reason }
    }
}

/// One rank's end of a group. Collectives must be issued in the same order on all ranks.
///
/// Dropping it leaves a Gloo group in about 20 ms, while gloo's threads end; [`abandon`](Self::abandon) does not wait for them.
/// Collectives still pending end on their own in the background. An NCCL group is always left as if it were abandoned.
pub struct ProcessGroup {
    backend: Backend,
    rank: u32,
    world: u32,
    members: Members,
    issued: AtomicU64,
}

enum Members {
    /// A world of one: every collective is done when it is issued.
    Alone,
    Several(SharedPtr<ffi::Group>),
}

impl ProcessGroup {
    /// Forms the group, or fails about `config.timeout` later if a peer does not come or cannot be reached. Blocks
    /// meanwhile. After a failure libtorch may go on asking the store for a while, on a thread of its own.
    pub fn new(config: &GroupConfig, store: Arc<dyn Store>) -> Result<Self, C10dError> {
        config.check()?;
        let members = match config.world {
            1 => Members::Alone,
            _ => Members::Several(form(config, store)?),
        };
        let GroupConfig { backend, rank, world, .. } = *config;
        Ok(Self { backend, rank, world, members, issued: AtomicU64::new(0) })
    }

    /// This process's rank.
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// Number of ranks.
    pub fn world(&self) -> u32 {
        self.world
    }

    /// Adds `tensor` up over all ranks, in place: contiguous, of `Int64`, `Float` or `Double`, of one shape on all ranks,
    /// on the CPU for Gloo and on this rank's CUDA device for NCCL. Its content is undefined until the work is done, and
    /// after a failure. Gradients are not tracked.
    pub fn all_reduce_sum(&self, tensor: &Tensor) -> Result<Work, C10dError> {
        let operation = Operation::AllReduceSum;
        self.check(operation, tensor)?;
        if !matches!(tensor.kind(), Kind::Int64 | Kind::Float | Kind::Double) {
            return Err(unfit(operation, format!("{:?} is not summed, only Int64, Float and Double", tensor.kind())));
        }
        self.issue(operation, |group| group.all_reduce_sum(raw(tensor)))
    }

    /// Copies `tensor` from rank `root` into every rank's, in place; same demands on the tensor, but any type of number.
    pub fn broadcast(&self, tensor: &Tensor, root: u32) -> Result<Work, C10dError> {
        let operation = Operation::Broadcast { root };
        self.check(operation, tensor)?;
        if root >= self.world {
            return Err(C10dError::Config(format!("broadcast from rank {root} in a world of {}", self.world)));
        }
        self.issue(operation, |group| group.broadcast(raw(tensor), i64::from(root)))
    }

    /// Done once every rank has come to its barrier.
    pub fn barrier(&self) -> Result<Work, C10dError> {
        self.issue(Operation::Barrier, ffi::Group::barrier)
    }

    /// Leaves a group whose peers may hang, without ever blocking. NCCL's collectives are aborted; Gloo has no abort, so the
    /// group and its pending collectives stay with a background thread until they time out.
    pub fn abandon(mut self) {
        self.leave();
    }

    fn leave(&mut self) {
        if let Members::Several(group) = mem::replace(&mut self.members, Members::Alone) {
            reaper::bury(Abandoned { group, pending: UniquePtr::null(), backend: self.backend });
        }
    }

    fn issue(
        &self,
        operation: Operation,
        start: impl FnOnce(&ffi::Group) -> Result<UniquePtr<ffi::Pending>, cxx::Exception>,
    ) -> Result<Work, C10dError> {
        let sequence = self.issued.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket { operation, sequence, rank: self.rank, world: self.world };
        let Members::Several(group) = &self.members else { return Ok(Work::done(ticket)) };
        match start(group) {
            Ok(pending) => {
                Ok(Work::running(ticket, Abandoned { group: group.clone(), pending, backend: self.backend }))
            }
            Err(exception) => Err(ticket.failure(exception.what())),
        }
    }

    fn check(&self, operation: Operation, tensor: &Tensor) -> Result<(), C10dError> {
        if !tensor.defined() {
            return Err(unfit(operation, "it is undefined".to_owned()));
        }
        let fits = match self.backend {
            Backend::Gloo => tensor.device() == Device::Cpu,
            Backend::Nccl => tensor.device().is_cuda(),
        };
        if !fits {
            return Err(unfit(operation, format!("{} does not move tensors on {:?}", self.backend, tensor.device())));
        }
        if !tensor.is_contiguous() {
            return Err(unfit(operation, format!("shape {:?} is not contiguous", tensor.size())));
        }
        Ok(())
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if self.backend == Backend::Nccl {
            self.leave();
        }
    }
}

fn unfit(operation: Operation, reason: String) -> C10dError {
    C10dError::Tensor { operation, reason }
}

/// The tensor as the shim sees it.
fn raw(tensor: &Tensor) -> &ffi::Tensor {
    // SAFETY: torch-sys's C_tensor is an at::Tensor, and the pointer lives as long as the tch tensor it is borrowed from.
    unsafe { &*tensor.as_ptr().cast::<ffi::Tensor>() }
}

/// Forms the group on a thread of its own, which is left behind if a peer does not come: gloo waits five time-outs for one
/// that dies while it connects, NCCL for ever.
fn form(config: &GroupConfig, store: Arc<dyn Store>) -> Result<SharedPtr<ffi::Group>, C10dError> {
    let (seat, backend, host) = (config.seat()?, config.backend, config.host.clone());
    let (store, first_failure) = StoreBridge::new(store);
    let (sender, formed) = mpsc::channel();
    let connect = move || {
        let group = match backend {
            Backend::Gloo => form_gloo(&seat, host.as_ref(), store),
            Backend::Nccl => ffi::form_nccl(&seat, store),
        };
        // Nobody receives once the time-out has passed; a group that still came about is then dropped here.
        drop(sender.send(group));
    };
    let thread = thread::Builder::new().name("c10d-connect".to_owned());
    thread
        .spawn(connect)
        .map_err(|error| config.refused((Cause::Other, format!("no thread to connect on: {error}"))))?;
    match formed.recv_timeout(config.timeout.saturating_add(STORE_FIRST)) {
        Ok(group) => group.map_err(|exception| config.not_formed(exception.what(), &first_failure)),
        Err(_) => Err(config.not_connected(&first_failure)),
    }
}

fn form_gloo(
    seat: &ffi::Seat,
    host: Option<&Host>,
    store: Box<StoreBridge>,
) -> Result<SharedPtr<ffi::Group>, cxx::Exception> {
    let (interfaces, hostname) = addresses(host);
    ffi::form_gloo(seat, &interfaces, &hostname, store)
}

/// Interfaces, or else a hostname; neither means libtorch's default.
fn addresses(host: Option<&Host>) -> (Vec<String>, String) {
    match host {
        Some(Host::Interface(name)) => (vec![name.clone()], String::new()),
        Some(Host::Hostname(name)) => (Vec::new(), name.clone()),
        None => {
            let names = std::env::var("GLOO_SOCKET_IFNAME").unwrap_or_default();
            (names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(), String::new())
        }
    }
}
