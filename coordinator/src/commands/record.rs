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

    /// The ledger after the first `steps` steps on record, for each of these numbers, ascending: every step is derived
    /// again once.
    pub fn ledgers<const N: usize>(&self, steps: [u64; N]) -> Result<[Ledger; N], Failure> {
        let total = self.recovered.samples.map_or(0, |samples| self.law.total_steps(samples));
        let mut ledger = Ledger::new(self.law.clone(), total);
        let mut records = self.recovered.steps.iter();
        let mut found = Vec::with_capacity(N);
        for steps in steps {
            while ledger.committed().0 < steps {
                let Some(record) = records.next() else {
                    let why = format!("{steps} steps are to be on record, and {} are", ledger.committed());
                    return Err(Failure::Diverged(why));
                };
                ledger.replay_step(record.clone()).map_err(|error| Failure::Diverged(error.to_string()))?;
            }
            found.push(ledger.clone());
        }
        Ok(found.try_into().expect("one for each"))
    }
}
