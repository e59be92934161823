//! A run's record as commands read it from the run's folder (HANDS).

use std::{path::Path, sync::Arc};

use esta_engine::{
    law::Law,
    run::{Ledger, Recovered},
    spec::JobSpec,
};

use crate::{
    failure::Failure,
    store::{self, RECORD_FILE, StoreAddress, StoreError},
};

/// A record that no coordinator has open: whole, from the first step.
pub(super) struct Recorded {
    /// The job it was made for.
    pub law: Arc<Law>,
    /// What is in it.
    pub recovered: Recovered,
}

impl Recorded {
    /// Reads it.
    pub async fn open(run_dir: Option<&Path>, store: Option<&StoreAddress>) -> Result<Self, Failure> {
        let file = run_dir.map(|run_dir| StoreAddress::Redb(run_dir.join(RECORD_FILE)));
        let Some(address) = store.or(file.as_ref()) else {
            return Err(Failure::Other("no record is named".to_owned()));
        };
        let (meta, recovered) = store::read(address).await?;
        let damaged = |what: String| StoreError::Damaged { place: format!("the record of {}", meta.run_id), what };
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
