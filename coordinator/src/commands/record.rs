//! A run's record as commands read it from the run's folder (HANDS).

use std::{path::Path, sync::Arc};

use esta_engine::{
    law::Law,
    run::{Ledger, Recovered},
    spec::JobSpec,
};

use crate::{failure::Failure, store};

/// A record that no coordinator has open: whole, from the first step.
pub(super) struct Recorded {
    /// The job it was made for.
    pub law: Arc<Law>,
    /// What is in it.
    pub recovered: Recovered,
}

impl Recorded {
    /// Reads it.
    pub fn open(run_dir: &Path) -> Result<Self, Failure> {
        let (meta, recovered) = store::read_only(run_dir)?;
        let damaged = |why: String| Failure::Other(format!("the record in {} is damaged: {why}", run_dir.display()));
        let spec: JobSpec = serde_json::from_str(&meta.spec_json).map_err(|error| damaged(error.to_string()))?;
        let law = Arc::new(Law::new(spec).map_err(|error| damaged(error.to_string()))?);
        Ok(Self { law, recovered })
    }

    /// The ledger after the first `steps` steps on record: each of them is derived again.
    pub fn ledger(&self, steps: usize) -> Result<Ledger, Failure> {
        let total = self.recovered.samples.map_or(0, |samples| self.law.total_steps(samples));
        let first = self.recovered.steps[..steps].to_vec();
        Ledger::replay(self.law.clone(), total, first).map_err(|error| Failure::Diverged(error.to_string()))
    }
}
