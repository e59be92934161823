//! Pre-trained vision transformers on disk (TENSOR): timm's names and shapes, checked one by one, position embeddings
//! resized where the grid differs.

use std::path::Path;

use esta_engine::arch::VitArch;
use tch::Tensor;

use crate::params::signed;
use crate::weights::{Weights, WeightsError};

/// What becomes of the classification head of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceHead {
    /// The target task brings its own.
    Drop,
    /// It classifies the source's own classes, this many.
    Keep(u32),
}

/// Reads an anchor: a safetensors file with timm's names, or a folder holding `model.safetensors`. f16 and bf16 become
/// f32; position embeddings of another grid are resized as timm does (bicubic, antialiased).
///
/// # Errors
/// [`WeightsError`] naming file and tensor, for a shape both shapes: for a missing, misshapen or unplaceable tensor, and
/// for one with a value that is not finite.
pub fn read_vit(path: &Path, arch: &VitArch, head: SourceHead) -> Result<Weights, WeightsError> {
    let mut file = Weights::read(path)?;
    let classes = match head {
        SourceHead::Drop => None,
        SourceHead::Keep(classes) => Some(classes),
    };
    resize_pos_embed(&mut file, arch);
    let mut weights = Weights::new(file.origin());
    for (name, shape) in tensor_shapes(arch, classes) {
        if file.expect(&name, &shape)?.isfinite().all().int64_value(&[]) == 0 {
            return Err(WeightsError::NotFinite { origin: file.origin().to_owned(), name });
        }
        weights.insert(name.clone(), file.remove(&name).expect("it was found a line above"));
    }
    match file.iter().find(|(name, _)| !is_head(name)) {
        None => Ok(weights),
        Some((name, _)) => Err(WeightsError::Unexpected {
            origin: file.origin().to_owned(),
            name: name.to_owned(),
            network: "vision transformer",
        }),
    }
}

/// Names and shapes of a vision transformer in timm's state, without or with a head.
#[must_use]
pub fn tensor_shapes(arch: &VitArch, num_classes: Option<u32>) -> Vec<(String, Vec<i64>)> {
    let width = i64::from(arch.embed_dim);
    let patch = i64::from(arch.patch_size);
    let mut shapes = vec![
        ("cls_token".to_owned(), vec![1, 1, width]),
        ("pos_embed".to_owned(), vec![1, signed(arch.tokens()), width]),
        ("patch_embed.proj.weight".to_owned(), vec![width, i64::from(arch.in_chans), patch, patch]),
        ("patch_embed.proj.bias".to_owned(), vec![width]),
    ];
    shapes.extend((0..arch.depth).flat_map(|block| block_shapes(block, arch)));
    shapes.extend(pair("norm", &[width]));
    shapes.extend(num_classes.into_iter().flat_map(|classes| pair("head", &[i64::from(classes), width])));
    shapes
}

fn block_shapes(block: u32, arch: &VitArch) -> impl Iterator<Item = (String, Vec<i64>)> {
    let width = i64::from(arch.embed_dim);
    let hidden = width * i64::from(arch.mlp_ratio);
    let parts: [(&str, &[i64]); 6] = [
        ("norm1", &[width]),
        ("attn.qkv", &[3 * width, width]),
        ("attn.proj", &[width, width]),
        ("norm2", &[width]),
        ("mlp.fc1", &[hidden, width]),
        ("mlp.fc2", &[width, hidden]),
    ];
    parts.map(|(part, shape)| pair(&format!("blocks.{block}.{part}"), shape)).into_iter().flatten()
}

/// A weight and the bias of its first dimension.
fn pair(name: &str, shape: &[i64]) -> [(String, Vec<i64>); 2] {
    [(format!("{name}.weight"), shape.to_vec()), (format!("{name}.bias"), vec![shape[0]])]
}

/// Heads and what older checkpoints have between norm and head.
fn is_head(name: &str) -> bool {
    name.starts_with("head.") || name.starts_with("pre_logits.")
}

/// timm's `resample_abs_pos_embed`: the class token's embedding stays, the others are a square grid. What is no such
/// grid of this width is left for the check of shapes.
fn resize_pos_embed(file: &mut Weights, arch: &VitArch) {
    let Some(pos_embed) = file.get("pos_embed") else { return };
    let Ok((1, tokens, width)) = pos_embed.size3() else { return };
    let old = signed((tokens - 1).unsigned_abs().isqrt());
    let new = i64::from(arch.image_size / arch.patch_size);
    if old == new || old == 0 || old * old + 1 != tokens || width != i64::from(arch.embed_dim) {
        return;
    }
    let class_token = pos_embed.narrow(1, 0, 1);
    let grid = pos_embed.narrow(1, 1, old * old).reshape([1, old, old, width]).permute([0, 3, 1, 2]);
    let grid = grid.internal_upsample_bicubic2d_aa([new, new], false, None, None);
    let grid = grid.permute([0, 2, 3, 1]).reshape([1, new * new, width]);
    let resized = Tensor::cat(&[class_token, grid], 1);
    file.insert("pos_embed", resized);
}
