//! A job on this worker (HANDS): its law, its anchors and its data, loaded once.

use std::{fmt, sync::Arc};

use esta_data::{DataError, Loader, Prefetcher};
use esta_engine::spec::{JobSpec, SpecError};
use esta_model::{HubError, WeightsError};
use tch::Device;
use thiserror::Error;

use crate::{
    hub::FetchError,
    places::{DataPlaceError, data_here},
};

use super::{
    CheckpointError, Family,
    family::Outline,
    room::{self, Room, RoomError},
    vocabulary::VocabularyError,
};

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
    /// The libtorch device. On a GPU operators are held to the same bits for the same operands from here on: slots are run
    /// again, and by other ranks (RD-4).
    ///
    /// # Errors
    /// [`DeviceError`] when there is none.
    pub fn device(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda if tch::Cuda::is_available() => {
                esta_c10d::be_reproducible_on_cuda();
                Ok(Device::Cuda(0))
            }
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
    /// Images and labels, or texts.
    #[error("the data set does not load")]
    Data(#[from] DataError),
    /// The same, in object storage.
    #[error("the data set does not load")]
    DataPlace(#[from] DataPlaceError),
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
    /// A language model that is nowhere.
    #[error("anchor {name:?} does not load from {path}")]
    Model {
        /// The anchor's name.
        name: String,
        /// What the job calls it.
        path: String,
        /// Why.
        source: FetchError,
    },
    /// A language model.
    #[error("anchor {name:?} does not load from {path}")]
    Language {
        /// The anchor's name.
        name: String,
        /// Where it was looked for.
        path: String,
        /// What is wrong.
        source: HubError,
    },
    /// The run's checkpoints.
    #[error("the run's checkpoints are not known")]
    Checkpoints(#[from] CheckpointError),
    /// Memory.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// A tokenizer.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The trainer thread.
    #[error("the trainer thread does not run")]
    Thread(#[source] std::io::Error),
}

/// Everything of a job that does not change while it runs.
pub struct Job {
    /// All of it that needs no sample.
    pub family: Family,
    /// Labelled images, or texts, to adapt on.
    pub train: Loader,
    /// Threads that prepare its batches.
    pub prefetcher: Arc<Prefetcher>,
    /// Steps of the run.
    pub total_steps: u64,
    /// Bytes that a worker is planned to take at most, where that is planned.
    pub planned: Option<u64>,
}

impl Job {
    /// Loads a job.
    ///
    /// # Errors
    /// [`SetupError`] naming the part that does not load.
    pub fn load(spec: JobSpec, device: DeviceKind) -> Result<Self, SetupError> {
        Self::over(Outline::with_models(spec, device)?, Outline::load)
    }

    /// A job whose anchors start from nothing: what pre-training begins with.
    ///
    /// # Errors
    /// [`SetupError`] naming the part that does not load.
    pub fn from_scratch(spec: JobSpec, device: DeviceKind) -> Result<Self, SetupError> {
        Self::over(Outline::of(spec, device)?, |outline, _| Ok(outline.made_from_nothing()))
    }

    /// Data first: what is wrong with it, and what does not fit in memory, is known before anything large is read.
    fn over(
        outline: Outline,
        anchors: impl FnOnce(Outline, Room) -> Result<Family, SetupError>,
    ) -> Result<Self, SetupError> {
        let spec = &outline.law.spec;
        let train = Loader::open(&*data_here(&spec.data)?, &outline.intake, spec.seed, spec.train.batch_size)?;
        let mut room = Room::default();
        if let Some(texts) = train.texts() {
            tracing::info!(set = %spec.data.train.path, "{}", texts.report());
            room = room::check(&outline, texts)?;
        }
        let planned = room.planned;
        let family = anchors(outline, room)?;
        let data = &family.law.spec.data;
        let prefetcher = Arc::new(Prefetcher::start(&train, data.loader_threads).map_err(SetupError::Thread)?);
        let total_steps = family.law.total_steps(train.len());
        Ok(Self { family, train, prefetcher, total_steps, planned })
    }
}
