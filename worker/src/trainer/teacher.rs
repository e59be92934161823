//! The teacher of a job (HANDS).

use esta_engine::{
    law::Law,
    spec::{DistillSpec, Mode},
};
use esta_model::Teacher;

/// The largest anchor, where the job distils from it.
pub fn teacher(law: &Law) -> Option<Teacher> {
    let DistillSpec { weight, temperature } = law.spec.train.distill;
    let largest = law.catalog.stitches().filter(|stitch| stitch.is_anchor()).last()?;
    let teaches = weight > 0.0 && law.spec.mode != Mode::Anchor;
    teaches.then_some(Teacher { stitch: largest.id, weight, temperature })
}
