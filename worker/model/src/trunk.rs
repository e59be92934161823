//! A frozen anchor up to its head (TENSOR): evaluation mode, single precision, no adaptation. What starts are fitted on.

use esta_engine::catalog::Catalog;
use esta_engine::spec::{Precision, PstSpec};
use esta_proto::AnchorId;
use tch::Tensor;

use crate::linear::Phase;
use crate::network::Block;
use crate::source::Source;
use crate::stitched::Builder;
use crate::vit::{Embed, LayerNorm, VitBlock};
use crate::weights::{Weights, WeightsError};

/// Images of one forward pass: bounds memory, and fixes the order of every sum.
pub(crate) const CHUNK: i64 = 32;

/// An anchor without its head.
#[derive(Debug)]
pub(crate) struct Trunk {
    embed: Embed,
    blocks: Vec<VitBlock>,
    norm: LayerNorm,
}

impl Trunk {
    /// The anchor from `frozen`, under `anchors.{a}.`.
    pub fn new(catalog: &Catalog, frozen: &Weights, anchor: AnchorId) -> Result<Self, WeightsError> {
        let pst = PstSpec::default();
        let source = Source { frozen, trained: None, pst: &pst, precision: Precision::F32 };
        let builder = Builder { catalog, source };
        let blocks = (0..builder.arch(anchor).depth).map(|block| builder.block(anchor, block, None));
        Ok(Self {
            embed: builder.embed(anchor)?,
            blocks: blocks.collect::<Result<_, _>>()?,
            norm: builder.norm(anchor)?,
        })
    }

    /// `images [B, C, H, W]` to the activations [B, N, D] before each block, and after the last.
    pub fn states(&self, images: &Tensor) -> Vec<Tensor> {
        tch::no_grad(|| {
            let mut states = vec![self.embed.forward(images)];
            for block in &self.blocks {
                let next = block.forward(&states[states.len() - 1], Phase::Eval);
                states.push(next);
            }
            states
        })
    }

    /// `images [B, C, H, W]` to the activations [B, N, D] after one block.
    pub fn state_after(&self, images: &Tensor, block: u32) -> Tensor {
        let blocks = &self.blocks[..=block as usize];
        tch::no_grad(|| blocks.iter().fold(self.embed.forward(images), |x, block| block.forward(&x, Phase::Eval)))
    }

    /// Activations `[B, N, D]` before a block to what the head reads, [B, D]; gradients flow through to `x`.
    pub fn features_from(&self, x: &Tensor, block: u32) -> Tensor {
        let (last, front) = self.blocks[block as usize..].split_last().expect("an anchor has blocks");
        let x = front.iter().fold(x.shallow_clone(), |x, block| block.forward(&x, Phase::Eval));
        self.norm.forward(&last.forward_class_token(&x, Phase::Eval).select(1, 0))
    }

    /// `images [B, C, H, W]` to what the head reads, [B, D].
    pub fn features(&self, images: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let (last, front) = self.blocks.split_last().expect("an anchor has blocks");
            let x = front.iter().fold(self.embed.forward(images), |x, block| block.forward(&x, Phase::Eval));
            self.norm.forward(&last.forward_class_token(&x, Phase::Eval).select(1, 0))
        })
    }
}

/// The images in chunks.
pub(crate) fn chunks(images: &Tensor) -> impl Iterator<Item = Tensor> {
    let total = images.size()[0];
    (0..total).step_by(CHUNK as usize).map(move |start| images.narrow(0, start, CHUNK.min(total - start)))
}
