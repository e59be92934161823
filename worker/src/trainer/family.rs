//! A job's family on this worker (HANDS): all of a job that needs no image, so that models can be taken out of a run
//! where its data is not.

use std::path::PathBuf;

use esta_data::InputShape;
use esta_engine::{law::Law, spec::JobSpec};
use esta_model::{SourceHead, Weights, random_vit, read_vit};
use tch::Device;

use super::{
    CheckpointFolder,
    job::{DeviceKind, SetupError},
};

/// What a job's networks are made of and where they are kept.
pub struct Family {
    /// What the specification fixes.
    pub law: Law,
    /// The anchors' weights under `anchors.{a}.`, on the device.
    pub anchors: Weights,
    /// What the anchors take; all of them the same.
    pub input: InputShape,
    /// Where tensors live.
    pub device: Device,
    /// Checkpoints of the run.
    pub checkpoints: CheckpointFolder,
}

impl Family {
    /// Loads the anchors of a job.
    ///
    /// # Errors
    /// [`SetupError`] naming the part that does not load.
    pub fn load(spec: JobSpec, device: DeviceKind) -> Result<Self, SetupError> {
        let device = device.device()?;
        let law = Law::new(spec)?;
        let mut anchors = Weights::new("anchors");
        for (number, anchor) in law.spec.family.anchors.iter().enumerate() {
            let arch = &law.catalog.anchors[number];
            let failed =
                |source| SetupError::Weights { name: anchor.name.clone(), path: anchor.weights.clone(), source };
            let weights = read_vit(anchor.weights.as_ref(), arch, SourceHead::Drop).map_err(failed)?;
            anchors.absorb(&format!("anchors.{number}."), weights.to_device(device));
        }
        Ok(Self::new(law, anchors, device))
    }

    /// A family whose anchors start from nothing: what pre-training begins with.
    ///
    /// # Errors
    /// [`SetupError`] naming the part that does not load.
    pub fn from_scratch(spec: JobSpec, device: DeviceKind) -> Result<Self, SetupError> {
        let device = device.device()?;
        let law = Law::new(spec)?;
        let mut anchors = Weights::new("from scratch");
        for (number, arch) in law.catalog.anchors.iter().enumerate() {
            let weights = random_vit(arch, law.spec.data.num_classes, law.spec.seed);
            anchors.absorb(&format!("anchors.{number}."), weights.to_device(device));
        }
        Ok(Self::new(law, anchors, device))
    }

    fn new(law: Law, anchors: Weights, device: Device) -> Self {
        let arch = &law.catalog.anchors[0];
        let input = InputShape { image_size: arch.image_size, channels: arch.in_chans };
        let checkpoints = CheckpointFolder::new(PathBuf::from(law.spec.run_dir()), law.spec.train.save_total_limit);
        Self { law, anchors, input, device, checkpoints }
    }
}
