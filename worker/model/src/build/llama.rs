//! Parts of language models by Hugging Face's names.

use esta_engine::arch::{Arch, LlamaArch};
use esta_engine::cost::Task;
use esta_proto::AnchorId;
use tch::Device;

use super::Builder;
use crate::linear::Linear;
use crate::llama::{Attention, Embed, Head, LlamaBlock, Mlp, RmsNorm, Rope};
use crate::source::LinearShape;
use crate::weights::WeightsError;

/// Positions beyond the training length for which rotations are kept: what generation may use, if the model was made for
/// so many.
const MOST_POSITIONS: u32 = 8192;

/// The rotations of an anchor's positions.
pub(super) fn rope(arch: &Arch, task: Task, device: Device) -> Option<Rope> {
    let arch = arch.as_llama()?;
    let trained = match task {
        Task::Speak { tokens } => tokens,
        Task::Classify { .. } => 0,
    };
    let positions = trained.max(arch.max_position_embeddings.min(MOST_POSITIONS));
    Some(Rope::new(arch, i64::from(positions), device))
}

impl Builder<'_> {
    pub(super) fn token_embed(&self, anchor: AnchorId, arch: &LlamaArch) -> Result<Embed, WeightsError> {
        let name = format!("anchors.{anchor}.model.embed_tokens.weight");
        Ok(Embed { weight: self.source.tensor(&name, &vocabulary(arch))? })
    }

    pub(super) fn llama_block(
        &self,
        (anchor, arch): (AnchorId, &LlamaArch),
        block: u32,
        own: Option<&str>,
    ) -> Result<LlamaBlock, WeightsError> {
        let width = i64::from(arch.hidden_size);
        let hidden = i64::from(arch.intermediate_size);
        let head_dim = i64::from(arch.head_dim);
        let queries = i64::from(arch.num_attention_heads) * head_dim;
        let keys = i64::from(arch.num_key_value_heads) * head_dim;
        let name = |part: &str| format!("anchors.{anchor}.model.layers.{block}.{part}");
        let norm = |part: &str, width| self.source.rms_norm(&name(part), width, arch.rms_norm_eps);
        let map = |part: &str, shape: [i64; 2], biased: bool| {
            let own = own.map(|own| format!("{own}blocks.{block}.{part}"));
            let (name, scale) = (name(part), self.source.pst.scale());
            self.source.linear(&LinearShape { biased, scale, own, ..LinearShape::plain(&name, &shape) })
        };
        let qk_norm = match arch.has_qk_norm() {
            true => Some((norm("self_attn.q_norm", head_dim)?, norm("self_attn.k_norm", head_dim)?)),
            false => None,
        };
        let rope = self.ropes[anchor.index()].as_ref().expect("every language model has rotations");
        Ok(LlamaBlock {
            input_norm: norm("input_layernorm", width)?,
            attn: Attention {
                q: map("self_attn.q_proj", [queries, width], arch.has_qkv_bias())?,
                k: map("self_attn.k_proj", [keys, width], arch.has_qkv_bias())?,
                v: map("self_attn.v_proj", [keys, width], arch.has_qkv_bias())?,
                o: map("self_attn.o_proj", [width, queries], arch.has_o_bias())?,
                qk_norm,
                head_dim,
                rope: rope.shallow_clone(),
            },
            post_norm: norm("post_attention_layernorm", width)?,
            mlp: Mlp {
                gate: map("mlp.gate_proj", [hidden, width], arch.mlp_bias)?,
                up: map("mlp.up_proj", [hidden, width], arch.mlp_bias)?,
                down: map("mlp.down_proj", [width, hidden], arch.mlp_bias)?,
            },
        })
    }

    pub(super) fn final_rms_norm(&self, (anchor, arch): (AnchorId, &LlamaArch)) -> Result<RmsNorm, WeightsError> {
        let name = format!("anchors.{anchor}.model.norm");
        self.source.rms_norm(&name, i64::from(arch.hidden_size), arch.rms_norm_eps)
    }

    /// Of a path that ends in this anchor; a tied head is only the embedding's tensor again where the anchor runs alone.
    pub(super) fn token_head(&self, (anchor, arch): (AnchorId, &LlamaArch), alone: bool) -> Result<Head, WeightsError> {
        let part = if arch.tie_word_embeddings { "model.embed_tokens" } else { "lm_head" };
        let (name, shape) = (format!("anchors.{anchor}.{part}"), vocabulary(arch));
        let head: Linear = self.source.linear(&LinearShape { biased: false, ..LinearShape::plain(&name, &shape) })?;
        let tied = arch.tie_word_embeddings && alone;
        Ok(Head { norm: self.final_rms_norm((anchor, arch))?, head, tied })
    }
}

fn vocabulary(arch: &LlamaArch) -> [i64; 2] {
    [i64::from(arch.vocab_size), i64::from(arch.hidden_size)]
}
