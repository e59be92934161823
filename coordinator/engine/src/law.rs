//! What a job specification fixes for the whole run (LAW): catalog, layout, sampler, and the digests that both ends of
//! a session compare.

use std::sync::Arc;

use esta_proto::Digest;

use crate::{
    catalog::Catalog,
    groups::GroupLayout,
    sampler::Sampler,
    spec::{JobSpec, SpecError},
};

/// A validated specification and everything that follows from it alone.
#[derive(Debug, Clone)]
pub struct Law {
    /// The specification.
    pub spec: JobSpec,
    /// All stitches.
    pub catalog: Arc<Catalog>,
    /// All parameter groups.
    pub layout: Arc<GroupLayout>,
    /// The sampler over the catalog.
    pub sampler: Sampler,
    /// Digest of the layout: a worker whose own differs would reduce other tensors.
    pub layout_digest: Digest,
}

impl Law {
    /// Validates a specification and derives its law.
    ///
    /// # Errors
    /// [`SpecError`] naming the key and the flaw.
    pub fn new(spec: JobSpec) -> Result<Self, SpecError> {
        spec.validate()?;
        let catalog = Catalog::build(&spec)?;
        let layout = GroupLayout::new(&catalog, &spec);
        let layout_digest = Digest(*blake3::hash(layout.canonical_text().as_bytes()).as_bytes());
        let sampler = Sampler::new(&catalog, &spec.effective_sampling(), spec.seed);
        Ok(Self { spec, catalog: Arc::new(catalog), layout: Arc::new(layout), sampler, layout_digest })
    }

    /// Steps of the run, given the number of training samples: `max_steps`, or whole passes rounded up.
    #[must_use]
    pub fn total_steps(&self, samples: u64) -> u64 {
        let train = &self.spec.train;
        train.max_steps.unwrap_or_else(|| {
            let images = train.num_train_epochs.unwrap_or(0.0) * samples as f64;
            (images / f64::from(train.batch_size)).ceil().max(1.0) as u64
        })
    }
}
