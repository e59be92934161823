//! The vision transformer (TENSOR), as in the figure of Dosovitskiy et al. 2021 and with the names of timm's checkpoints:
//! pre-norm blocks, exact GELU, class token, final norm, linear head.
//!
//! Shapes: B images, C channels, H = W side in pixels, P patch side, N tokens (patches and the class token), D width,
//! h heads, K classes.

use tch::{Kind, Tensor};

use crate::linear::{Cast, Linear, Phase};
use crate::network::{Block, Past};
use crate::weights::Weights;

const NORM_EPS: f64 = 1e-6;

/// Images to tokens: `[B, C, H, H] -> [B, N, D]`.
#[derive(Debug)]
pub(crate) struct Embed {
    /// [1, 1, D]
    pub cls_token: Tensor,
    /// [1, N, D]
    pub pos_embed: Tensor,
    /// Weight [D, C, P, P].
    pub proj: Linear,
    pub patch_size: i64,
}

/// `x + attn(norm1(x))`, then `x + mlp(norm2(x))`.
#[derive(Debug)]
pub(crate) struct VitBlock {
    pub norm1: LayerNorm,
    pub attn: Attention,
    pub norm2: LayerNorm,
    pub mlp: Mlp,
}

/// Multi-head self-attention.
#[derive(Debug)]
pub(crate) struct Attention {
    pub qkv: Linear,
    pub proj: Linear,
    pub num_heads: i64,
}

/// Two linear maps with a GELU between them.
#[derive(Debug)]
pub(crate) struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
}

/// Normalisation over the last dimension.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    pub weight: Tensor,
    pub bias: Tensor,
}

/// Class token to logits: `[B, n, D] -> [B, K]`.
#[derive(Debug)]
pub(crate) struct Head {
    pub norm: LayerNorm,
    pub head: Linear,
}

impl Embed {
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let patches = self.patches(images);
        let proj = &self.proj;
        let width = proj.weight.size()[0];
        let weight = proj.precision.cast(&proj.weight.view([width, -1]));
        let bias = proj.bias.as_ref().map(|bias| proj.precision.cast(bias));
        let x = patches.linear(&weight, bias).to_kind(Kind::Float);
        let cls_token = self.cls_token.expand([images.size()[0], 1, width], false);
        Tensor::cat(&[cls_token, x], 1) + &self.pos_embed
    }

    pub fn merged(&self) -> Self {
        Self {
            cls_token: self.cls_token.detach(),
            pos_embed: self.pos_embed.detach(),
            proj: self.proj.merged(),
            patch_size: self.patch_size,
        }
    }

    pub fn export(&self, weights: &mut Weights) {
        weights.insert("cls_token", self.cls_token.detach());
        weights.insert("pos_embed", self.pos_embed.detach());
        self.proj.export("patch_embed.proj.", weights);
    }

    /// The pixels of each patch as a row `[B, N-1, C P P]`: the convolution with stride P is a matrix product.
    fn patches(&self, images: &Tensor) -> Tensor {
        let (b, c, h, w) = images.size4().expect("images are [B, C, H, W]");
        let p = self.patch_size;
        let grid = images.view([b, c, h / p, p, w / p, p]).permute([0, 2, 4, 1, 3, 5]);
        self.proj.precision.cast(&grid.reshape([b, (h / p) * (w / p), c * p * p]))
    }
}

impl VitBlock {
    fn attend(&self, x: &Tensor, queries: Queries, phase: Phase) -> Tensor {
        let attended = self.attn.forward(&self.norm1.forward(x), queries, phase);
        let x = match queries {
            Queries::All => x + attended,
            Queries::ClassToken => x.narrow(1, 0, 1) + attended,
        };
        &x + self.mlp.forward(&self.norm2.forward(&x), phase)
    }
}

impl Block for VitBlock {
    fn forward(&self, x: &Tensor, phase: Phase) -> Tensor {
        self.attend(x, Queries::All, phase)
    }

    fn forward_last(&self, x: &Tensor, phase: Phase) -> Tensor {
        self.attend(x, Queries::ClassToken, phase)
    }

    fn forward_after(&self, _: &mut Past, x: &Tensor) -> Tensor {
        self.forward(x, Phase::Eval)
    }

    fn merged(&self) -> Box<dyn Block> {
        Box::new(Self {
            norm1: self.norm1.detached(),
            attn: Attention {
                qkv: self.attn.qkv.merged(),
                proj: self.attn.proj.merged(),
                num_heads: self.attn.num_heads,
            },
            norm2: self.norm2.detached(),
            mlp: Mlp { fc1: self.mlp.fc1.merged(), fc2: self.mlp.fc2.merged() },
        })
    }

    fn export(&self, prefix: &str, weights: &mut Weights) {
        self.norm1.export(&format!("{prefix}norm1."), weights);
        self.attn.qkv.export(&format!("{prefix}attn.qkv."), weights);
        self.attn.proj.export(&format!("{prefix}attn.proj."), weights);
        self.norm2.export(&format!("{prefix}norm2."), weights);
        self.mlp.fc1.export(&format!("{prefix}mlp.fc1."), weights);
        self.mlp.fc2.export(&format!("{prefix}mlp.fc2."), weights);
    }
}

/// Whose attention is computed. The head reads the class token only, so the last block needs no other query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queries {
    All,
    ClassToken,
}

impl Attention {
    /// `x [B, N, D] -> [B, n, D]`, n = N or 1 by `queries`.
    fn forward(&self, x: &Tensor, queries: Queries, phase: Phase) -> Tensor {
        let (b, _, d) = x.size3().expect("activations are [B, N, D]");
        // Unbound, not indexed: the backward pass then stacks gradients instead of adding padded ones.
        let parts = match queries {
            Queries::All => self.heads(&self.qkv.forward_parts(x, &(0..3), phase)).unbind(0),
            Queries::ClassToken => {
                let mut parts = self.heads(&self.qkv.forward_parts(&x.narrow(1, 0, 1), &(0..1), phase)).unbind(0);
                parts.extend(self.heads(&self.qkv.forward_parts(x, &(1..3), phase)).unbind(0));
                parts
            }
        };
        let [q, k, v] = &parts[..] else { unreachable!("three parts were projected") };
        let x = Tensor::scaled_dot_product_attention(q, k, v, None::<Tensor>, 0.0, false, None, false);
        self.proj.forward(&x.transpose(1, 2).reshape([b, -1, d]), phase)
    }

    /// `[n, B, N, D] -> [n, B, h, N, D/h]`
    fn heads(&self, x: &Tensor) -> Tensor {
        let (parts, b, n, d) = x.size4().expect("projections are [n, B, N, D]");
        x.view([parts, b, n, self.num_heads, d / self.num_heads]).transpose(2, 3)
    }
}

impl Mlp {
    fn forward(&self, x: &Tensor, phase: Phase) -> Tensor {
        self.fc2.forward(&self.fc1.forward(x, phase).gelu("none"), phase)
    }
}

impl LayerNorm {
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), NORM_EPS, true)
    }

    fn detached(&self) -> Self {
        Self { weight: self.weight.detach(), bias: self.bias.detach() }
    }

    fn export(&self, prefix: &str, weights: &mut Weights) {
        weights.insert(format!("{prefix}weight"), self.weight.detach());
        weights.insert(format!("{prefix}bias"), self.bias.detach());
    }
}

impl Head {
    pub fn forward(&self, x: &Tensor, phase: Phase) -> Tensor {
        self.head.forward(&self.norm.forward(&x.select(1, 0)), phase)
    }

    pub fn merged(&self) -> Self {
        Self { norm: self.norm.detached(), head: self.head.merged() }
    }

    pub fn export(&self, weights: &mut Weights) {
        self.norm.export("norm.", weights);
        self.head.export("head.", weights);
    }
}
