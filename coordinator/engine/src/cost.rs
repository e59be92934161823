//! Exact MACs and parameters of a path (LAW; METHOD.md section 1), counted as fvcore counts: one multiply-add is 1,
//! `LayerNorm` is 5 per element, softmax, GELU, additions and reshapes are 0.
//!
//! Letters: N tokens (patches and class token), D width, p patch side, c input channels, m MLP ratio, C classes.

use crate::arch::VitArch;
use crate::catalog::Segment;

/// What one deployed model costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// MACs of one image.
    pub macs: u64,
    /// Parameters of the merged model: LoRA and stitch biases have gone into the weights they adapt.
    pub params: u64,
}

/// fvcore's count of a `LayerNorm` with affine parameters, per element.
const NORM_MACS: u64 = 5;

/// Cost of the path through `segments`: the first segment's embeddings, the blocks run, one stitching layer between
/// each segment and the next, the last segment's final norm and head. An anchor alone is a path of one segment.
///
/// # Panics
/// When a segment names an anchor that is not in `anchors`.
#[must_use]
pub fn path_cost(anchors: &[VitArch], num_classes: u32, segments: &[Segment]) -> Cost {
    let arch = |segment: &Segment| &anchors[segment.anchor.index()];
    let ends = segments.first().map(arch).zip(segments.last().map(arch));
    let (mut macs, mut params) = ends.map_or((0, 0), |(front, end)| {
        (
            patch_macs(front) + norm_macs(end) + head_macs(end, num_classes),
            embed_params(front) + norm_params(end) + head_params(end, num_classes),
        )
    });
    for segment in segments {
        let blocks = u64::from(segment.last - segment.first) + 1;
        macs += blocks * block_macs(arch(segment));
        params += blocks * block_params(arch(segment));
    }
    for pair in segments.windows(2) {
        macs += layer_macs(arch(&pair[0]), arch(&pair[1]));
        params += layer_params(arch(&pair[0]), arch(&pair[1]));
    }
    Cost { macs, params }
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

/// MACs of a stitching layer over all tokens: N `D_from` `D_to`.
#[must_use]
pub fn layer_macs(from: &VitArch, to: &VitArch) -> u64 {
    to.tokens() * from.width() * to.width()
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

/// Parameters of a stitching layer, weight and bias: `D_from` `D_to` + `D_to`.
#[must_use]
pub fn layer_params(from: &VitArch, to: &VitArch) -> u64 {
    (from.width() + 1) * to.width()
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

/// An upper bound on both costs of an anchor, in floating point so that no size overflows it. Below 2^53 every count
/// of this module is exact, in `u64` and as `f64`.
pub(crate) fn bound(arch: &VitArch, num_classes: u32) -> f64 {
    let side = f64::from(arch.image_size / arch.patch_size);
    let (n, d) = (side * side + 1.0, f64::from(arch.embed_dim));
    let patch = f64::from(arch.in_chans) * f64::from(arch.patch_size).powi(2);
    let blocks = f64::from(arch.depth) * 16.0 * n * d * (d * f64::from(arch.mlp_ratio) + n);
    blocks + n * d * (patch + 16.0) + 2.0 * d * f64::from(num_classes)
}

#[cfg(test)]
mod tests {
    use esta_proto::AnchorId;

    use super::*;

    fn alone(arch: &VitArch) -> Segment {
        Segment { anchor: AnchorId(0), first: 0, last: arch.depth - 1 }
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
        let cost = path_cost(std::slice::from_ref(&arch), 3, &[alone(&arch)]);
        let (patch, qkv, attention, proj, mlp, norms) = (4 * 2 * 4, 60, 50 + 50, 20, 60 + 60, 2 * 50);
        assert_eq!(cost.macs, patch + qkv + attention + proj + mlp + norms + 50 + 6);
        let (embed, attn, mlp, norms, head) = (8 + 2 + 2 + 10, 12 + 6 + 4 + 2, 12 + 6 + 12 + 2, 8, 4 + 6 + 3);
        assert_eq!(cost.params, embed + attn + mlp + norms + head);
    }

    #[test]
    fn the_bound_is_above_both_costs() {
        for name in ["vit_tiny_patch16_224", "vit_large_patch16_384", "vit_base_patch32_224", "vit_base_patch8_224"] {
            let arch = VitArch::preset(name).expect("known");
            let cost = path_cost(std::slice::from_ref(&arch), 1000, &[alone(&arch)]);
            let highest = f64::from(u32::try_from(cost.macs.max(cost.params) >> 20).expect("fits")) * 1_048_576.0;
            assert!(bound(&arch, 1000) > highest, "{name}");
        }
    }
}
