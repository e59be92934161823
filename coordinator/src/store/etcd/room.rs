//! What fits into etcd (HANDS): it takes requests of 1.5 MiB, and a step or a generation is one value.

use esta_engine::{
    run::StepRecord,
    sampler::{Draw, Reason},
    spec::JobSpec,
    table::Outcome,
};
use esta_proto::{BudgetId, Digest, Generation, Step, StitchId};
use thiserror::Error;

use super::Etcd;
use crate::store::{StoreError, codec};

/// Bytes of one transaction and of one page: etcd takes 1.5 MiB, and a client 4 MiB, by default.
pub(super) const BYTES: usize = 1 << 20;
/// Bytes of a value that has a transaction for itself: 1.5 MiB without what stands around it, names of keys above all.
const VALUE: usize = (3 << 19) - (16 << 10);

/// Something that etcd does not take.
#[derive(Debug, PartialEq, Eq, Error)]
enum Misfit {
    #[error(
        "its {slots} slots take up to {bytes} bytes, and etcd takes {VALUE} at once: let sampling.slots be {most} at most, or \
         keep the record in a file, --store redb:PATH"
    )]
    Step { slots: u32, bytes: usize, most: usize },
    #[error(
        "the names of its {workers} workers take {bytes} bytes, and etcd takes {VALUE} at once: give them shorter ones with \
         --name, or keep the record in a file, --store redb:PATH"
    )]
    Generation { workers: usize, bytes: usize },
}

impl Etcd {
    /// Refuses a job whose steps may be more than etcd takes: the first of them would end the run.
    pub(super) fn fits(&self, spec_json: &str) -> Result<(), StoreError> {
        let spec: JobSpec = serde_json::from_str(spec_json).map_err(|error| self.failed("keep this job on", error))?;
        step(spec.sampling.slots).map_err(|misfit| self.failed("keep a step of this job on", misfit))
    }

    /// A generation's value: its number, and its workers by rank.
    pub(super) fn generation(&self, generation: Generation, names: &[String]) -> Result<Vec<u8>, StoreError> {
        let text = serde_json::to_vec(&(generation.0, names)).map_err(|error| self.damaged(error.to_string()))?;
        let misfit = Misfit::Generation { workers: names.len(), bytes: text.len() };
        if text.len() > VALUE { Err(self.failed("keep a generation of workers on", misfit)) } else { Ok(text) }
    }
}

/// Whether a step of so many slots fits, whatever its numbers are.
fn step(slots: u32) -> Result<(), Misfit> {
    let none = codec::encode(&largest(0)).len();
    let each = codec::encode(&largest(1)).len() - none;
    let bytes = none + slots as usize * each;
    if bytes > VALUE { Err(Misfit::Step { slots, bytes, most: (VALUE - none) / each }) } else { Ok(()) }
}

/// A step none of whose numbers could take more bytes.
fn largest(slots: usize) -> StepRecord {
    let (stitch, budget) = (StitchId(u32::MAX), BudgetId(u32::MAX));
    let draw = Draw { stitch, budget, probability: f64::NAN, reason: Reason::Importance };
    let outcome = Outcome { score: f64::NAN, loss: f64::NAN, grad_norm: f64::NAN, valid: true };
    StepRecord {
        step: Step(u64::MAX),
        table_version: Step(u64::MAX),
        draws: vec![draw; slots],
        outcomes: vec![outcome; slots],
        reduced: Digest([255; 32]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_that_of_a_whole_step_and_the_slots_it_names_fit() {
        let Err(Misfit::Step { slots: 65_536, bytes, most }) = step(65_536) else { panic!("65,536 slots fit") };
        assert_eq!(bytes, codec::encode(&largest(65_536)).len());
        assert!((28_000..29_000).contains(&most), "{most}");
        let most = u32::try_from(most).expect("few");
        assert_eq!((step(most), step(1)), (Ok(()), Ok(())));
        assert!(step(most + 1).is_err());
    }
}
