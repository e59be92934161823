//! Vision transformers as numbers (LAW).

use serde::{Deserialize, Serialize};

/// A vision transformer in timm's terms. Presets of [`VitArch::preset`] are timm's own.
///
/// Shapes derived from it: tokens N = (image/patch)^2 + 1, width D = `embed_dim`, MLP width = `mlp_ratio` D.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VitArch {
    /// Side of the square input in pixels.
    #[serde(alias = "img_size")]
    pub image_size: u32,
    /// Side of a patch in pixels; divides `image_size`.
    pub patch_size: u32,
    /// Channels of the input.
    #[serde(default = "three")]
    pub in_chans: u32,
    /// Width D.
    pub embed_dim: u32,
    /// Number of blocks L.
    pub depth: u32,
    /// Attention heads; divides `embed_dim`.
    pub num_heads: u32,
    /// Hidden width of the MLP over D.
    #[serde(default = "four")]
    pub mlp_ratio: u32,
}

fn three() -> u32 {
    3
}

fn four() -> u32 {
    4
}

impl VitArch {
    /// The architecture behind a timm name such as `vit_tiny_patch16_224`, `deit_small_patch16_224` or
    /// `vit_base_patch16_224.augreg_in21k` (the pre-training tag after the dot does not change the shape).
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        let shape = name.split('.').next()?;
        let rest = shape.strip_prefix("vit_").or_else(|| shape.strip_prefix("deit_"))?;
        let (size, rest) = rest.split_once("_patch")?;
        let (patch, image) = rest.split_once('_')?;
        let (embed_dim, depth, num_heads) = match size {
            "tiny" => (192, 12, 3),
            "small" => (384, 12, 6),
            "base" => (768, 12, 12),
            "large" => (1024, 24, 16),
            _ => return None,
        };
        let arch = Self {
            image_size: image.parse().ok()?,
            patch_size: patch.parse().ok()?,
            in_chans: 3,
            embed_dim,
            depth,
            num_heads,
            mlp_ratio: 4,
        };
        arch.flaw().is_none().then_some(arch)
    }

    /// What makes this architecture impossible, if anything does.
    #[must_use]
    pub fn flaw(&self) -> Option<String> {
        let positive = [
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("in_chans", self.in_chans),
            ("embed_dim", self.embed_dim),
            ("depth", self.depth),
            ("num_heads", self.num_heads),
            ("mlp_ratio", self.mlp_ratio),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Some(format!("{name} is 0"));
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return Some(format!("patch_size {} does not divide image_size {}", self.patch_size, self.image_size));
        }
        if !self.embed_dim.is_multiple_of(self.num_heads) {
            return Some(format!("num_heads {} does not divide embed_dim {}", self.num_heads, self.embed_dim));
        }
        None
    }

    /// Tokens N of one image: patches and the class token.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        let side = u64::from(self.image_size / self.patch_size);
        side * side + 1
    }

    /// Width D.
    #[must_use]
    pub fn width(&self) -> u64 {
        u64::from(self.embed_dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_timms() {
        let base = VitArch::preset("vit_base_patch16_224.augreg_in21k").expect("timm knows it");
        assert_eq!((base.embed_dim, base.depth, base.num_heads, base.tokens()), (768, 12, 12, 197));
        assert_eq!(VitArch::preset("deit_tiny_patch16_224").map(|a| a.embed_dim), Some(192));
        assert_eq!(VitArch::preset("vit_huge_patch16_224"), None);
        assert_eq!(VitArch::preset("vit_tiny_patch15_224"), None, "15 does not divide 224");
    }

    #[test]
    fn an_impossible_architecture_says_why() {
        let arch = VitArch { num_heads: 5, ..VitArch::preset("vit_tiny_patch16_224").expect("known") };
        assert_eq!(arch.flaw().as_deref(), Some("num_heads 5 does not divide embed_dim 192"));
    }
}
