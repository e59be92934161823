//! A network is a list of segments over one `Block` trait (TENSOR). It knows neither stitches nor what trains: adaptation
//! is a value inside its linear maps, and what is exported is the same list after `merged`.
//!
//! Shapes: B images, N tokens, D width, K classes.

use tch::Tensor;

use crate::linear::{Linear, Phase};
use crate::vit::{Embed, Head};
use crate::weights::Weights;

/// A residual block: `[B, N, D] -> [B, N, D]`.
pub(crate) trait Block: Send {
    /// All tokens.
    fn forward(&self, x: &Tensor, phase: Phase) -> Tensor;

    /// The class token only, `[B, N, D] -> [B, 1, D]`: all that the head reads of the last block.
    fn forward_class_token(&self, x: &Tensor, phase: Phase) -> Tensor;

    /// The same block with its adaptation folded in.
    fn merged(&self) -> Box<dyn Block>;

    /// Adds its tensors under `prefix`, by their checkpoint names.
    fn export(&self, prefix: &str, weights: &mut Weights);
}

/// Consecutive blocks of one anchor, and the stitching layer that leads to them.
pub(crate) struct Segment {
    /// `None` for the first segment.
    pub entry: Option<Linear>,
    pub blocks: Vec<Box<dyn Block>>,
}

/// One path from images to logits.
pub struct Network {
    pub(crate) embed: Embed,
    pub(crate) segments: Vec<Segment>,
    pub(crate) head: Head,
}

impl Network {
    /// `images [B, C, H, W] -> logits [B, K]`, in single precision.
    ///
    /// # Panics
    /// On images of another shape than the architecture's, and where libtorch fails (out of memory).
    pub fn forward(&self, images: &Tensor, phase: Phase) -> Tensor {
        let mut x = self.embed.forward(images);
        let mut left: usize = self.segments.iter().map(|segment| segment.blocks.len()).sum();
        for segment in &self.segments {
            if let Some(entry) = &segment.entry {
                x = entry.forward(&x, phase);
            }
            for block in &segment.blocks {
                left -= 1;
                x = match left {
                    0 => block.forward_class_token(&x, phase),
                    _ => block.forward(&x, phase),
                };
            }
        }
        self.head.forward(&x, phase)
    }

    /// The same path with every adaptation folded into plain weights; it shares no storage with what trains, nor any
    /// gradient.
    #[must_use]
    pub fn merged(&self) -> Self {
        let segments = self.segments.iter().map(|segment| Segment {
            entry: segment.entry.as_ref().map(Linear::merged),
            blocks: segment.blocks.iter().map(|block| block.merged()).collect(),
        });
        Self { embed: self.embed.merged(), segments: segments.collect(), head: self.head.merged() }
    }

    /// Its tensors by timm's names. Blocks are numbered in order of execution, stitching layers are `stitch_layers.{j}`
    /// for the j-th on the path: a lone anchor is an ordinary timm state.
    pub(crate) fn export(&self, origin: String) -> Weights {
        let mut weights = Weights::new(origin);
        self.embed.export(&mut weights);
        let blocks = self.segments.iter().flat_map(|segment| &segment.blocks);
        for (number, block) in blocks.enumerate() {
            block.export(&format!("blocks.{number}."), &mut weights);
        }
        let entries = self.segments.iter().filter_map(|segment| segment.entry.as_ref());
        for (number, entry) in entries.enumerate() {
            entry.export(&format!("stitch_layers.{number}."), &mut weights);
        }
        self.head.export(&mut weights);
        weights
    }
}
