//! A [`Store`] inside one process, for tests and for groups of threads (room: HANDS).

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::store::{Store, StoreError};

type Entries = BTreeMap<String, Vec<u8>>;

/// An in-process [`Store`].
#[derive(Default)]
pub struct MemoryStore {
    entries: Mutex<Entries>,
    changed: Condvar,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    // A poisoned lock is taken over: no method leaves the map half changed.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, entries: &mut Entries, key: &str, value: Vec<u8>) {
        entries.insert(key.to_owned(), value);
        self.changed.notify_all();
    }

    fn wait_for(&self, keys: &[&str], timeout: Duration) -> Result<MutexGuard<'_, Entries>, StoreError> {
        let missing = |entries: &Entries| keys.iter().copied().find(|key| !entries.contains_key(*key));
        let (entries, _) = self
            .changed
            .wait_timeout_while(self.entries(), timeout, |entries| missing(entries).is_some())
            .unwrap_or_else(PoisonError::into_inner);
        match missing(&entries) {
            Some(key) => Err(StoreError::TimedOut { key: key.to_owned(), waited: timeout }),
            None => Ok(entries),
        }
    }
}

impl Store for MemoryStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.insert(&mut self.entries(), key, value.to_vec());
        Ok(())
    }

    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, StoreError> {
        self.wait_for(&[key], timeout).map(|entries| entries[key].clone())
    }

    fn add(&self, key: &str, amount: i64) -> Result<i64, StoreError> {
        let mut entries = self.entries();
        let sum = entries.get(key).map_or(Ok(0), |value| counter(key, value))? + amount;
        self.insert(&mut entries, key, sum.to_string().into_bytes());
        Ok(sum)
    }

    fn wait(&self, keys: &[String], timeout: Duration) -> Result<(), StoreError> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.wait_for(&keys, timeout).map(drop)
    }

    fn check(&self, keys: &[String]) -> Result<bool, StoreError> {
        let entries = self.entries();
        Ok(keys.iter().all(|key| entries.contains_key(key)))
    }

    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut entries = self.entries();
        match entries.get(key) {
            Some(current) if current != expected => return Ok(current.clone()),
            None if !expected.is_empty() => return Ok(expected.to_vec()),
            _ => self.insert(&mut entries, key, desired.to_vec()),
        }
        Ok(desired.to_vec())
    }

    fn delete(&self, key: &str) -> Result<bool, StoreError> {
        Ok(self.entries().remove(key).is_some())
    }
}

fn counter(key: &str, value: &[u8]) -> Result<i64, StoreError> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok()).ok_or_else(|| StoreError::Failed(format!("{key:?} is not a counter")))
}
