//! A job on this worker (HANDS): its law, its anchors and its data, loaded once.

use std::{fs, path::Path, sync::Arc};

use esta_client::DeviceKind;
use esta_data::{DataError, HeldOut, Intake, Loader, Prefetcher};
use esta_engine::spec::{DataSpec, DatasetSpec, JobSpec, Layout, SpecError};
use esta_model::{HubError, WeightsError};
use esta_text::TextSet;
use thiserror::Error;

use crate::{
    hub::FetchError,
    places::{DataPlaceError, data_here},
};

use super::{
    CheckpointError, DeviceError, Family,
    family::Outline,
    room::{self, Room, RoomError},
    vocabulary::VocabularyError,
};

/// The target of what a worker says of a job before it trains: `run` passes it on, whatever its level.
pub const SETUP: &str = "esta::setup";

/// Why a job does not load on this worker.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The specification contradicts itself.
    #[error("the job specification cannot be run")]
    Spec(#[from] SpecError),
    /// Images and labels, or texts.
    #[error("the data set does not load")]
    Data(#[from] DataError),
    /// The same of those that are held out.
    #[error("the held-out samples do not load")]
    HeldOut(#[source] DataError),
    /// Either, in object storage.
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
        let here = data_here(&spec.data)?;
        let train = Loader::open(&here, &outline.intake, spec.seed, spec.train.batch_size)?;
        // Only looked at: the evaluation opens them again, and until then nobody holds them.
        let held_out = if spec.evaluates() { open_held_out(&here, &outline.intake)? } else { None };
        let mut room = Room::default();
        if let Some(texts) = train.texts() {
            say(&spec.data.train, texts);
            let judged = held_out.as_ref().and_then(HeldOut::texts);
            spec.data.eval.iter().zip(judged).for_each(|(set, texts)| say(set, texts));
            room = room::check(&outline, texts, judged)?;
        }
        drop(held_out);
        let planned = room.planned;
        let family = anchors(outline, room)?;
        let data = &family.law.spec.data;
        let prefetcher = Arc::new(Prefetcher::start(&train, data.loader_threads).map_err(SetupError::Thread)?);
        let total_steps = family.law.total_steps(train.len());
        Ok(Self { family, train, prefetcher, total_steps, planned })
    }
}

/// Held-out texts, opened. Held-out images are only looked for: to list them may take long, and to hold them much.
fn open_held_out(data: &DataSpec, intake: &Intake) -> Result<Option<HeldOut>, SetupError> {
    match intake {
        Intake::Texts(_) => HeldOut::open(data, intake).map_err(SetupError::HeldOut),
        Intake::Images(_) => data.eval.iter().try_for_each(is_there).map(|()| None),
    }
}

fn is_there(set: &DatasetSpec) -> Result<(), SetupError> {
    // In shards the labels are a column.
    let labels = set.labels.as_ref().filter(|_| set.layout != Layout::Parquet);
    std::iter::once(&set.path).chain(labels).map(Path::new).try_for_each(|path| match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(SetupError::HeldOut(DataError::Read { path: path.to_owned(), source })),
    })
}

/// Says what became of a set's records; what was left out is worth a warning.
fn say(set: &DatasetSpec, texts: &TextSet) {
    let (set, report) = (&set.path, texts.report());
    match report.skipped.is_empty() {
        true => tracing::info!(target: SETUP, set, "{report}"),
        false => tracing::warn!(target: SETUP, set, "{report}"),
    }
}
