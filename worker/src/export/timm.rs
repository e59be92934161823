//! A lone anchor in timm's words (HANDS): the part of `config.json` that timm's `local-dir:` reads.

use esta_engine::{arch::VitArch, spec::Resize};
use serde::Serialize;

use super::config::Header;

/// timm's `config.json`; classes are in the header, under timm's name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimmConfig {
    architecture: String,
    num_features: u32,
    global_pool: &'static str,
    model_args: ModelArgs,
    pretrained_cfg: PretrainedCfg,
}

/// Arguments of timm's `VisionTransformer`.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct ModelArgs {
    img_size: u32,
    patch_size: u32,
    in_chans: u32,
    embed_dim: u32,
    depth: u32,
    num_heads: u32,
    mlp_ratio: u32,
}

/// How images reach it, and where its ends are.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct PretrainedCfg {
    num_classes: u32,
    input_size: [u32; 3],
    fixed_input_size: bool,
    interpolation: &'static str,
    crop_pct: f64,
    crop_mode: &'static str,
    mean: Vec<f32>,
    std: Vec<f32>,
    first_conv: &'static str,
    classifier: &'static str,
}

impl TimmConfig {
    /// The anchor in timm's words; `preset` is the name it was made from.
    pub fn new(header: &Header, arch: &VitArch, preset: Option<&str>) -> Self {
        Self {
            architecture: architecture(preset).to_owned(),
            num_features: arch.embed_dim,
            global_pool: "token",
            model_args: ModelArgs {
                img_size: arch.image_size,
                patch_size: arch.patch_size,
                in_chans: arch.in_chans,
                embed_dim: arch.embed_dim,
                depth: arch.depth,
                num_heads: arch.num_heads,
                mlp_ratio: arch.mlp_ratio,
            },
            pretrained_cfg: pretrained(header),
        }
    }
}

fn pretrained(header: &Header) -> PretrainedCfg {
    let preprocess = &header.preprocess;
    let (crop_mode, crop_pct) = match preprocess.resize {
        Resize::Direct => ("squash", 1.0),
        Resize::CenterCrop => ("center", 0.875),
    };
    PretrainedCfg {
        num_classes: header.num_classes,
        input_size: header.input_size,
        fixed_input_size: true,
        interpolation: preprocess.interpolation,
        crop_pct,
        crop_mode,
        mean: preprocess.mean.clone(),
        std: preprocess.std.clone(),
        first_conv: "patch_embed.proj",
        classifier: "head",
    }
}

/// timm's own name of the preset if it has one; otherwise any plain vision transformer takes all its arguments from
/// `model_args`.
fn architecture(preset: Option<&str>) -> &str {
    let shape = preset.and_then(|name| name.split('.').next());
    shape.filter(|name| KNOWN.contains(name)).unwrap_or("vit_base_patch16_224")
}

/// The presets that timm registers under the same name.
const KNOWN: [&str; 20] = [
    "deit_base_patch16_224",
    "deit_base_patch16_384",
    "deit_small_patch16_224",
    "deit_tiny_patch16_224",
    "vit_base_patch16_224",
    "vit_base_patch16_384",
    "vit_base_patch32_224",
    "vit_base_patch32_384",
    "vit_base_patch8_224",
    "vit_large_patch16_224",
    "vit_large_patch16_384",
    "vit_large_patch32_224",
    "vit_large_patch32_384",
    "vit_small_patch16_224",
    "vit_small_patch16_384",
    "vit_small_patch32_224",
    "vit_small_patch32_384",
    "vit_small_patch8_224",
    "vit_tiny_patch16_224",
    "vit_tiny_patch16_384",
];
