//! A job on this worker (HANDS): its law, its data and its anchors, loaded once.

use std::{fmt, path::PathBuf, sync::Arc};

use esta_data::{DataError, InputShape, Loader, Prefetcher};
use esta_engine::{
    law::Law,
    spec::{JobSpec, SpecError},
};
use esta_model::{SourceHead, Weights, WeightsError, random_vit, read_vit};
use tch::Device;
use thiserror::Error;

use super::CheckpointFolder;

/// Where tensors live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DeviceKind {
    /// The processor; groups reduce over Gloo.
    Cpu,
    /// The first visible NVIDIA GPU; groups reduce over NCCL.
    Cuda,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// The device that was asked for is not there.
#[derive(Debug, Error)]
#[error(
    "--device cuda: this program or this machine has no CUDA device; build with --features cuda against a CUDA libtorch"
)]
pub struct DeviceError;

impl DeviceKind {
    /// The libtorch device.
    ///
    /// # Errors
    /// [`DeviceError`] when there is none.
    pub fn device(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if tch::Cuda::is_available() => Ok(Device::Cuda(0)),
            Self::Cuda => Err(DeviceError),
        }
    }
}

/// Why a job does not load on this worker.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The specification contradicts itself.
    #[error("the job specification cannot be run")]
    Spec(#[from] SpecError),
    /// Images or labels.
    #[error("the data set does not load")]
    Data(#[from] DataError),
    /// An anchor.
    #[error("anchor {name:?} does not load from {path}")]
    Weights {
        /// The anchor's name.
        name: String,
        /// Where it was looked for.
        path: String,
        /// What is wrong.
        source: WeightsError,
    },
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The trainer thread.
    #[error("the trainer thread does not run")]
    Thread(#[source] std::io::Error),
}

/// Everything of a job that does not change while it runs.
pub struct Job {
    /// What the specification fixes.
    pub law: Law,
    /// The anchors' weights under `anchors.{a}.`, on the device.
    pub anchors: Weights,
    /// Labelled images to adapt on.
    pub train: Loader,
    /// Threads that prepare its batches.
    pub prefetcher: Arc<Prefetcher>,
    /// What the anchors take; all of them the same.
    pub input: InputShape,
    /// Where tensors live.
    pub device: Device,
    /// Steps of the run.
    pub total_steps: u64,
    /// Checkpoints of the run.
    pub checkpoints: CheckpointFolder,
}

impl Job {
    /// Loads a job.
    ///
    /// # Errors
    /// [`SetupError`] naming the part that does not load.
    pub fn load(spec: JobSpec, device: DeviceKind) -> Result<Self, SetupError> {
        let device = device.device()?;
        let law = Law::new(spec)?;
        let anchors = load_anchors(&law, device)?;
        Self::assemble(law, anchors, device)
    }

    /// A job whose anchors start from nothing: what pre-training begins with.
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
        Self::assemble(law, anchors, device)
    }

    fn assemble(law: Law, anchors: Weights, device: Device) -> Result<Self, SetupError> {
        let data = &law.spec.data;
        let arch = &law.catalog.anchors[0];
        let input = InputShape { image_size: arch.image_size, channels: arch.in_chans };
        let train = Loader::open(data, input, law.spec.seed)?;
        let prefetcher = Arc::new(Prefetcher::start(&train, data.loader_threads).map_err(SetupError::Thread)?);
        let total_steps = law.total_steps(train.dataset().len());
        let checkpoints = CheckpointFolder::new(PathBuf::from(law.spec.run_dir()), law.spec.train.save_total_limit);
        Ok(Self { law, anchors, train, prefetcher, input, device, total_steps, checkpoints })
    }
}

fn load_anchors(law: &Law, device: Device) -> Result<Weights, SetupError> {
    let mut all = Weights::new("anchors");
    for (number, anchor) in law.spec.family.anchors.iter().enumerate() {
        let arch = &law.catalog.anchors[number];
        let failed = |source| SetupError::Weights { name: anchor.name.clone(), path: anchor.weights.clone(), source };
        let weights = read_vit(anchor.weights.as_ref(), arch, SourceHead::Drop).map_err(failed)?;
        all.absorb(&format!("anchors.{number}."), weights.to_device(device));
    }
    Ok(all)
}
