//! A frozen anchor up to its head (TENSOR): evaluation mode, without adaptation. What starts are fitted on.

use esta_engine::catalog::Catalog;
use esta_engine::memory::FIT_TOKENS;
use esta_engine::spec::{Precision, PstSpec};
use esta_proto::AnchorId;
use tch::Tensor;

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
        })
    }

    /// The activations [B, N, D] before each block, and after the last.
    pub fn states(&self, input: &Input) -> Vec<Tensor> {
        tch::no_grad(|| {
            let mut states = vec![self.front.forward(input)];
            for block in &self.blocks {
                let next = block.forward(&states[states.len() - 1], Phase::Eval);
                states.push(next);
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
