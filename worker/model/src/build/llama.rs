//! Parts of language models by Hugging Face's names.

use esta_engine::arch::{Arch, LlamaArch};
use esta_engine::cost::Task;
use esta_proto::AnchorId;
use tch::Device;

use super::Builder;
use crate::linear::Linear;
use crate::llama::{Attention, Embed, Head, LlamaBlock, Mlp, RmsNorm, Rope};
use crate::source::{LinearShape, Source};
use crate::weights::WeightsError;

/// Positions beyond the training length for which rotations are kept: what generation may use, if the model was made for
/// so many.
pub(crate) const MOST_POSITIONS: u32 = 8192;

/// The rotations of an anchor's positions.
pub(super) fn rope(arch: &Arch, task: Task, device: Device) -> Option<Rope> {
    let arch = arch.as_llama()?;
    let positions = task.tokens().max(arch.max_position_embeddings.min(MOST_POSITIONS));
    Some(Rope::new(arch, i64::from(positions), device))
}

/// Which maps of a block carry biases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Biases {
    pub qkv: bool,
    pub o: bool,
    pub mlp: bool,
}

impl Biases {
    /// As the architecture says.
    pub fn of(arch: &LlamaArch) -> Self {
        Self { qkv: arch.has_qkv_bias(), o: arch.has_o_bias(), mlp: arch.mlp_bias }
    }
}

/// Builds blocks of one architecture.
pub(crate) struct BlockBuilder<'a> {
    pub source: Source<'a>,
    pub arch: &'a LlamaArch,
    pub rope: &'a Rope,
    pub biases: Biases,
    /// Width of a head without the zeros that fill it up.
    pub true_head_dim: u32,
}

impl BlockBuilder<'_> {
    /// The block whose tensors' names begin with `prefix`; `own` is the prefix of the stitch's own tensors on it.
    pub fn block(&self, prefix: &str, own: Option<&str>) -> Result<LlamaBlock, WeightsError> {
        let arch = self.arch;
        let width = i64::from(arch.hidden_size);
        let hidden = i64::from(arch.intermediate_size);
        let head_dim = i64::from(arch.head_dim);
        let queries = i64::from(arch.num_attention_heads) * head_dim;
        let keys = i64::from(arch.num_key_value_heads) * head_dim;
        let norm = |part: &str, width| self.source.rms_norm(&format!("{prefix}{part}"), width, arch.rms_norm_eps);
        // Zeros lower the mean square of a head, so what is added to it is lowered too.
        let eps = arch.rms_norm_eps * (f64::from(self.true_head_dim) / f64::from(arch.head_dim));
        let head_norm = |part: &str| self.source.rms_norm(&format!("{prefix}{part}"), head_dim, eps);
        let map = |part: &str, shape: [i64; 2], biased: bool| {
            let (name, own) = (format!("{prefix}{part}"), own.map(|own| format!("{own}{part}")));
            let scale = self.source.pst.scale();
            self.source.linear(&LinearShape { biased, scale, own, ..LinearShape::plain(&name, &shape) })
        };
        let qk_norm = match arch.has_qk_norm() {
            true => Some((head_norm("self_attn.q_norm")?, head_norm("self_attn.k_norm")?)),
            false => None,
        };
        let Biases { qkv, o, mlp } = self.biases;
        Ok(LlamaBlock {
            input_norm: norm("input_layernorm", width)?,
            attn: Attention {
                q: map("self_attn.q_proj", [queries, width], qkv)?,
                k: map("self_attn.k_proj", [keys, width], qkv)?,
                v: map("self_attn.v_proj", [keys, width], qkv)?,
                o: map("self_attn.o_proj", [width, queries], o)?,
                qk_norm,
                head_dim,
                true_head_dim: i64::from(self.true_head_dim),
                rope: self.rope.shallow_clone(),
            },
            post_norm: norm("post_attention_layernorm", width)?,
            mlp: Mlp {
                gate: map("mlp.gate_proj", [hidden, width], mlp)?,
                up: map("mlp.up_proj", [hidden, width], mlp)?,
                down: map("mlp.down_proj", [width, hidden], mlp)?,
            },
        })
    }
}

/// The embedding of this name, without `.weight`.
pub(crate) fn token_embed(source: &Source<'_>, name: &str, arch: &LlamaArch) -> Result<Embed, WeightsError> {
    Ok(Embed { weight: source.tensor(&format!("{name}.weight"), &vocabulary(arch))? })
}

/// The head of this name behind the norm of that, both without `.weight`.
pub(crate) fn token_head(
    source: &Source<'_>,
    (norm, head): (&str, &str),
    arch: &LlamaArch,
    tied: bool,
) -> Result<Head, WeightsError> {
    let shape = vocabulary(arch);
    let head: Linear = source.linear(&LinearShape { biased: false, ..LinearShape::plain(head, &shape) })?;
    let norm = source.rms_norm(norm, i64::from(arch.hidden_size), arch.rms_norm_eps)?;
    Ok(Head { norm, head, tied })
}

fn vocabulary(arch: &LlamaArch) -> [i64; 2] {
    [i64::from(arch.vocab_size), i64::from(arch.hidden_size)]
}

impl Builder<'_> {
    pub(super) fn anchors_embed(&self, anchor: AnchorId, arch: &LlamaArch) -> Result<Embed, WeightsError> {
        token_embed(&self.source, &format!("anchors.{anchor}.model.embed_tokens"), arch)
    }

    pub(super) fn llama_block(
        &self,
        (anchor, arch): (AnchorId, &LlamaArch),
        block: u32,
        own: Option<&str>,
    ) -> Result<LlamaBlock, WeightsError> {
        let rope = self.ropes[anchor.index()].as_ref().expect("every language model has rotations");
        let own = own.map(|own| format!("{own}blocks.{block}."));
        let builder =
            BlockBuilder { source: self.source, arch, rope, biases: Biases::of(arch), true_head_dim: arch.head_dim };
        builder.block(&format!("anchors.{anchor}.model.layers.{block}."), own.as_deref())
    }

    pub(super) fn final_rms_norm(&self, (anchor, arch): (AnchorId, &LlamaArch)) -> Result<RmsNorm, WeightsError> {
        let name = format!("anchors.{anchor}.model.norm");
        self.source.rms_norm(&name, i64::from(arch.hidden_size), arch.rms_norm_eps)
    }

    /// Of a path that ends in this anchor; a tied head is only the embedding's tensor again where the anchor runs alone.
    pub(super) fn anchors_head(
        &self,
        (anchor, arch): (AnchorId, &LlamaArch),
        alone: bool,
    ) -> Result<Head, WeightsError> {
        let part = if arch.tie_word_embeddings { "model.embed_tokens" } else { "lm_head" };
        let (norm, head) = (format!("anchors.{anchor}.model.norm"), format!("anchors.{anchor}.{part}"));
        token_head(&self.source, (&norm, &head), arch, arch.tie_word_embeddings && alone)
    }
}
