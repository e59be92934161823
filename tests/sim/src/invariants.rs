//! What must hold whatever happens, one small check each, by the names of DESIGN.md.

mod dt_1;
mod end;
mod leads_alone;
mod mb_1;
mod mb_2;
pub mod rd_3;
mod serial;
mod st_1;

use thiserror::Error;

pub use self::{
    dt_1::dt_1, end::equals_the_undisturbed_run, leads_alone::leads_alone, mb_1::mb_1, mb_2::mb_2,
    serial::equals_the_serial_replay, st_1::st_1,
};

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    /// An invariant and what broke it.
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

#[cfg(test)]
#[path = "invariants_test.rs"]
mod tests;
