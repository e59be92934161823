//! What a worker has learned so far (HANDS): parameters, optimizer, fitted stitching layers, and how far they are.

use std::path::Path;

use esta_data::DataError;
use esta_engine::{
    spec::HeadInit,
    streams::{self, Stream},
};
use esta_model::{
    FitError, Input, ParamError, ParamStore, Start, StitchedNet, Weights, WeightsError, fit_heads, fit_layers,
    refine_layers,
};
use esta_proto::{Digest, Step};
use rand::seq::index::sample;
use tch::{Device, Kind, Tensor};
use thiserror::Error;

use super::{
    CheckpointError, Family, Job,
    checkpoint::TrainerState,
    group::{Header, read_header},
    input::tensors,
};

/// Why a state cannot be made.
#[derive(Debug, Error)]
pub enum StateError {
    /// The parameters do not fit the job.
    #[error("the parameters do not fit the job")]
    Params(#[from] ParamError),
    /// A weight is missing or misshapen.
    #[error("the weights do not fit the job")]
    Weights(#[from] WeightsError),
    /// The stitching layers cannot be fitted.
    #[error("the stitching layers cannot be fitted")]
    Fit(#[from] FitError),
    /// The samples for the fit.
    #[error("the samples for the fit do not load")]
    Data(#[from] DataError),
    /// A checkpoint.
    #[error("the run cannot go on from its checkpoint")]
    Checkpoint(#[from] CheckpointError),
    /// The coordinator counts on a state that no rank holds.
    #[error("the coordinator counts on a state of {0} applied steps, which no rank holds")]
    Forgotten(Step),
    /// Nobody made a state.
    #[error("no rank holds a state after the source was to make one")]
    Nobody,
}

/// What a worker has learned so far.
pub struct State {
    /// All stitches over the parameters.
    pub net: StitchedNet,
    /// What trains.
    pub store: ParamStore,
    /// Fitted stitching layers where they are frozen, in the type in which they rest; empty where they train.
    pub layers: Weights,
    /// Applied steps.
    pub applied: Step,
    /// Chained digest of the reduced buffers (RD-3).
    pub chain: Digest,
}

impl State {
    /// The state before the first step: anchors, fitted stitching layers, seeded adapters.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn fresh(job: &Job) -> Result<Self, StateError> {
        let init = &job.family.law.spec.family.stitch_init;
        let samples = fit_samples(job, init.samples)?;
        let (catalog, anchors) = (&job.family.law.catalog, &job.family.anchors);
        let mut fitted = fit_layers(catalog, anchors, &samples, init)?;
        if let (Input::Images(images), 1..) = (&samples, init.refine_steps) {
            fitted = refine_layers(catalog, anchors, &fitted, images, init.refine_steps)?;
        }
        let heads = match job.family.law.spec.train.head_init {
            HeadInit::Zero => Weights::new("zero"),
            HeadInit::Ridge => {
                let (samples, labels) = plain_samples(job, &seeded_picks(job, RIDGE_IMAGES))?;
                match &samples {
                    Input::Images(images) => fit_heads(catalog, anchors, images, &labels)?,
                    Input::Texts(_) => Weights::new("a language model brings its head"),
                }
            }
        };
        Self::assemble(&job.family, fitted, heads)
    }

    /// A state of the right shapes and no content, to receive another's.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn hollow(family: &Family) -> Result<Self, StateError> {
        let mut layers = Weights::new("to be received");
        for layer in &family.law.catalog.layers {
            let width = |anchor: esta_proto::AnchorId| family.law.catalog.anchors[anchor.index()].width() as i64;
            let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, family.device));
            layers.insert(format!("stitch_layers.{}.weight", layer.id), zeros(&[width(layer.to), width(layer.from)]));
            layers.insert(format!("stitch_layers.{}.bias", layer.id), zeros(&[width(layer.to)]));
        }
        Self::assemble(family, layers, Weights::new("none"))
    }

    fn assemble(family: &Family, layers: Weights, heads: Weights) -> Result<Self, StateError> {
        let spec = &family.law.spec;
        let mut weights = Weights::new("start");
        weights.absorb("", heads);
        let mut frozen_layers = Weights::new("stitching layers");
        if spec.trains_everything() {
            weights.absorb("", family.anchors.to_device(family.device));
            weights.absorb("", layers);
        } else {
            frozen_layers = layers;
        }
        let start = Start { seed: spec.seed, weights: &weights, device: family.device };
        let store = ParamStore::new(&family.law.layout, start)?;
        Self::over(family, store, frozen_layers)
    }

    fn over(family: &Family, store: ParamStore, layers: Weights) -> Result<Self, StateError> {
        let spec = &family.law.spec;
        let layers = layers.matrices_in(spec.frozen_precision());
        let mut frozen = family.anchors.shallow_clone();
        frozen.absorb("", layers.shallow_clone());
        let net = StitchedNet::new(&family.law.catalog, &store, &frozen, &spec.pst, spec.train.precision)?;
        Ok(Self { net, store, layers, applied: Step(0), chain: Digest::default() })
    }

    /// The state of a complete checkpoint.
    ///
    /// # Errors
    /// [`StateError::Checkpoint`] naming what is absent or damaged.
    pub fn from_checkpoint(family: &Family, step: Step) -> Result<Self, StateError> {
        family.checkpoints.bring(step)?;
        let saved = family.checkpoints.read_state(step, family.law.layout_digest)?;
        let folder = family.checkpoints.path(step);
        let mut store = Self::hollow(family)?.store;
        store.load_params(&folder.join(PARAMS_FILE))?;
        store.load_optimizer(&folder.join(OPTIMIZER_FILE))?;
        let layers = Weights::read(&folder.join(LAYERS_FILE))?.to_device(family.device);
        let state = Self::over(family, store, layers)?;
        Ok(Self { applied: saved.global_step, chain: saved.digest, ..state })
    }

    /// What `trainer_state.json` says of this state.
    #[must_use]
    pub fn summary(&self, job: &Job) -> TrainerState {
        TrainerState {
            global_step: self.applied,
            max_steps: job.total_steps,
            digest: self.chain,
            layout: job.family.law.layout_digest,
            touches: self.store.touches().to_vec(),
        }
    }

    /// Writes the tensors of a checkpoint into its folder.
    ///
    /// # Errors
    /// [`WeightsError`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<(), WeightsError> {
        self.store.save_params(&folder.join(PARAMS_FILE))?;
        self.store.save_optimizer(&folder.join(OPTIMIZER_FILE))?;
        self.layers.save(&folder.join(LAYERS_FILE))
    }

    /// The bytes of all tensors that a checkpoint holds, in a fixed order: parameters, moments, stitching layers.
    pub fn content(&self) -> impl Iterator<Item = Vec<u8>> {
        let layers = self.layers.iter().map(|(_, tensor)| tensor.shallow_clone());
        self.store.state().into_iter().chain(layers).map(|tensor| {
            let here = tensor.to_device(Device::Cpu).contiguous();
            let mut bytes = vec![0; here.numel() * here.kind().elt_size_in_bytes()];
            here.copy_data_u8(&mut bytes, here.numel());
            bytes
        })
    }

    /// The tensors that travel to a rank that is behind, in a fixed order.
    #[must_use]
    pub fn tensors(&self) -> Vec<Tensor> {
        let mut tensors = vec![self.store.snapshot()];
        tensors.extend(self.layers.iter().map(|(_, tensor)| tensor.contiguous()));
        tensors
    }

    /// This state with what has arrived: a header and the tensors of [`Self::tensors`].
    ///
    /// # Errors
    /// [`StateError`] when they do not fit the job.
    pub fn arrived(self, words: &Tensor, tensors: &[Tensor], job: &Job) -> Result<Self, StateError> {
        let Header { applied, chain, touches } = read_header(words);
        let mut store = self.store;
        store.restore(&tensors[0], &touches)?;
        let mut layers = Weights::new("stitching layers");
        for ((name, _), tensor) in self.layers.iter().zip(&tensors[1..]) {
            layers.insert(name, tensor.shallow_clone());
        }
        let state = Self::over(&job.family, store, layers)?;
        Ok(Self { applied, chain, ..state })
    }
}

const PARAMS_FILE: &str = "adapters.safetensors";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const LAYERS_FILE: &str = "stitch_layers.safetensors";

/// Images at most that a head's ridge regression sees.
const RIDGE_IMAGES: u64 = 4096;

/// Tokens at least that stitching layers of language models are fitted on, if the set has so many (METHOD.md section 1).
const FIT_TOKENS: u64 = 32_768;

/// What stitching layers are fitted on: seeded training samples, and of texts as many more as it takes. Texts of about one
/// length follow each other, so that little of a chunk is padding.
fn fit_samples(job: &Job, samples: u32) -> Result<Input, StateError> {
    let Some(texts) = job.train.texts() else {
        return Ok(plain_samples(job, &seeded_picks(job, u64::from(samples)))?.0);
    };
    let lengths = texts.lengths();
    let mut tokens = 0;
    let enough = |(taken, index): &(u32, u64)| {
        let goes_on = *taken < samples || tokens < FIT_TOKENS;
        tokens += u64::from(lengths[*index as usize]) - 1;
        goes_on
    };
    let all = seeded_picks(job, u64::MAX);
    let mut picks: Vec<u64> = (0..).zip(all).take_while(enough).map(|(_, index)| index).collect();
    picks.sort_by_key(|&index| (lengths[index as usize], index));
    Ok(plain_samples(job, &picks)?.0)
}

/// Seeded indices of training samples, each once.
fn seeded_picks(job: &Job, most: u64) -> Vec<u64> {
    let all = usize::try_from(job.train.len()).unwrap_or(usize::MAX);
    let count = all.min(usize::try_from(most).unwrap_or(usize::MAX));
    let mut rng = streams::rng(job.family.law.spec.seed, Stream::Fit, 0);
    sample(&mut rng, all, count).into_iter().map(|index| index as u64).collect()
}

/// Training samples as they are, never augmented, and their labels.
fn plain_samples(job: &Job, picks: &[u64]) -> Result<(Input, Tensor), StateError> {
    Ok(tensors(&job.train.plain(picks.iter().copied())?, job.family.device))
}
