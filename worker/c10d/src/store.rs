//! The rendezvous store, served by the caller: what c10d asks of it, and its errors (room: HANDS).

use std::sync::Arc;
use std::time::Duration;

/// Why a store could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A key did not appear in time.
    #[error("key {key:?} was not set within {waited:?}")]
    TimedOut {
        /// The first key that was missing.
        key: String,
        /// How long the caller was prepared to wait.
        waited: Duration,
    },
    /// The store itself failed: its connection, or a value of the wrong form.
    #[error("{0}")]
    Failed(String),
}

/// A key-value store that all ranks of a group share while they find each other.
///
/// Calls block, and arrive on libtorch's own threads as well as on the one that forms the group. An error ends the
/// rendezvous; a panic counts as one. Groups that use one store at different times need different prefixes
/// ([`PrefixStore`]).
pub trait Store: Send + Sync {
    /// Sets `key`, replacing what was there.
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// The value of `key`, once it is set.
    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, StoreError>;

    /// Adds to a counter that starts at zero and returns its new value. The counter is kept as decimal text.
    fn add(&self, key: &str, amount: i64) -> Result<i64, StoreError>;

    /// Returns once every key is set.
    fn wait(&self, keys: &[String], timeout: Duration) -> Result<(), StoreError>;

    /// Whether every key is set.
    fn check(&self, keys: &[String]) -> Result<bool, StoreError>;

    /// Sets `key` to `desired` if its value is `expected`, or if it is unset and `expected` is empty. Returns the value
    /// afterwards; for an unset key that stays unset, `expected`.
    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>, StoreError>;

    /// Removes `key`; whether there was one.
    fn delete(&self, key: &str) -> Result<bool, StoreError>;
}

/// Another store, seen through a prefix of its keys: a fresh one per generation keeps groups apart.
pub struct PrefixStore {
    prefix: String,
    inner: Arc<dyn Store>,
}

impl PrefixStore {
    /// Every key becomes `<prefix>/<key>` in `inner`.
    pub fn new(prefix: impl Into<String>, inner: Arc<dyn Store>) -> Self {
        Self { prefix: prefix.into(), inner }
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.prefix)
    }

    fn keys(&self, keys: &[String]) -> Vec<String> {
        keys.iter().map(|key| self.key(key)).collect()
    }
}

impl Store for PrefixStore {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.inner.set(&self.key(key), value)
    }

    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, StoreError> {
        self.inner.get(&self.key(key), timeout)
    }

    fn add(&self, key: &str, amount: i64) -> Result<i64, StoreError> {
        self.inner.add(&self.key(key), amount)
    }

    fn wait(&self, keys: &[String], timeout: Duration) -> Result<(), StoreError> {
        self.inner.wait(&self.keys(keys), timeout)
    }

    fn check(&self, keys: &[String]) -> Result<bool, StoreError> {
        self.inner.check(&self.keys(keys))
    }

    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.inner.compare_set(&self.key(key), expected, desired)
    }

    fn delete(&self, key: &str) -> Result<bool, StoreError> {
        self.inner.delete(&self.key(key))
    }
}
