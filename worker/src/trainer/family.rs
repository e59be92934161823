//! A job's family on this worker (HANDS): all of a job that needs no sample, so that models can be taken out of a run
//! where its data is not.

use std::{path::Path, sync::Arc};

use esta_client::DeviceKind;
use esta_data::{InputShape, Intake};
use esta_engine::{
    arch::{Arch, HubConfigFlaw, LlamaArch},
    law::Law,
    spec::{AnchorSpec, JobSpec, ModelSpec},
};
use esta_model::{HubError, SourceHead, Weights, Windows, random_anchor, read_hub_config, read_llama, read_vit};
use esta_objects::{Place, RunPlace};
use tch::Device;

use crate::{
    hub,
    places::{self, DataPlaceError},
};

use super::{
    CheckpointError, CheckpointFolder, Room, Shard,
    device::open_device,
    job::SetupError,
    vocabulary::{self, located},
};

/// What a job's networks are made of and where they are kept.
pub struct Family {
    /// What the specification fixes.
    pub law: Law,
    /// The anchors' weights under `anchors.{a}.`, on the device.
    pub anchors: Weights,
    /// What the anchors take; all of them the same.
    pub intake: Intake,
    /// Where tensors live.
    pub device: Device,
    /// This rank's part in its node's blocks, where they are spread.
    pub shard: Option<Shard>,
    /// Checkpoints of the run.
    pub checkpoints: CheckpointFolder,
}

impl Family {
    /// Loads the anchors of a job, alone with them. Blocks that a run spreads take turns on a GPU; the processor has room for
    /// all of them.
    ///
    /// # Errors
    /// [`SetupError`] naming the part that does not load.
    pub fn load(mut spec: JobSpec, device: DeviceKind) -> Result<Self, SetupError> {
        if device == DeviceKind::Cpu {
            spec.model = ModelSpec::default();
        }
        Outline::with_models(spec, device)?.load(Room { blocks: 0, planned: None })
    }

    /// A family whose anchors start from nothing: what pre-training begins with.
    ///
    /// # Errors
    /// [`SetupError`] naming the part that does not load.
    pub fn from_scratch(spec: JobSpec, device: DeviceKind) -> Result<Self, SetupError> {
        Ok(Outline::of(spec, device)?.made_from_nothing())
    }

    fn new(outline: Outline, anchors: Weights, shard: Option<Shard>) -> Self {
        let Outline { law, intake, device, place } = outline;
        let checkpoints = CheckpointFolder::of(place, law.spec.train.save_total_limit);
        Self { law, anchors, intake, device, shard, checkpoints }
    }
}

/// A family without its anchors: all that is known before anything large is read.
pub struct Outline {
    /// What the specification fixes.
    pub law: Law,
    /// What the anchors take.
    pub intake: Intake,
    /// Where tensors will live.
    pub device: Device,
    /// Where the run's files are.
    pub place: RunPlace,
}

impl Outline {
    /// What a specification fixes on this worker.
    ///
    /// # Errors
    /// [`SetupError`] naming the part that does not load.
    pub fn of(spec: JobSpec, device: DeviceKind) -> Result<Self, SetupError> {
        let device = open_device(device)?;
        let law = Law::new(spec)?;
        let intake = intake(&law)?;
        let place = RunPlace::of(&law.spec.run_dir(), &law.spec.name).map_err(CheckpointError::from)?;
        Ok(Self { law, intake, device, place })
    }

    /// The same, once every model that the job names lies on this machine: hub names of language models are fetched, and whatever
    /// is in object storage.
    ///
    /// # Errors
    /// [`SetupError`] naming the model that is nowhere.
    pub fn with_models(spec: JobSpec, device: DeviceKind) -> Result<Self, SetupError> {
        let speaks = spec.data.text.is_some();
        for anchor in spec.family.anchors.iter().filter(|anchor| speaks || Place::is_meant(&anchor.weights)) {
            let (name, path) = (anchor.name.clone(), anchor.weights.clone());
            hub::bring(&path).map_err(|source| SetupError::Model { name, path, source })?;
        }
        if let Some(path) = vocabulary::named(&spec).filter(|path| Place::is_meant(path)) {
            places::bring(path).map_err(|source| {
                SetupError::DataPlace(DataPlaceError { key: "data.text.tokenizer".to_owned(), source })
            })?;
        }
        Self::of(spec, device)
    }

    /// The family with its anchors as they lie on disk. Where blocks are spread this rank may keep as many as there is room for.
    ///
    /// # Errors
    /// [`SetupError`] naming the anchor that does not load.
    pub fn load(self, room: Room) -> Result<Family, SetupError> {
        if self.law.spec.is_sharded() {
            let (anchors, windows) = self.open_windows()?;
            let shard = Shard::new(&self.law, windows, room);
            return Ok(Family::new(self, anchors, Some(shard)));
        }
        let mut anchors = Weights::new("anchors");
        for (number, anchor) in self.law.spec.family.anchors.iter().enumerate() {
            anchors.absorb(&format!("anchors.{number}."), read_anchor(&self.law, anchor, number, self.device)?);
        }
        Ok(Family::new(self, anchors, None))
    }

    /// The anchors with windows that hold no block.
    fn open_windows(&self) -> Result<(Weights, Arc<Windows>), SetupError> {
        let mut anchors = Weights::new("anchors");
        let mut windows = Windows::new();
        for (anchor, arch) in self.law.spec.family.anchors.iter().zip(&self.law.catalog.anchors) {
            let (name, path) = (anchor.name.clone(), anchor.weights.clone());
            let (folder, arch) = (located(&path), arch.as_llama().expect("only decoders are spread"));
            check_shape(&folder, arch)
                .and_then(|()| windows.open(&folder, arch, self.law.spec.train.precision, self.device))
                .map(|(prefix, at_rest)| anchors.absorb(&prefix, at_rest))
                .map_err(|source| SetupError::Language { name, path, source })?;
        }
        let windows = Arc::new(windows);
        anchors.take_turns(windows.clone());
        Ok((anchors, windows))
    }

    /// The family with anchors that start from nothing.
    #[must_use]
    pub fn made_from_nothing(self) -> Family {
        let mut anchors = Weights::new("from scratch");
        for (number, arch) in self.law.catalog.anchors.iter().enumerate() {
            let weights = random_anchor(arch, self.law.catalog.task, self.law.spec.seed);
            anchors.absorb(&format!("anchors.{number}."), weights.to_device(self.device));
        }
        Family::new(self, anchors, None)
    }
}

/// The weights of one anchor, on the device; a language model's in the type they are multiplied in.
///
/// # Errors
/// [`SetupError`] naming the anchor and what is wrong with its files.
pub fn read_anchor(law: &Law, anchor: &AnchorSpec, number: usize, device: Device) -> Result<Weights, SetupError> {
    let (name, path) = (anchor.name.clone(), anchor.weights.clone());
    match &law.catalog.anchors[number] {
        Arch::Vit(arch) => match read_vit(&located(&path), arch, SourceHead::Drop) {
            Ok(weights) => Ok(weights.to_device(device)),
            Err(source) => Err(SetupError::Weights { name, path, source }),
        },
        Arch::Llama(arch) => {
            let folder = located(&path);
            check_shape(&folder, arch)
                .and_then(|()| read_llama(&folder, arch, law.spec.train.precision, device))
                .map_err(|source| SetupError::Language { name, path, source })
        }
    }
}

/// A folder that brings a `config.json` is of the job's shape: a preset's epsilon or rotary base could differ, and no tensor
/// would show it.
fn check_shape(folder: &Path, arch: &LlamaArch) -> Result<(), HubError> {
    let path = folder.join("config.json");
    if !path.is_file() {
        return Ok(());
    }
    match read_hub_config(folder)?.difference(arch) {
        None => Ok(()),
        Some(difference) => Err(HubError::Config { path, source: HubConfigFlaw::Impossible(difference) }),
    }
}

/// What the anchors of a job take.
fn intake(law: &Law) -> Result<Intake, SetupError> {
    match &law.catalog.anchors[0] {
        Arch::Vit(arch) => Ok(InputShape { image_size: arch.image_size, channels: arch.in_chans }.into()),
        Arch::Llama(_) => Ok(Intake::Texts(vocabulary::of(law)?.into())),
    }
}
