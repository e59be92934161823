//! Safe Rust over libtorch's own process groups, Gloo and NCCL (room: HANDS; names nothing else of this workspace).
//!
//! A [`ProcessGroup`] is formed through a [`Store`] that the caller serves, so no rendezvous server runs in a worker. Its
//! collectives return a [`Work`] that is polled: nobody ever has to block on a peer. A dead peer is an error of the
//! collective; a silent one leaves it pending until the group's time-out, and the group can be abandoned at once for a new
//! one under a fresh prefix ([`PrefixStore`]). What libtorch can only tear down by waiting is left to a background thread.
//!
//! Environment variables of libtorch (`GLOO_SOCKET_IFNAME`, `NCCL_*`, `TORCH_NCCL_*`) keep their meaning.

mod bridge;
mod error;
mod group;
mod memory;
mod reaper;
mod store;
mod work;

pub use error::{C10dError, Cause, Operation};
pub use group::{Backend, GroupConfig, Host, ProcessGroup};
pub use memory::MemoryStore;
pub use store::{PrefixStore, Store, StoreError};
pub use work::{Outcome, Progress, Work};

/// Version of the libtorch this was built for, such as `2.11.0`.
#[must_use]
pub fn torch_version() -> String {
    bridge::ffi::torch_version()
}

/// Holds the CUDA operators of this process to the same bits for the same operands, where `CUBLAS_WORKSPACE_CONFIG` is
/// `:4096:8` or `:16:8`; without it libtorch then refuses products of matrices. Single precision is computed in single
/// precision throughout. For good, and to be called before the first operator.
pub fn be_reproducible_on_cuda() {
    bridge::ffi::be_reproducible_on_cuda();
}

/// Bytes that the current CUDA device has free; none without one.
#[must_use]
pub fn free_cuda_memory() -> Option<u64> {
    bridge::ffi::free_cuda_memory().ok()
}

/// Bytes in use on the current CUDA device, by whatever process; none without one.
#[must_use]
pub fn used_cuda_memory() -> Option<u64> {
    bridge::ffi::used_cuda_memory().ok()
}
