//! What a run's slots said, in order (HANDS): `draws.parquet` read back, so that rules can be tried without training.

use std::path::Path;

use esta_proto::StitchId;

/// One slot of a committed step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Visit {
    /// Its step.
    pub step: u64,
    /// The stitch it ran.
    pub stitch: StitchId,
    /// SNIP saliency.
    pub score: f64,
    /// Mean cross entropy of its images.
    pub loss: f64,
    /// L2 norm of its gradient.
    pub grad_norm: f64,
}

/// Valid slots of a run's `draws.parquet`, ordered by step and slot.
///
/// # Errors
/// When the file is missing, damaged or of another form.
pub fn read(path: &Path) -> std::io::Result<Vec<Visit>> {
    let _ = path;
    Err(std::io::Error::other("to be written"))
}
