//! All-reduce of a step's buffer between two ranks of this process, over Gloo on loopback.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use esta_c10d::{Backend, C10dError, GroupConfig, Host, MemoryStore, ProcessGroup, Store};
use tch::Tensor;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Milliseconds of each of `count` all-reduces, as rank 0 sees them.
pub fn milliseconds(buffer: &Tensor, count: u64) -> Result<Vec<f64>, C10dError> {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let copies = [buffer.copy(), buffer.copy()];
    thread::scope(|scope| {
        let ranks: Vec<_> = (0..)
            .zip(copies)
            .map(|(rank, copy)| {
                let store = store.clone();
                scope.spawn(move || run_rank(rank, store, &copy, count))
            })
            .collect();
        let results: Result<Vec<Vec<f64>>, C10dError> =
            ranks.into_iter().map(|rank| rank.join().expect("a rank returns its error")).collect();
        Ok(results?.swap_remove(0))
    })
}

fn run_rank(rank: u32, store: Arc<dyn Store>, buffer: &Tensor, count: u64) -> Result<Vec<f64>, C10dError> {
    let host = Some(Host::Hostname("127.0.0.1".to_owned()));
    let config = GroupConfig { backend: Backend::Gloo, rank, world: 2, timeout: TIMEOUT, host };
    let group = ProcessGroup::new(&config, store)?;
    let one = || {
        let begin = Instant::now();
        group.all_reduce_sum(buffer)?.wait_until(begin + TIMEOUT, &|| false)?;
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    };
    (0..count).map(|_| one()).collect()
}
