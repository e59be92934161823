//! What the parts of a vision transformer cost (LAW).
//!
//! Letters: N tokens (patches and class token), D width, p patch side, c input channels, m MLP ratio, C classes.

use super::{Cost, NORM_MACS};
use crate::arch::VitArch;

/// Everything in front of the blocks: patch embedding, class token, position embedding.
pub(super) fn front(arch: &VitArch) -> Cost {
    Cost { macs: patch_macs(arch), params: embed_params(arch) }
}

/// One block.
pub(super) fn block(arch: &VitArch) -> Cost {
    Cost { macs: block_macs(arch), params: block_params(arch) }
}

/// Everything behind the blocks: final norm and head.
pub(super) fn tail(arch: &VitArch, num_classes: u32) -> Cost {
    Cost {
        macs: norm_macs(arch) + head_macs(arch, num_classes),
        params: norm_params(arch) + head_params(arch, num_classes),
    }
}

/// MACs of the patch embedding, a convolution over N - 1 patches: (N-1) D c p^2.
#[must_use]
pub fn patch_macs(arch: &VitArch) -> u64 {
    (arch.tokens() - 1) * arch.width() * patch_elements(arch)
}

/// MACs of one block: q, k, v 3ND^2, scores and their product with v 2N^2 D, output projection ND^2, MLP 2m ND^2,
/// two norms 10ND. At m = 4 that is 12ND^2 + 2N^2 D + 10ND.
#[must_use]
pub fn block_macs(arch: &VitArch) -> u64 {
    let (n, d) = (arch.tokens(), arch.width());
    (4 + 2 * u64::from(arch.mlp_ratio)) * n * d * d + 2 * n * n * d + 2 * NORM_MACS * n * d
}

/// MACs of the final norm over all tokens: 5ND.
#[must_use]
pub fn norm_macs(arch: &VitArch) -> u64 {
    NORM_MACS * arch.tokens() * arch.width()
}

/// MACs of the classification head on the class token: CD.
#[must_use]
pub fn head_macs(arch: &VitArch, num_classes: u32) -> u64 {
    u64::from(num_classes) * arch.width()
}

/// Parameters in front of the blocks: patch embedding c p^2 D + D, class token D, position embedding ND.
#[must_use]
pub fn embed_params(arch: &VitArch) -> u64 {
    (patch_elements(arch) + 1) * arch.width() + token_params(arch)
}

/// The part of [`embed_params`] that is no layer: class token D and position embedding ND.
#[must_use]
pub fn token_params(arch: &VitArch) -> u64 {
    (arch.tokens() + 1) * arch.width()
}

/// Parameters of one block: fused qkv 3D^2 + 3D, output projection D^2 + D, MLP 2m D^2 + mD + D, two norms 4D.
/// At m = 4 that is 12D^2 + 13D.
#[must_use]
pub fn block_params(arch: &VitArch) -> u64 {
    let (d, m) = (arch.width(), u64::from(arch.mlp_ratio));
    (4 + 2 * m) * d * d + (9 + m) * d
}

/// Parameters of the final norm: 2D.
#[must_use]
pub fn norm_params(arch: &VitArch) -> u64 {
    2 * arch.width()
}

/// Parameters of the classification head: CD + C.
#[must_use]
pub fn head_params(arch: &VitArch, num_classes: u32) -> u64 {
    u64::from(num_classes) * (arch.width() + 1)
}

/// Input elements of one patch: c p^2.
fn patch_elements(arch: &VitArch) -> u64 {
    u64::from(arch.in_chans) * u64::from(arch.patch_size) * u64::from(arch.patch_size)
}

/// See [`super::bound`].
pub(super) fn bound(arch: &VitArch, num_classes: u32) -> f64 {
    let side = f64::from(arch.image_size / arch.patch_size);
    let (n, d) = (side * side + 1.0, f64::from(arch.embed_dim));
    let patch = f64::from(arch.in_chans) * f64::from(arch.patch_size).powi(2);
    let blocks = f64::from(arch.depth) * 16.0 * n * d * (d * f64::from(arch.mlp_ratio) + n);
    blocks + n * d * (patch + 16.0) + 2.0 * d * f64::from(num_classes)
}
