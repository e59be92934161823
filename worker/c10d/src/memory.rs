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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::store::PrefixStore;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_get_waits_for_its_key() {
        let store = Arc::new(MemoryStore::new());
        let reader = thread::spawn({
            let store = store.clone();
            move || store.get("address", LONG)
        });
        store.set("other", b"no").unwrap();
        store.set("address", b"here").unwrap();
        assert_eq!(reader.join().unwrap(), Ok(b"here".to_vec()));
    }

    #[test]
    fn the_first_missing_key_is_named() {
        let store = MemoryStore::new();
        store.set("a", b"").unwrap();
        let keys = ["a", "b", "c"].map(str::to_owned);
        let waited = Duration::from_millis(5);
        assert_eq!(store.wait(&keys, waited), Err(StoreError::TimedOut { key: "b".to_owned(), waited }));
        assert_eq!((store.check(&keys), store.check(&keys[..1])), (Ok(false), Ok(true)));
    }

    #[test]
    fn counters_are_decimal_text() {
        let store = MemoryStore::new();
        assert_eq!((store.add("n", 5), store.add("n", -7)), (Ok(5), Ok(-2)));
        assert_eq!(store.get("n", LONG), Ok(b"-2".to_vec()));
        store.set("n", b"five").unwrap();
        assert_eq!(store.add("n", 1), Err(StoreError::Failed("\"n\" is not a counter".to_owned())));
    }

    #[test]
    fn a_value_changes_only_from_what_is_expected() {
        let store = MemoryStore::new();
        assert_eq!(store.compare_set("k", b"x", b"y"), Ok(b"x".to_vec()));
        assert_eq!(store.check(&["k".to_owned()]), Ok(false));
        assert_eq!(store.compare_set("k", b"", b"first"), Ok(b"first".to_vec()));
        assert_eq!(store.compare_set("k", b"x", b"y"), Ok(b"first".to_vec()));
        assert_eq!(store.compare_set("k", b"first", b"second"), Ok(b"second".to_vec()));
        assert_eq!((store.delete("k"), store.delete("k")), (Ok(true), Ok(false)));
    }

    #[test]
    fn a_prefix_keeps_keys_apart() {
        let inner = Arc::new(MemoryStore::new());
        let [one, two] = ["1", "2"].map(|prefix| PrefixStore::new(prefix, inner.clone()));
        one.set("k", b"one").unwrap();
        assert_eq!((two.check(&["k".to_owned()]), two.add("k", 1)), (Ok(false), Ok(1)));
        assert_eq!((one.get("k", LONG), inner.get("1/k", LONG)), (Ok(b"one".to_vec()), Ok(b"one".to_vec())));
    }
}
