//! A network is a list of segments over one `Block` trait (TENSOR). It knows neither stitches nor what trains: adaptation
//! is a value inside its linear maps, and what is exported is the same list after `merged`.
//!
//! Shapes: B images or texts, N tokens, D width, K classes, V vocabulary, M tokens that are asked for.

use tch::{Device, Kind, Tensor};

use crate::input::Input;
use crate::linear::{Linear, Phase};
use crate::weights::Weights;
use crate::{llama, vit};

/// A residual block: `[B, N, D] -> [B, N, D]`.
pub(crate) trait Block: Send {
    /// All tokens.
    fn forward(&self, x: &Tensor, phase: Phase) -> Tensor;

    /// What the network's tail reads of its last block: all tokens, or the class token only, `[B, 1, D]`.
    fn forward_last(&self, x: &Tensor, phase: Phase) -> Tensor {
        self.forward(x, phase)
    }

    /// Tokens that follow those of `past`, which grows by them. A block that sees all its tokens at once has no past.
    fn forward_after(&self, past: &mut Past, x: &Tensor) -> Tensor;

    /// The same block with its adaptation folded in.
    fn merged(&self) -> Box<dyn Block>;

    /// Adds its tensors under `prefix`, by their checkpoint names.
    fn export(&self, prefix: &str, weights: &mut Weights);

    /// Positions it can tell apart; none where it does not number its tokens.
    fn positions(&self) -> Option<i64> {
        None
    }
}

/// Keys and values of the tokens that an executed block has seen.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Both [B, G, N, d]; none before the first token.
    pub keys_values: Option<(Tensor, Tensor)>,
}

impl Past {
    /// Tokens seen.
    pub fn len(&self) -> i64 {
        self.keys_values.as_ref().map_or(0, |(keys, _)| keys.size()[2])
    }

    /// All keys and values, those of further tokens included.
    pub fn extend(&mut self, keys: &Tensor, values: &Tensor) -> (Tensor, Tensor) {
        let (keys, values) = match self.keys_values.take() {
            Some((k, v)) => (Tensor::cat(&[&k, keys], 2), Tensor::cat(&[&v, values], 2)),
            None => (keys.shallow_clone(), values.shallow_clone()),
        };
        self.keys_values = Some((keys.shallow_clone(), values.shallow_clone()));
        (keys, values)
    }
}

/// Everything in front of the blocks.
#[derive(Debug)]
pub(crate) enum Front {
    Patches(vit::Embed),
    Tokens(llama::Embed),
}

/// Everything behind the blocks.
#[derive(Debug)]
pub(crate) enum Tail {
    Classes(vit::Head),
    Tokens(llama::Head),
}

/// Consecutive blocks of one anchor, and the stitching layer that leads to them.
pub(crate) struct Segment {
    /// `None` for the first segment.
    pub entry: Option<Linear>,
    pub blocks: Vec<Box<dyn Block>>,
}

/// One path from images or tokens to logits.
pub struct Network {
    pub(crate) front: Front,
    pub(crate) segments: Vec<Segment>,
    pub(crate) tail: Tail,
}

/// A block on a path, with the stitching layer in front of it.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    entry: Option<&'a Linear>,
    block: &'a dyn Block,
    is_last: bool,
}

impl Stage<'_> {
    pub fn forward(&self, x: &Tensor, phase: Phase) -> Tensor {
        let entered = self.entry.map(|entry| entry.forward(x, phase));
        let x = entered.as_ref().unwrap_or(x);
        match self.is_last {
            true => self.block.forward_last(x, phase),
            false => self.block.forward(x, phase),
        }
    }

    pub fn forward_after(&self, past: &mut Past, x: &Tensor) -> Tensor {
        let entered = self.entry.map(|entry| entry.forward(x, Phase::Eval));
        self.block.forward_after(past, entered.as_ref().unwrap_or(x))
    }
}

impl Network {
    /// Images `[B, C, H, W]` to logits `[B, K]`, or texts `[B, N]` to the logits `[M, V]` of the tokens asked for; in single
    /// precision.
    ///
    /// # Panics
    /// On images of another shape than the architecture's, texts longer than its rotary tables, another kind of input, and
    /// where libtorch fails (out of memory).
    pub fn forward(&self, input: &Input, phase: Phase) -> Tensor {
        let embedded = self.front.forward(input);
        let x = self.stages().fold(embedded, |x, stage| stage.forward(&x, phase));
        self.tail.forward(&x, input, phase)
    }

    /// Evaluates the path ended after its first `blocks` blocks, or where it ends: what follows is the tail at once. All inputs
    /// go through a block before any goes through the next, so that blocks which take turns are brought once; `each` hears the
    /// logits of one after the other.
    ///
    /// # Panics
    /// As [`Self::forward`], and where the tail is as wide as another anchor's blocks.
    pub fn evaluate(&self, inputs: &[Input], blocks: Option<usize>, mut each: impl FnMut(&Input, Tensor)) {
        tch::no_grad(|| {
            let mut states: Vec<Tensor> = inputs.iter().map(|input| self.front.forward(input)).collect();
            for stage in self.stages().take(blocks.unwrap_or(usize::MAX)) {
                states.iter_mut().for_each(|x| *x = stage.forward(x, Phase::Eval));
            }
            for (input, x) in inputs.iter().zip(states) {
                each(input, self.tail.forward(&x, input, Phase::Eval));
            }
        });
    }

    /// Its blocks in order of execution.
    pub(crate) fn stages(&self) -> impl Iterator<Item = Stage<'_>> {
        let last = self.depth() - 1;
        let stages = self.segments.iter().flat_map(|segment| {
            let entries = std::iter::once(segment.entry.as_ref()).chain(std::iter::repeat(None));
            segment.blocks.iter().zip(entries)
        });
        stages.enumerate().map(move |(i, (block, entry))| Stage { entry, block: &**block, is_last: i == last })
    }

    /// Blocks it executes.
    pub(crate) fn depth(&self) -> usize {
        self.segments.iter().map(|segment| segment.blocks.len()).sum()
    }

    /// Tokens of the longest text it can read.
    pub(crate) fn positions(&self) -> i64 {
        let blocks = self.segments.iter().flat_map(|segment| &segment.blocks);
        blocks.filter_map(|block| block.positions()).min().unwrap_or(i64::MAX)
    }

    /// Rows of its embedding.
    pub(crate) fn sayable(&self) -> i64 {
        match &self.front {
            Front::Patches(_) => 0,
            Front::Tokens(embed) => embed.weight.size()[0],
        }
    }

    pub(crate) fn device(&self) -> Device {
        match &self.front {
            Front::Patches(embed) => embed.cls_token.device(),
            Front::Tokens(embed) => embed.weight.device(),
        }
    }

    /// The same path with every adaptation folded into plain weights; it shares no storage with what trains, nor any
    /// gradient.
    #[must_use]
    pub fn merged(&self) -> Self {
        let segments = self.segments.iter().map(|segment| Segment {
            entry: segment.entry.as_ref().map(Linear::merged),
            blocks: segment.blocks.iter().map(|block| block.merged()).collect(),
        });
        Self { front: self.front.merged(), segments: segments.collect(), tail: self.tail.merged() }
    }

    /// The tensors of [`Self::merged`] by timm's or Hugging Face's names, one block after the other. Blocks are numbered in
    /// order of execution, stitching layers are `stitch_layers.{j}` for the j-th on the path: a lone anchor is an ordinary state.
    /// They lie in the host's memory, and one block at a time on the device.
    pub(crate) fn merged_weights(&self, origin: String) -> Weights {
        let mut weights = Weights::on_host(origin);
        self.front.merged().export(&mut weights);
        let (blocks_name, layers_name) = match self.front {
            Front::Patches(_) => ("blocks", "stitch_layers"),
            Front::Tokens(_) => ("model.layers", "model.stitch_layers"),
        };
        let blocks = self.segments.iter().flat_map(|segment| &segment.blocks);
        for (number, block) in blocks.enumerate() {
            block.merged().export(&format!("{blocks_name}.{number}."), &mut weights);
        }
        let entries = self.segments.iter().filter_map(|segment| segment.entry.as_ref());
        for (number, entry) in entries.enumerate() {
            entry.merged().export(&format!("{layers_name}.{number}."), &mut weights);
        }
        self.tail.merged().export(&mut weights);
        weights
    }
}

impl Front {
    pub fn forward(&self, input: &Input) -> Tensor {
        match (self, input) {
            (Self::Patches(embed), Input::Images(images)) => embed.forward(images),
            (Self::Tokens(embed), Input::Texts(texts)) => embed.forward(&texts.ids),
            (Self::Patches(_), Input::Texts(_)) | (Self::Tokens(_), Input::Images(_)) => {
                panic!("a network takes what its anchors were made for")
            }
        }
    }

    fn merged(&self) -> Self {
        match self {
            Self::Patches(embed) => Self::Patches(embed.merged()),
            Self::Tokens(embed) => Self::Tokens(embed.merged()),
        }
    }

    fn export(&self, weights: &mut Weights) {
        match self {
            Self::Patches(embed) => embed.export(weights),
            Self::Tokens(embed) => embed.export(weights),
        }
    }
}

impl Tail {
    pub fn forward(&self, x: &Tensor, input: &Input, phase: Phase) -> Tensor {
        match (self, input) {
            (Self::Classes(head), _) => head.forward(x, phase),
            (Self::Tokens(head), Input::Texts(texts)) => {
                // Only what is asked for: a vocabulary is wide, and most tokens of a prompt are not learned.
                head.forward(&x.flatten(0, 1).index_select(0, &texts.reads))
            }
            (Self::Tokens(_), Input::Images(_)) => panic!("a network takes what its anchors were made for"),
        }
    }

    fn merged(&self) -> Self {
        match self {
            Self::Classes(head) => Self::Classes(head.merged()),
            Self::Tokens(head) => Self::Tokens(head.merged()),
        }
    }

    fn export(&self, weights: &mut Weights) {
        match self {
            Self::Classes(head) => head.export(weights),
            Self::Tokens(head) => head.export(weights),
        }
    }
}

/// Cross entropy of logits `[M, K]` with labels `[M]`: their mean, in single precision.
pub(crate) fn mean_loss(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Tensor {
    debug_assert_eq!(logits.kind(), Kind::Float, "logits are in single precision");
    logits.cross_entropy_loss::<Tensor>(labels, None, tch::Reduction::Mean, -100, smoothing)
}
