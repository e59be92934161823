//! Groups of threads inside one process: forming them, refusing what cannot work, failing stores.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use esta_c10d::{
    Backend, C10dError, Cause, GroupConfig, Host, MemoryStore, Operation, Outcome, PrefixStore, ProcessGroup, Progress,
    Store, StoreError, Work,
};
use tch::{Kind, Tensor};

fn config(rank: u32, world: u32) -> GroupConfig {
    GroupConfig {
        backend: Backend::Gloo,
        rank,
        world,
        timeout: Duration::from_secs(20),
        host: Some(Host::Hostname("127.0.0.1".to_owned())),
    }
}

fn finish(mut work: Work) -> Result<(), C10dError> {
    let deadline = Instant::now() + Duration::from_secs(30);
    work.wait_until(deadline, &|| false).map(|outcome| assert_eq!(outcome, Outcome::Done))
}

/// Runs one thread per rank on a store of their own; results in rank order.
fn on_ranks<T: Send>(world: u32, run: impl Fn(ProcessGroup) -> T + Sync) -> Vec<T> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    thread::scope(|scope| {
        let join = |rank| {
            let (store, run) = (store.clone(), &run);
            scope.spawn(move || run(ProcessGroup::new(&config(rank, world), store).unwrap()))
        };
        let threads: Vec<_> = (0..world).map(join).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// A store whose every call fails as it is told to.
struct Broken(fn() -> StoreError);

impl Store for Broken {
    fn set(&self, _: &str, _: &[u8]) -> Result<(), StoreError> {
        Err((self.0)())
    }
    fn get(&self, _: &str, _: Duration) -> Result<Vec<u8>, StoreError> {
        Err((self.0)())
    }
    fn add(&self, _: &str, _: i64) -> Result<i64, StoreError> {
        Err((self.0)())
    }
    fn wait(&self, _: &[String], _: Duration) -> Result<(), StoreError> {
        Err((self.0)())
    }
    fn check(&self, _: &[String]) -> Result<bool, StoreError> {
        Err((self.0)())
    }
    fn compare_set(&self, _: &str, _: &[u8], _: &[u8]) -> Result<Vec<u8>, StoreError> {
        Err((self.0)())
    }
    fn delete(&self, _: &str) -> Result<bool, StoreError> {
        Err((self.0)())
    }
}

#[test]
fn a_world_of_one_needs_no_store() {
    let store = Arc::new(Broken(|| StoreError::Failed("nobody may ask".to_owned())));
    let group = ProcessGroup::new(&config(0, 1), store).unwrap();
    assert_eq!((group.rank(), group.world()), (0, 1));
    let tensor = Tensor::from_slice(&[1i64, -2, i64::MAX]);
    let mut work = group.all_reduce_sum(&tensor).unwrap();
    assert_eq!(work.poll(), Ok(Progress::Done));
    finish(group.broadcast(&tensor, 0).unwrap()).unwrap();
    finish(group.barrier().unwrap()).unwrap();
    assert_eq!(Vec::<i64>::try_from(&tensor).unwrap(), [1, -2, i64::MAX]);
    group.abandon();
}

#[test]
fn two_ranks_sum_every_type_of_number() {
    on_ranks(2, |group| {
        for kind in [Kind::Int64, Kind::Float, Kind::Double] {
            let tensor = Tensor::from(i64::from(group.rank()) + 1).to_kind(kind).repeat([3]);
            finish(group.all_reduce_sum(&tensor).unwrap()).unwrap();
            assert_eq!(tensor, Tensor::from(3i64).to_kind(kind).repeat([3]), "{kind:?}");
        }
    });
}

#[test]
fn integer_sums_are_exact_to_the_last_bit() {
    let big = (1i64 << 62) - 1;
    let sums = on_ranks(2, |group| {
        let tensor = Tensor::from_slice(&[big, -big, i64::from(group.rank())]);
        finish(group.all_reduce_sum(&tensor).unwrap()).unwrap();
        Vec::<i64>::try_from(&tensor).unwrap()
    });
    assert_eq!(sums, [[2 * big, -2 * big, 1], [2 * big, -2 * big, 1]]);
}

#[test]
fn a_work_keeps_its_tensor_alive() {
    on_ranks(2, |group| {
        let view = Tensor::ones([1 << 18], (Kind::Int64, tch::Device::Cpu));
        let work = group.all_reduce_sum(&view.shallow_clone()).unwrap();
        finish(work).unwrap();
        assert_eq!(view.sum(Kind::Int64), Tensor::from(2i64 << 18));
        // Not waited for at all: the background thread keeps the buffer until libtorch is done with it.
        drop(group.all_reduce_sum(&Tensor::ones([1 << 18], (Kind::Float, tch::Device::Cpu))).unwrap());
        finish(group.barrier().unwrap()).unwrap();
    });
}

#[test]
fn unfit_tensors_are_refused_before_any_traffic() {
    let group = ProcessGroup::new(&config(0, 1), Arc::new(MemoryStore::new())).unwrap();
    let refused = |tensor: &Tensor, says: &str| match group.all_reduce_sum(tensor).err() {
        Some(C10dError::Tensor { operation: Operation::AllReduceSum, reason }) => {
            assert!(reason.contains(says), "{reason}")
        }
        other => panic!("{other:?}"),
    };
    refused(&Tensor::zeros([2], (Kind::Bool, tch::Device::Cpu)), "Bool");
    refused(&Tensor::zeros([2], (Kind::BFloat16, tch::Device::Cpu)), "BFloat16");
    refused(&Tensor::zeros([2, 3], (Kind::Float, tch::Device::Cpu)).tr(), "[3, 2] is not contiguous");
    refused(&Tensor::new(), "undefined");
    assert!(matches!(group.broadcast(&Tensor::from(1i64), 1), Err(C10dError::Config(_))));
}

#[test]
fn what_describes_no_group_is_refused() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    for (rank, world) in [(0, 0), (2, 2)] {
        let error = ProcessGroup::new(&config(rank, world), store.clone()).err().unwrap();
        assert_eq!(error, C10dError::Config(format!("rank {rank} in a world of {world}")));
    }
    let unhurried = GroupConfig { timeout: Duration::ZERO, ..config(0, 2) };
    assert!(matches!(ProcessGroup::new(&unhurried, store), Err(C10dError::Config(_))));
}

#[test]
fn a_failing_store_is_the_error_of_the_group() {
    let error = StoreError::Failed("the session is gone".to_owned());
    let broken = Arc::new(Broken(|| StoreError::Failed("the session is gone".to_owned())));
    let found = ProcessGroup::new(&config(1, 2), broken).err().unwrap();
    assert_eq!(found, C10dError::Store { backend: Backend::Gloo, rank: 1, world: 2, error });
    assert_eq!(found.to_string(), "Gloo group not formed on rank 1 of 2: its store failed");
}

#[test]
fn a_panicking_store_is_an_error_too() {
    let broken = Arc::new(Broken(|| panic!("a bug in the store")));
    match ProcessGroup::new(&config(0, 2), broken).err() {
        Some(C10dError::Store { error: StoreError::Failed(text), .. }) => assert!(text.contains("a bug in the store")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_that_never_comes_is_a_time_out() {
    let timeout = Duration::from_millis(300);
    let begun = Instant::now();
    let hasty = GroupConfig { timeout, ..config(0, 2) };
    let error = ProcessGroup::new(&hasty, Arc::new(MemoryStore::new())).err().unwrap();
    let took = begun.elapsed();
    match &error {
        C10dError::Store { error: StoreError::TimedOut { waited, .. }, .. } => assert_eq!(*waited, timeout),
        C10dError::Form { cause: Cause::TimedOut, .. } => {}
        other => panic!("{other:?}"),
    }
    assert!(took >= timeout && took < timeout * 10, "{took:?}: {error}");
}

#[test]
fn an_unknown_host_is_an_error() {
    let lost = GroupConfig { host: Some(Host::Interface("no-such-if".to_owned())), ..config(0, 2) };
    match ProcessGroup::new(&lost, Arc::new(MemoryStore::new())).err() {
        Some(C10dError::Form { cause: Cause::Other, reason, .. }) => assert!(reason.contains("no-such-if"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nccl_without_its_feature_or_a_device_is_an_error() {
    let config = GroupConfig { backend: Backend::Nccl, timeout: Duration::from_secs(5), ..config(0, 2) };
    let error = ProcessGroup::new(&config, Arc::new(MemoryStore::new())).err().unwrap();
    assert!(error.to_string().starts_with("NCCL group not formed on rank 0 of 2: "), "{error}");
}

#[test]
fn generations_share_a_store_through_prefixes() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    for generation in 0..3i64 {
        let sum = |rank| {
            let store = Arc::new(PrefixStore::new(format!("generation/{generation}"), store.clone()));
            move || {
                let group = ProcessGroup::new(&config(rank, 2), store).unwrap();
                let tensor = Tensor::from(generation);
                finish(group.all_reduce_sum(&tensor).unwrap()).unwrap();
                i64::try_from(&tensor).unwrap()
            }
        };
        let (first, second) = (thread::spawn(sum(0)), thread::spawn(sum(1)));
        assert_eq!([first.join().unwrap(), second.join().unwrap()], [2 * generation; 2]);
    }
}

#[test]
fn a_collective_that_a_peer_never_joins_times_out() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let timeout = Duration::from_millis(400);
    let join = |rank| {
        let store = store.clone();
        move || ProcessGroup::new(&GroupConfig { timeout, ..config(rank, 2) }, store).unwrap()
    };
    let silent = thread::spawn(join(1));
    let group = join(0)();
    let silent = silent.join().unwrap();
    finish_both(&group, &silent);
    let error = finish(group.barrier().unwrap()).unwrap_err();
    match &error {
        C10dError::Collective { operation: Operation::Barrier, sequence: 1, rank: 0, world: 2, cause, reason } => {
            assert_eq!(*cause, Cause::TimedOut);
            assert!(reason.contains("400ms") && !reason.contains('\n'), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().starts_with("barrier (number 1 of its group) timed out on rank 0 of 2: "), "{error}");
}

fn finish_both(one: &ProcessGroup, other: &ProcessGroup) {
    let works = [one, other].map(|group| group.barrier().unwrap());
    works.into_iter().for_each(|work| finish(work).unwrap());
}

#[test]
fn a_work_that_takes_longer_than_its_limit_is_an_error() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let join = |rank| {
        let store = store.clone();
        move || ProcessGroup::new(&config(rank, 2), store).unwrap()
    };
    let silent = thread::spawn(join(1));
    let group = join(0)();
    let silent = silent.join().unwrap();
    let late = group.barrier().unwrap();
    let error = late.finish(Duration::from_millis(5)).unwrap_err().to_string();
    assert_eq!(error, "barrier (number 0 of its group) timed out on rank 0 of 2: not done within 5ms");
    group.abandon();
    silent.abandon();
}
