//! Placeholder.
pub mod artifacts;
