//! Stores that fail on purpose.

use std::process;
use std::sync::Arc;
use std::time::Duration;

use esta_c10d::{Store, StoreError};

/// Ends the process right after a key has been set.
pub struct DiesOnceSet(pub Arc<dyn Store>);

impl Store for DiesOnceSet {
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.0.set(key, value)?;
        process::abort()
    }

    fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, StoreError> {
        self.0.get(key, timeout)
    }

    fn add(&self, key: &str, amount: i64) -> Result<i64, StoreError> {
        self.0.add(key, amount)
    }

    fn wait(&self, keys: &[String], timeout: Duration) -> Result<(), StoreError> {
        self.0.wait(keys, timeout)
    }

    fn check(&self, keys: &[String]) -> Result<bool, StoreError> {
        self.0.check(keys)
    }

    fn compare_set(&self, key: &str, expected: &[u8], desired: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.0.compare_set(key, expected, desired)
    }

    fn delete(&self, key: &str) -> Result<bool, StoreError> {
        self.0.delete(key)
    }
}
