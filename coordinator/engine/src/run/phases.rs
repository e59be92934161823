//! What a rank's time goes into (LAW).

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// One value for each phase of a rank's step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases<T> {
    /// Waiting for the plan.
    pub plan: T,
    /// Waiting for batches.
    pub batch: T,
    /// Forward and backward.
    pub compute: T,
    /// All-reduce, waiting for slower ranks included.
    pub reduce: T,
    /// Digest and optimizer.
    pub apply: T,
}

impl<T: Copy> Phases<T> {
    /// The values with the names of their phases, in the order of a step.
    #[must_use]
    pub fn named(&self) -> [(&'static str, T); 5] {
        let Self { plan, batch, compute, reduce, apply } = *self;
        [("plan", plan), ("batch", batch), ("compute", compute), ("reduce", reduce), ("apply", apply)]
    }

    /// Something made of each value.
    #[must_use]
    pub fn map<U>(&self, make: impl Fn(T) -> U) -> Phases<U> {
        let [plan, batch, compute, reduce, apply] = self.named().map(|(_, value)| make(value));
        Phases { plan, batch, compute, reduce, apply }
    }
}

impl Phases<f64> {
    /// All phases together.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.named().iter().map(|(_, value)| value).sum()
    }
}

impl<T: AddAssign> AddAssign for Phases<T> {
    fn add_assign(&mut self, other: Self) {
        self.plan += other.plan;
        self.batch += other.batch;
        self.compute += other.compute;
        self.reduce += other.reduce;
        self.apply += other.apply;
    }
}
