//! Latencies of a job's stitches on this machine (HANDS): every stitch as it would be deployed, one forward pass at a time.
//!
//! What trains makes no difference to time, and neither do fitted stitching layers: no sample and no checkpoint is opened.

mod file;
mod hardware;

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use esta_config::hub;
use esta_engine::{
    arch::Arch,
    latency::Latency,
    law::Law,
    profile::{Measurement, order},
    spec::Precision,
};
use esta_model::{
    Input, Network, ParamStore, Phase, Start, StitchedNet, Texts, Weights, random_anchor, random_layers, wait_for,
};
use esta_proto::StitchId;
use tch::{Device, Kind, Tensor};

pub use file::{Target, UnwritableProfile};
pub use hardware::name as hardware;

use crate::trainer::{SetupError, StateError, read_anchor};

/// Passes of every stitch before the first that counts: kernels are loaded and chosen, memory is taken.
const WARM_UP: usize = 3;

/// How stitches are run.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// Where.
    pub device: Device,
    /// Arithmetic of matrix products.
    pub precision: Precision,
    /// As exported stitches are: adaptation folded into plain weights. Otherwise as a bundle switches between them.
    pub merged: bool,
    /// Images or texts of a pass.
    pub batch: NonZeroU32,
}

/// A catalog ready to be measured.
pub struct Bench {
    law: Law,
    net: StitchedNet,
    /// B images, or texts of the longest length of which the last token asks for its next.
    input: Input,
}

/// Why a catalog cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// An anchor is there and does not load.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The parameters do not fit the job.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Bench {
    /// Networks of every stitch and samples to run them on. `absent` hears of each anchor whose weights are not there:
    /// random ones of its shape take their place.
    ///
    /// # Errors
    /// [`BenchError`] for weights that are there and damaged.
    pub fn new(law: Law, conditions: Conditions, absent: impl FnMut(&str, &str)) -> Result<Self, BenchError> {
        let device = conditions.device;
        let frozen = frozen(&law, absent)?.to_device(device);
        let net = match conditions.merged {
            true => StitchedNet::plain(&law.catalog, &frozen, conditions.precision).map_err(StateError::from)?,
            false => adapted(&law, &frozen, conditions)?,
        };
        tch::manual_seed(law.spec.seed.cast_signed());
        let input = random_input(&law, i64::from(conditions.batch.get()), device);
        Ok(Self { law, net, input })
    }

    /// Measures every stitch `rounds` times, in another seeded order each round. `hear` is told of passes done and of all.
    pub fn measure(&self, rounds: NonZeroU32, mut hear: impl FnMut(u64, u64)) -> BTreeMap<StitchId, Measurement> {
        let catalog = &self.law.catalog;
        let seed = self.law.spec.seed;
        let all = catalog.stitches().count() as u64 * (1 + u64::from(rounds.get()));
        let mut times: BTreeMap<StitchId, Vec<Latency>> = BTreeMap::new();
        let mut done = 0;
        // Each round, and the warm-up before the first, takes every stitch.
        let visits =
            (0..=rounds.get()).flat_map(|round| order(catalog, seed, round).into_iter().map(move |s| (round, s)));
        tch::no_grad(|| {
            for (round, stitch) in visits {
                let network = self.net.network(stitch).expect("the catalog's stitches have networks");
                if round == 0 {
                    for _ in 0..WARM_UP {
                        self.pass(network);
                    }
                } else {
                    // The pass before the one that counts brings the stitch's own weights back to where a model that is
                    // served alone has them.
                    self.pass(network);
                    times.entry(stitch).or_default().push(self.pass(network).into());
                }
                done += 1;
                hear(done, all);
            }
        });
        let measured = |(stitch, times): (StitchId, Vec<Latency>)| {
            Some((stitch, Measurement::of(catalog.get(stitch)?.macs, &times)?))
        };
        times.into_iter().filter_map(measured).collect()
    }

    /// One forward pass, its results computed when the clock stops.
    fn pass(&self, network: &Network) -> Duration {
        self.settle();
        let started = Instant::now();
        let logits = network.forward(&self.input, Phase::Eval);
        self.settle();
        let took = started.elapsed();
        drop(logits);
        took
    }

    fn device(&self) -> Device {
        match &self.input {
            Input::Images(images) => images.device(),
            Input::Texts(texts) => texts.ids.device(),
        }
    }

    fn settle(&self) {
        wait_for(self.device());
    }
}

/// Anchors, heads and stitching layers.
fn frozen(law: &Law, mut absent: impl FnMut(&str, &str)) -> Result<Weights, SetupError> {
    let (seed, task) = (law.spec.seed, law.catalog.task);
    let mut frozen = Weights::new("anchors");
    for (number, (anchor, arch)) in law.spec.family.anchors.iter().zip(&law.catalog.anchors).enumerate() {
        let there = is_there(&anchor.weights);
        let mut weights = match there {
            true => read_anchor(law, anchor, number, Device::Cpu)?,
            false => random_anchor(arch, task, seed),
        };
        if !there {
            absent(&anchor.name, &anchor.weights);
        }
        if arch.as_vit().is_some() {
            let (classes, width) = (i64::from(task.classes()), arch.width() as i64);
            let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
            weights.insert("head.weight", zeros(&[classes, width]));
            weights.insert("head.bias", zeros(&[classes]));
        }
        frozen.absorb(&format!("anchors.{number}."), weights);
    }
    frozen.absorb("", random_layers(&law.catalog, seed));
    Ok(frozen)
}

/// Whether a model's weights lie where the job says.
fn is_there(model: &str) -> bool {
    let files = ["model.safetensors", "model.safetensors.index.json"];
    hub::locate(model).is_some_and(|path| path.is_file() || files.iter().any(|file| path.join(file).is_file()))
}

/// Something of the shape that the anchors take.
fn random_input(law: &Law, batch: i64, device: Device) -> Input {
    match (&law.catalog.anchors[0], law.catalog.task) {
        (Arch::Vit(arch), _) => {
            let side = i64::from(arch.image_size);
            Input::Images(Tensor::rand([batch, i64::from(arch.in_chans), side, side], (Kind::Float, device)))
        }
        (Arch::Llama(_), task) => {
            let rows = law.catalog.anchors.iter().filter_map(Arch::as_llama).map(|arch| arch.vocab_size).min();
            let tokens = i64::from(task.tokens());
            let ids = Tensor::randint(i64::from(rows.unwrap_or(1)), [batch, tokens], (Kind::Int64, device));
            let reads: Vec<i64> = (0..batch).map(|row| (row + 1) * tokens - 1).collect();
            let every = |count: i64| vec![count; batch as usize];
            let reads = Tensor::from_slice(&reads).to_device(device);
            Input::Texts(Texts { ids, reads, counts: every(1), lengths: every(tokens) })
        }
    }
}

/// The stitches with what the job trains beside the frozen weights.
fn adapted(law: &Law, frozen: &Weights, conditions: Conditions) -> Result<StitchedNet, StateError> {
    let start = Start { seed: law.spec.seed, weights: frozen, device: conditions.device };
    let store = ParamStore::new(&law.layout, start)?;
    Ok(StitchedNet::new(&law.catalog, &store, frozen, &law.spec.pst, conditions.precision)?)
}
