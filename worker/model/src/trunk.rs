//! A frozen anchor up to its head (TENSOR): evaluation mode, without adaptation. What starts are fitted on.

use std::collections::{BTreeMap, BTreeSet};

use esta_engine::catalog::Catalog;
use esta_engine::memory::FIT_TOKENS;
use esta_engine::spec::{Precision, PstSpec};
use esta_proto::AnchorId;
use tch::{Device, Tensor};

use crate::build::{Builder, FinalNorm};
use crate::input::Input;
use crate::linear::Phase;
use crate::network::{Block, Front};
use crate::source::Source;
use crate::weights::{Weights, WeightsError};

/// Images of one forward pass: bounds memory, and fixes the order of every sum.
pub(crate) const CHUNK: i64 = 32;

/// An anchor without its head.
pub(crate) struct Trunk {
    front: Front,
    blocks: Vec<Box<dyn Block>>,
    norm: FinalNorm,
    device: Device,
    /// Where activations wait: on the processor where a device has no room for all blocks.
    aside: Device,
}

impl Trunk {
    /// The anchor from `frozen`, under `anchors.{a}.`, in the precision of its matrices there.
    pub fn new(catalog: &Catalog, frozen: &Weights, anchor: AnchorId) -> Result<Self, WeightsError> {
        let pst = PstSpec::default();
        let precision = match frozen.iter().any(|(_, tensor)| tensor.kind() == tch::Kind::BFloat16) {
            true => Precision::Bf16,
            false => Precision::F32,
        };
        let source = Source { frozen, trained: None, pst: &pst, precision };
        let builder = Builder::new(catalog, source);
        let blocks = (0..builder.arch(anchor).depth()).map(|block| builder.block(anchor, block, None));
        Ok(Self {
            front: builder.front(anchor)?,
            blocks: blocks.collect::<Result<_, _>>()?,
            norm: builder.final_norm(anchor)?,
            device: source.device(),
            aside: if frozen.windows().is_some() { Device::Cpu } else { source.device() },
        })
    }

    /// Where its weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The activations [B, N, D] of every input, set aside, before these blocks; before the one that is not there, after the last. All inputs
    /// go through a block before any goes through the next.
    pub fn states(&self, inputs: &[Input], places: &BTreeSet<u32>) -> BTreeMap<u32, Vec<Tensor>> {
        tch::no_grad(|| {
            let mut states = BTreeMap::new();
            let mut now: Vec<Tensor> = inputs.iter().map(|input| self.front.forward(input)).collect();
            for (place, block) in (0..).zip(self.blocks.iter().map(Some).chain([None])) {
                if places.contains(&place) {
                    states.insert(place, now.iter().map(|x| x.to_device(self.aside)).collect());
                }
                match block.filter(|_| places.last() > Some(&place)) {
                    Some(block) => now.iter_mut().for_each(|x| *x = block.forward(x, Phase::Eval)),
                    None => break,
                }
            }
            states
        })
    }

    /// The activations [B, N, D] after one block.
    pub fn state_after(&self, input: &Input, block: u32) -> Tensor {
        let blocks = &self.blocks[..=block as usize];
        tch::no_grad(|| blocks.iter().fold(self.front.forward(input), |x, block| block.forward(&x, Phase::Eval)))
    }

    /// Activations `[B, N, D]` before a block to what a classifier reads, [B, D]; gradients flow through to `x`.
    pub fn features_from(&self, x: &Tensor, block: u32) -> Tensor {
        let (last, front) = self.blocks[block as usize..].split_last().expect("an anchor has blocks");
        let x = front.iter().fold(x.shallow_clone(), |x, block| block.forward(&x, Phase::Eval));
        self.norm.forward(&last.forward_last(&x, Phase::Eval).select(1, 0))
    }

    /// What a classifier reads of a batch, [B, D].
    pub fn features(&self, input: &Input) -> Tensor {
        tch::no_grad(|| {
            let (last, front) = self.blocks.split_last().expect("an anchor has blocks");
            let x = front.iter().fold(self.front.forward(input), |x, block| block.forward(&x, Phase::Eval));
            self.norm.forward(&last.forward_last(&x, Phase::Eval).select(1, 0))
        })
    }
}

impl FinalNorm {
    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }
}

/// A batch in chunks of few rows.
pub(crate) fn chunks(input: &Input) -> impl Iterator<Item = Input> {
    let total = input.len();
    let rows = match input {
        Input::Images(_) => CHUNK,
        Input::Texts(texts) => (FIT_TOKENS.cast_signed() / texts.ids.size()[1].max(1)).max(1),
    };
    (0..total).step_by(rows as usize).map(move |start| input.part(start..total.min(start + rows)).0)
}
