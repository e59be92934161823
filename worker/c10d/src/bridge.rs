//! The cxx bridge to the shim, and the store as libtorch's threads call it (room: HANDS).
//!
//! The NCCL functions are declared in every build; without the feature `cuda` a stand-in answers them with an error. So
//! all Rust code is compiled and checked whether or not the CUDA headers are at hand.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cxx::{CxxString, CxxVector};

use crate::store::{Store, StoreError};

#[cxx::bridge(namespace = "esta_c10d")]
pub(crate) mod ffi {
    /// This process's place in the group.
    struct Seat {
        rank: i32,
        world: i32,
        timeout_ms: i64,
        /// CUDA device index; unused by Gloo.
        device: i32,
    }

    #[derive(Debug)]
    enum Phase {
        Running,
        Finished,
        Failed,
    }

    /// What a glance at a pending collective shows; `reason` is empty unless it failed.
    #[derive(Debug)]
    struct Look {
        phase: Phase,
        reason: String,
    }

    extern "Rust" {
        type StoreBridge;
        fn set(&self, key: &CxxString, value: &[u8]) -> Result<()>;
        fn get(&self, key: &CxxString, timeout_ms: i64) -> Result<Vec<u8>>;
        fn add(&self, key: &CxxString, amount: i64) -> Result<i64>;
        fn wait(&self, keys: &CxxVector<CxxString>, timeout_ms: i64) -> Result<()>;
        fn check(&self, keys: &CxxVector<CxxString>) -> Result<bool>;
        fn compare_set(&self, key: &CxxString, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>>;
        fn remove(&self, key: &CxxString) -> Result<bool>;
    }

    unsafe extern "C++" {
        include!("shim.h");
        type Tensor;
        type Group;
        type Pending;
        fn form_gloo(
            seat: &Seat,
            interfaces: &[String],
            hostname: &str,
            store: Box<StoreBridge>,
        ) -> Result<SharedPtr<Group>>;
        fn form_nccl(seat: &Seat, store: Box<StoreBridge>) -> Result<SharedPtr<Group>>;
        fn current_cuda_device() -> Result<i32>;
        fn free_cuda_memory() -> Result<u64>;
        fn used_cuda_memory() -> Result<u64>;
        fn be_reproducible_on_cuda();
        fn torch_version() -> String;
        fn all_reduce_sum(self: &Group, tensor: &Tensor) -> Result<UniquePtr<Pending>>;
        fn broadcast(self: &Group, tensor: &Tensor, root: i64) -> Result<UniquePtr<Pending>>;
        fn barrier(self: &Group) -> Result<UniquePtr<Pending>>;
        fn abort(self: &Group) -> Result<()>;
        fn look(self: &Pending) -> Look;
    }
}

// SAFETY: the shim issues collectives under a lock, and c10d's backends may be used and destroyed on any thread.
unsafe impl Send for ffi::Group {}
// SAFETY: as above.
unsafe impl Sync for ffi::Group {}
// SAFETY: c10d's Work guards its state with a mutex, and the tensor's count of references is atomic.
unsafe impl Send for ffi::Pending {}

/// A [`Store`] as libtorch sees it. Remembers the first failure, which libtorch would pass on as text only.
pub(crate) struct StoreBridge {
    store: Arc<dyn Store>,
    first_failure: FirstFailure,
}

/// The first error of a store that served one group's rendezvous.
#[derive(Clone, Default)]
pub(crate) struct FirstFailure(Arc<Mutex<Option<StoreError>>>);

impl FirstFailure {
    pub(crate) fn take(&self) -> Option<StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn remember(&self, error: &StoreError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
    }
}

impl StoreBridge {
    pub(crate) fn new(store: Arc<dyn Store>) -> (Box<Self>, FirstFailure) {
        let first_failure = FirstFailure::default();
        (Box::new(Self { store, first_failure: first_failure.clone() }), first_failure)
    }

    /// Runs one call of the store; a panic in it becomes an error here, because it must not unwind into C++.
    fn call<T>(&self, call: impl FnOnce(&dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let result = catch_unwind(AssertUnwindSafe(|| call(self.store.as_ref())))
            .unwrap_or_else(|panic| Err(StoreError::Failed(format!("the store panicked: {}", panic_text(&*panic)))));
        if let Err(error) = &result {
            self.first_failure.remember(error);
        }
        result
    }

    fn set(&self, key: &CxxString, value: &[u8]) -> Result<(), StoreError> {
        self.call(|store| store.set(&key.to_string_lossy(), value))
    }

    fn get(&self, key: &CxxString, timeout_ms: i64) -> Result<Vec<u8>, StoreError> {
        self.call(|store| store.get(&key.to_string_lossy(), milliseconds(timeout_ms)))
    }

    fn add(&self, key: &CxxString, amount: i64) -> Result<i64, StoreError> {
        self.call(|store| store.add(&key.to_string_lossy(), amount))
    }

    fn wait(&self, keys: &CxxVector<CxxString>, timeout_ms: i64) -> Result<(), StoreError> {
        self.call(|store| store.wait(&owned(keys), milliseconds(timeout_ms)))
    }

    fn check(&self, keys: &CxxVector<CxxString>) -> Result<bool, StoreError> {
        self.call(|store| store.check(&owned(keys)))
    }

    fn compare_set(&self, key: &CxxString, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.call(|store| store.compare_set(&key.to_string_lossy(), expected, desired))
    }

    fn remove(&self, key: &CxxString) -> Result<bool, StoreError> {
        self.call(|store| store.delete(&key.to_string_lossy()))
    }
}

fn owned(keys: &CxxVector<CxxString>) -> Vec<String> {
    keys.iter().map(|key| key.to_string_lossy().into_owned()).collect()
}

fn milliseconds(count: i64) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(0))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
