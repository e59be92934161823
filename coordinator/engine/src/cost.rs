//! Exact MACs and parameters of a path (LAW; METHOD.md section 1), counted as fvcore counts: one multiply-add is 1,
//! `LayerNorm` is 5 per element, softmax, GELU, additions and reshapes are 0, and so is all else that goes element by
//! element: `RMSNorm`, `SiLU`, rotary embeddings.

mod llama;
mod vit;

pub use vit::{
    block_macs, block_params, embed_params, head_macs, head_params, norm_macs, norm_params, patch_macs, token_params,
};

use crate::arch::Arch;
use crate::catalog::Segment;

/// What a family's networks are to do: the part of their cost that no anchor fixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Tell this many classes of images apart.
    Classify {
        /// Classes C.
        classes: u32,
    },
    /// Say the next token of texts.
    Speak {
        /// Tokens N of the longest text.
        tokens: u32,
    },
}

impl Task {
    /// Classes, where it has any.
    #[must_use]
    pub fn classes(self) -> u32 {
        match self {
            Self::Classify { classes } => classes,
            Self::Speak { .. } => 0,
        }
    }

    /// Tokens of the longest text, where it has any.
    #[must_use]
    pub fn tokens(self) -> u32 {
        match self {
            Self::Classify { .. } => 0,
            Self::Speak { tokens } => tokens,
        }
    }
}

/// What one deployed model costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// MACs of one image, or of one text of the task's longest length.
    pub macs: u64,
    /// Parameters of the merged model: LoRA and stitch biases have gone into the weights they adapt.
    pub params: u64,
}

/// fvcore's count of a `LayerNorm` with affine parameters, per element.
const NORM_MACS: u64 = 5;

/// Cost of the path through `segments`: the first segment's embeddings, the blocks run, one stitching layer between
/// each segment and the next, the last segment's final norm and head. An anchor alone is a path of one segment, and
/// alone may have one matrix for both its ends.
///
/// # Panics
/// When a segment names an anchor that is not in `anchors`, or anchors and task are not of one kind.
#[must_use]
pub fn path_cost(anchors: &[Arch], task: Task, segments: &[Segment]) -> Cost {
    let arch = |segment: &Segment| &anchors[segment.anchor.index()];
    let ends = segments.first().map(arch).zip(segments.last().map(arch));
    let mut total = Cost { macs: 0, params: 0 };
    if let Some((front_arch, end)) = ends {
        total.add(front(front_arch), 1);
        total.add(tail(end, task), 1);
    }
    for segment in segments {
        total.add(block(arch(segment), task), u64::from(segment.last - segment.first) + 1);
    }
    for pair in segments.windows(2) {
        let (from, to) = (arch(&pair[0]), arch(&pair[1]));
        total.add(Cost { macs: layer_macs(from, to, task), params: layer_params(from, to) }, 1);
    }
    if let [alone] = segments {
        total.params -= shared_params(arch(alone));
    }
    total
}

impl Cost {
    fn add(&mut self, part: Cost, times: u64) {
        self.macs += part.macs * times;
        self.params += part.params * times;
    }
}

fn front(arch: &Arch) -> Cost {
    match arch {
        Arch::Vit(arch) => vit::front(arch),
        Arch::Llama(arch) => llama::front(arch),
    }
}

fn block(arch: &Arch, task: Task) -> Cost {
    match arch {
        Arch::Vit(arch) => vit::block(arch),
        Arch::Llama(arch) => llama::block(arch, u64::from(task.tokens())),
    }
}

fn tail(arch: &Arch, task: Task) -> Cost {
    match arch {
        Arch::Vit(arch) => vit::tail(arch, task.classes()),
        Arch::Llama(arch) => llama::tail(arch, u64::from(task.tokens())),
    }
}

/// Parameters that both ends of an anchor share when it runs alone.
fn shared_params(arch: &Arch) -> u64 {
    match arch {
        Arch::Llama(arch) if arch.tie_word_embeddings => llama::embed_params(arch),
        Arch::Llama(_) | Arch::Vit(_) => 0,
    }
}

/// MACs of a stitching layer over all tokens: N `D_from` `D_to`.
#[must_use]
pub fn layer_macs(from: &Arch, to: &Arch, task: Task) -> u64 {
    let tokens = to.as_vit().map_or_else(|| u64::from(task.tokens()), crate::arch::VitArch::tokens);
    tokens * from.width() * to.width()
}

/// Parameters of a stitching layer, weight and bias: `D_from` `D_to` + `D_to`.
#[must_use]
pub fn layer_params(from: &Arch, to: &Arch) -> u64 {
    (from.width() + 1) * to.width()
}

/// An upper bound on both costs of an anchor, in floating point so that no size overflows it. Below 2^53 every count
/// of this module is exact, in `u64` and as `f64`.
pub(crate) fn bound(arch: &Arch, task: Task) -> f64 {
    match arch {
        Arch::Vit(arch) => vit::bound(arch, task.classes()),
        Arch::Llama(arch) => llama::bound(arch, task),
    }
}

#[cfg(test)]
mod tests {
    use esta_proto::AnchorId;

    use super::*;
    use crate::arch::{LlamaArch, VitArch};

    fn alone(arch: &Arch) -> Segment {
        Segment { anchor: AnchorId(0), first: 0, last: arch.depth() - 1 }
    }

    fn cost_alone(arch: &Arch, task: Task) -> Cost {
        path_cost(std::slice::from_ref(arch), task, &[alone(arch)])
    }

    #[test]
    fn a_block_at_ratio_four_is_the_published_formula() {
        let arch = VitArch::preset("vit_small_patch16_224").expect("known");
        let (n, d) = (197, 384);
        assert_eq!(block_macs(&arch), 12 * n * d * d + 2 * n * n * d + 10 * n * d);
        assert_eq!(block_params(&arch), 12 * d * d + 13 * d);
    }

    #[test]
    fn every_dimension_enters_the_cost() {
        // One grey 4x4 image in four 2x2 patches: N = 5, D = 2, one block, MLP width 6, 3 classes; counted by hand.
        let arch =
            VitArch { image_size: 4, patch_size: 2, in_chans: 1, embed_dim: 2, depth: 1, num_heads: 1, mlp_ratio: 3 };
        let cost = cost_alone(&arch.into(), Task::Classify { classes: 3 });
        let (patch, qkv, attention, proj, mlp, norms) = (4 * 2 * 4, 60, 50 + 50, 20, 60 + 60, 2 * 50);
        assert_eq!(cost.macs, patch + qkv + attention + proj + mlp + norms + 50 + 6);
        let (embed, attn, mlp, norms, head) = (8 + 2 + 2 + 10, 12 + 6 + 4 + 2, 12 + 6 + 12 + 2, 8, 4 + 6 + 3);
        assert_eq!(cost.params, embed + attn + mlp + norms + head);
    }

    #[test]
    fn every_dimension_of_a_decoder_enters_its_cost() {
        // D = 6, F = 5, H = 4, G = 2, d = 2, V = 7, one block, N = 3; counted by hand.
        let arch = LlamaArch {
            vocab_size: 7,
            hidden_size: 6,
            intermediate_size: 5,
            num_hidden_layers: 1,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 2,
            ..LlamaArch::preset("llama-7b").expect("shipped")
        };
        let task = Task::Speak { tokens: 3 };
        let cost = cost_alone(&arch.clone().into(), task);
        let (q, kv, attention, o, mlp, head) =
            (3 * 6 * 8, 2 * 3 * 6 * 4, 2 * 9 * 8, 3 * 8 * 6, 3 * 3 * 6 * 5, 3 * 6 * 7);
        assert_eq!(cost.macs, q + kv + attention + o + mlp + head);
        let (attn, mlp, norms, ends) = (48 + 2 * 24 + 48, 90, 12, 42 + 6 + 42);
        assert_eq!(cost.params, attn + mlp + norms + ends);
        let qwen2 = LlamaArch { model_type: crate::arch::ModelType::Qwen2, ..arch.clone() };
        assert_eq!(cost_alone(&qwen2.into(), task).params, cost.params + 8 + 2 * 4);
        let qwen3 = LlamaArch { model_type: crate::arch::ModelType::Qwen3, ..arch.clone() };
        assert_eq!(cost_alone(&qwen3.into(), task).params, cost.params + 4);
        let biased = LlamaArch { attention_bias: true, mlp_bias: true, ..arch.clone() };
        assert_eq!(cost_alone(&biased.into(), task).params, cost.params + 16 + 6 + 16);
        let tied = LlamaArch { tie_word_embeddings: true, ..arch };
        assert_eq!(cost_alone(&tied.into(), task).params, cost.params - 42);
    }

    #[test]
    fn published_sizes_of_language_models_are_met() {
        // Parameters as the models' cards and transformers' num_parameters() give them.
        let published = [
            ("llama-7b", 6_738_415_616),
            ("llama-13b", 13_015_864_320),
            ("llama-3.2-1b", 1_235_814_400),
            ("llama-3.2-3b", 3_212_749_824),
            ("qwen3-0.6b", 596_049_920),
            ("qwen3-1.7b", 1_720_574_976),
            ("qwen3-4b", 4_022_468_096),
            ("qwen3-8b", 8_190_735_360),
            ("smollm2-135m", 134_515_008),
            ("smollm2-360m", 361_821_120),
        ];
        for (name, params) in published {
            let arch = Arch::Llama(LlamaArch::preset(name).expect("shipped"));
            assert_eq!(cost_alone(&arch, Task::Speak { tokens: 512 }).params, params, "{name}");
        }
    }

    #[test]
    fn the_bound_is_above_both_costs() {
        let vits = ["vit_tiny_patch16_224", "vit_large_patch16_384", "vit_base_patch32_224", "vit_base_patch8_224"];
        let vits = vits.map(|name| (VitArch::preset(name).map(Arch::Vit), Task::Classify { classes: 1000 }));
        let llamas = ["llama-7b", "qwen3-8b", "smollm2-135m"];
        let llamas = llamas.map(|name| (LlamaArch::preset(name).map(Arch::Llama), Task::Speak { tokens: 4096 }));
        for (arch, task) in vits.into_iter().chain(llamas) {
            let arch = arch.expect("known");
            let cost = cost_alone(&arch, task);
            let highest = f64::from(u32::try_from(cost.macs.max(cost.params) >> 20).expect("fits")) * 1_048_576.0;
            assert!(bound(&arch, task) > highest, "{arch:?}");
        }
    }
}
