//! What the parts of a decoder of the LLaMA type cost (LAW).
//!
//! Letters: N tokens, D width, F hidden width of the MLP, H heads, G heads of keys and values, d width of a head, V
//! vocabulary.

use super::{Cost, Task};
use crate::arch::LlamaArch;

/// The embedding: a look-up costs no MAC.
pub(super) fn front(arch: &LlamaArch) -> Cost {
    Cost { macs: 0, params: embed_params(arch) }
}

/// One block over N tokens. MACs: q and o 2 N D H d, k and v 2 N D G d, scores and their product with v 2 N^2 H d, MLP
/// 3 N D F. Scores are counted whole, as fvcore counts them, though half of them are never looked at.
pub(super) fn block(arch: &LlamaArch, tokens: u64) -> Cost {
    let (n, d, f) = (tokens, arch.width(), u64::from(arch.intermediate_size));
    let (q, k) = (arch.query_width(), arch.key_width());
    let matrices = 2 * d * q + 2 * d * k + 3 * d * f;
    let biases = [
        (arch.has_qkv_bias(), q + 2 * k),
        (arch.has_o_bias(), d),
        (arch.mlp_bias, 2 * f + d),
        (arch.has_qk_norm(), 2 * u64::from(arch.head_dim)),
    ];
    let vectors: u64 = biases.iter().filter(|(has, _)| *has).map(|(_, size)| size).sum();
    Cost { macs: n * matrices + 2 * n * n * q, params: matrices + 2 * d + vectors }
}

/// Final norm and head over N tokens: N D V.
pub(super) fn tail(arch: &LlamaArch, tokens: u64) -> Cost {
    let matrix = embed_params(arch);
    Cost { macs: tokens * matrix, params: matrix + arch.width() }
}

/// V D.
pub(super) fn embed_params(arch: &LlamaArch) -> u64 {
    u64::from(arch.vocab_size) * arch.width()
}

/// See [`super::bound`].
pub(super) fn bound(arch: &LlamaArch, task: Task) -> f64 {
    let real = |count: u32| f64::from(count);
    let n = real(task.tokens()).max(1.0);
    let (d, heads) = (real(arch.hidden_size), real(arch.num_attention_heads) * real(arch.head_dim));
    let block = 4.0 * (d + 1.0) * heads + 3.0 * (d + 2.0) * real(arch.intermediate_size) + 2.0 * n * heads + 8.0 * d;
    n * (real(arch.num_hidden_layers) * block + 2.0 * d * (real(arch.vocab_size) + 1.0))
}
