//! What the tests with real processes share: a store served over loopback TCP, and peers that are this very executable.

pub mod failing_store;
pub mod peer;
pub mod tcp_store;
