//! A language model's tensors, by Hugging Face's names.
//!
//! Letters: D width, F hidden width of the MLP, H heads, G heads of keys and values, d width of a head, V vocabulary.

use esta_proto::AnchorId;

use super::{Adapted, Param, param};
use crate::arch::LlamaArch;
use crate::spec::{PstSpec, Target};

/// V D, and the head's too where it is tied.
pub(super) fn embed(anchor: AnchorId, arch: &LlamaArch) -> Vec<Param> {
    vec![param(format!("anchors.{anchor}.model.embed_tokens.weight"), &vocabulary(arch))]
}

/// D.
pub(super) fn norm(anchor: AnchorId, arch: &LlamaArch) -> Vec<Param> {
    vec![param(format!("anchors.{anchor}.model.norm.weight"), &[arch.width()])]
}

/// V D; none of its own where it is tied.
pub(super) fn head(anchor: AnchorId, arch: &LlamaArch) -> Vec<Param> {
    match arch.tie_word_embeddings {
        true => Vec::new(),
        false => vec![param(format!("anchors.{anchor}.lm_head.weight"), &vocabulary(arch))],
    }
}

fn vocabulary(arch: &LlamaArch) -> [u64; 2] {
    [u64::from(arch.vocab_size), arch.width()]
}

/// Norms and maps of a block in the order in which they act.
pub(super) fn whole_block(prefix: &str, arch: &LlamaArch) -> Vec<Param> {
    let norm = |name: &str, width| param(format!("{prefix}.{name}.weight"), &[width]);
    let [q, k, v, o, gate, up, down] = maps(arch);
    let mut params = vec![norm("input_layernorm", arch.width())];
    params.extend([q, k, v].iter().flat_map(|map| map.tensors(prefix)));
    if arch.has_qk_norm() {
        let width = u64::from(arch.head_dim);
        params.extend([norm("self_attn.q_norm", width), norm("self_attn.k_norm", width)]);
    }
    params.extend(o.tensors(prefix));
    params.push(norm("post_attention_layernorm", arch.width()));
    params.extend([gate, up, down].iter().flat_map(|map| map.tensors(prefix)));
    params
}

impl Adapted {
    fn tensors(&self, prefix: &str) -> Vec<Param> {
        let weight = param(format!("{prefix}.{}.weight", self.name), &[self.outputs, self.inputs]);
        let bias = self.biased.then(|| param(format!("{prefix}.{}.bias", self.name), &[self.outputs]));
        std::iter::once(weight).chain(bias).collect()
    }
}

/// The linear maps of a block: q, k, v, o, gate, up, down.
fn maps(arch: &LlamaArch) -> [Adapted; 7] {
    let (d, f, q, k) = (arch.width(), u64::from(arch.intermediate_size), arch.query_width(), arch.key_width());
    let map = |name, inputs, outputs, biased| Adapted { name, parts: None, inputs, outputs, biased };
    [
        map("self_attn.q_proj", d, q, arch.has_qkv_bias()),
        map("self_attn.k_proj", d, k, arch.has_qkv_bias()),
        map("self_attn.v_proj", d, k, arch.has_qkv_bias()),
        map("self_attn.o_proj", q, d, arch.has_o_bias()),
        map("mlp.gate_proj", d, f, arch.mlp_bias),
        map("mlp.up_proj", d, f, arch.mlp_bias),
        map("mlp.down_proj", f, d, arch.mlp_bias),
    ]
}

/// The adapted maps of a block in the order of its flat buffer.
pub(super) fn adapted(arch: &LlamaArch, pst: &PstSpec) -> Vec<Adapted> {
    let targets = [Target::Q, Target::K, Target::V, Target::O, Target::Fc1, Target::Fc1, Target::Fc2];
    let maps = maps(arch).into_iter().zip(targets);
    maps.filter(|(_, target)| pst.targets.contains(target)).map(|(map, _)| map).collect()
}
