//! Decoders of the LLaMA type (TENSOR), as in the figures of Touvron et al. 2023 and with the names of Hugging Face's
//! checkpoints: pre-norm blocks, `RMSNorm`, rotary embeddings (Su et al. 2021), grouped-query attention (Ainslie et al.
//! 2023), a gated MLP with `SiLU`.
//!
//! Shapes: B texts, N tokens, D width, H heads, G heads of keys and values, d width of a head, V vocabulary, M tokens asked
//! for.

use esta_engine::arch::{LlamaArch, RopeScaling};
use tch::{Device, Kind, Tensor};

use crate::linear::{Cast, Linear, Phase};
use crate::network::{Block, Past};
use crate::weights::Weights;

/// Tokens to activations: `[B, N] -> [B, N, D]`.
#[derive(Debug)]
pub(crate) struct Embed {
    /// [V, D]
    pub weight: Tensor,
}

/// `x + attn(norm(x))`, then `x + mlp(norm(x))`.
#[derive(Debug)]
pub(crate) struct LlamaBlock {
    pub input_norm: RmsNorm,
    pub attn: Attention,
    pub post_norm: RmsNorm,
    pub mlp: Mlp,
}

/// Causal self-attention with fewer heads of keys and values than of queries.
#[derive(Debug)]
pub(crate) struct Attention {
    pub q: Linear,
    pub k: Linear,
    pub v: Linear,
    pub o: Linear,
    /// Of queries and keys, head by head (Qwen3).
    pub qk_norm: Option<(RmsNorm, RmsNorm)>,
    pub head_dim: i64,
    /// Numbers of a head that are not there to fill it up: scores are divided by this one's root.
    pub true_head_dim: i64,
    pub rope: Rope,
}

/// `down(silu(gate(x)) * up(x))`.
#[derive(Debug)]
pub(crate) struct Mlp {
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
}

/// Division by the root of the mean square over the last dimension.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    pub weight: Tensor,
    pub eps: f64,
}

/// Activations to logits: `[M, D] -> [M, V]`.
#[derive(Debug)]
pub(crate) struct Head {
    pub norm: RmsNorm,
    /// [V, D]; the embedding itself where it is tied.
    pub head: Linear,
    /// Whether the head has a tensor of its own in a checkpoint.
    pub tied: bool,
}

/// The rotations of an anchor's positions, shared by its blocks: both [T, d] for T positions.
#[derive(Debug)]
pub(crate) struct Rope {
    pub cos: Tensor,
    pub sin: Tensor,
}

impl Embed {
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        Tensor::embedding(&self.weight, ids, -1, false, false).to_kind(Kind::Float)
    }

    pub fn merged(&self) -> Self {
        Self { weight: self.weight.detach() }
    }

    pub fn export(&self, weights: &mut Weights) {
        weights.insert("model.embed_tokens.weight", self.weight.detach());
    }
}

impl LlamaBlock {
    fn run(&self, x: &Tensor, past: Option<&mut Past>, phase: Phase) -> Tensor {
        let x = x + self.attn.forward(&self.input_norm.forward(x), past, phase);
        &x + self.mlp.forward(&self.post_norm.forward(&x), phase)
    }
}

impl Block for LlamaBlock {
    fn forward(&self, x: &Tensor, phase: Phase) -> Tensor {
        self.run(x, None, phase)
    }

    fn forward_after(&self, past: &mut Past, x: &Tensor) -> Tensor {
        self.run(x, Some(past), Phase::Eval)
    }

    fn positions(&self) -> Option<i64> {
        Some(self.attn.rope.cos.size()[0])
    }

    fn merged(&self) -> Box<dyn Block> {
        let Attention { q, k, v, o, qk_norm, head_dim, true_head_dim, rope } = &self.attn;
        Box::new(Self {
            input_norm: self.input_norm.detached(),
            attn: Attention {
                q: q.merged(),
                k: k.merged(),
                v: v.merged(),
                o: o.merged(),
                qk_norm: qk_norm.as_ref().map(|(q, k)| (q.detached(), k.detached())),
                head_dim: *head_dim,
                true_head_dim: *true_head_dim,
                rope: rope.shallow_clone(),
            },
            post_norm: self.post_norm.detached(),
            mlp: Mlp { gate: self.mlp.gate.merged(), up: self.mlp.up.merged(), down: self.mlp.down.merged() },
        })
    }

    fn export(&self, prefix: &str, weights: &mut Weights) {
        self.input_norm.export(&format!("{prefix}input_layernorm."), weights);
        self.attn.q.export(&format!("{prefix}self_attn.q_proj."), weights);
        self.attn.k.export(&format!("{prefix}self_attn.k_proj."), weights);
        self.attn.v.export(&format!("{prefix}self_attn.v_proj."), weights);
        self.attn.o.export(&format!("{prefix}self_attn.o_proj."), weights);
        if let Some((q, k)) = &self.attn.qk_norm {
            q.export(&format!("{prefix}self_attn.q_norm."), weights);
            k.export(&format!("{prefix}self_attn.k_norm."), weights);
        }
        self.post_norm.export(&format!("{prefix}post_attention_layernorm."), weights);
        self.mlp.gate.export(&format!("{prefix}mlp.gate_proj."), weights);
        self.mlp.up.export(&format!("{prefix}mlp.up_proj."), weights);
        self.mlp.down.export(&format!("{prefix}mlp.down_proj."), weights);
    }
}

impl Attention {
    /// `x [B, N, D] -> [B, N, D]`, each token with those before it and with all of `past`.
    fn forward(&self, x: &Tensor, past: Option<&mut Past>, phase: Phase) -> Tensor {
        let (b, n, _) = x.size3().expect("activations are [B, N, D]");
        let x = self.q.precision.cast(x);
        let seen = past.as_ref().map_or(0, |past| past.len());
        let (q, k) = (self.heads(&self.q, &x, phase), self.heads(&self.k, &x, phase));
        let (q, k) = match &self.qk_norm {
            Some((q_norm, k_norm)) => (q_norm.forward_as(&q), k_norm.forward_as(&k)),
            None => (q, k),
        };
        let (q, k) = (self.rope.turn(&q, seen), self.rope.turn(&k, seen));
        let v = self.heads(&self.v, &x, phase);
        let (k, v) = match past {
            Some(past) => past.extend(&k, &v),
            None => (k, v),
        };
        let groups = q.size()[1] / k.size()[1];
        let (k, v) = (repeated(&k, groups), repeated(&v, groups));
        // With a past the first row of scores sees all of it, which libtorch's own causal mask cannot say.
        let mask = (seen > 0 && n > 1).then(|| causal_mask(n, seen, x.device()));
        // Libtorch's own factor where it is the right one.
        let filled_up = self.true_head_dim != self.head_dim;
        let scale = filled_up.then(|| (self.true_head_dim as f64).sqrt().recip());
        let attended = Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, seen == 0 && n > 1, scale, false);
        self.o.forward(&attended.transpose(1, 2).reshape([b, n, -1]), phase)
    }

    /// `[B, N, D] -> [B, h, N, d]` in the precision's kind.
    fn heads(&self, map: &Linear, x: &Tensor, phase: Phase) -> Tensor {
        let y = map.product(x, phase);
        let (b, n, width) = y.size3().expect("projections are [B, N, h d]");
        y.view([b, n, width / self.head_dim, self.head_dim]).transpose(1, 2)
    }
}

/// Every head `groups` times, next to itself: `[B, G, N, d] -> [B, H, N, d]`.
fn repeated(x: &Tensor, groups: i64) -> Tensor {
    if groups == 1 {
        return x.shallow_clone();
    }
    let (b, g, n, d) = x.size4().expect("keys and values are [B, G, N, d]");
    x.unsqueeze(2).expand([b, g, groups, n, d], false).reshape([b, g * groups, n, d])
}

/// What each of `n` tokens sees when `seen` came before: `[n, seen + n]`.
fn causal_mask(n: i64, seen: i64, device: Device) -> Tensor {
    Tensor::ones([n, seen + n], (Kind::Bool, device)).tril(seen)
}

impl Mlp {
    fn forward(&self, x: &Tensor, phase: Phase) -> Tensor {
        let x = self.gate.precision.cast(x);
        // By itself: what goes into it is let go of before there is more, where nobody has to come back for it.
        let gated = self.gate.product(&x, phase).silu();
        self.down.forward(&(gated * self.up.product(&x, phase)), phase)
    }
}

impl RmsNorm {
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.rms_norm(self.weight.size(), Some(&self.weight), self.eps)
    }

    /// In single precision, then back in the kind it came in.
    fn forward_as(&self, x: &Tensor) -> Tensor {
        self.forward(&x.to_kind(Kind::Float)).to_kind(x.kind())
    }

    fn detached(&self) -> Self {
        Self { weight: self.weight.detach(), eps: self.eps }
    }

    fn export(&self, prefix: &str, weights: &mut Weights) {
        weights.insert(format!("{prefix}weight"), self.weight.detach());
    }
}

impl Head {
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.head.forward(&self.norm.forward(x), Phase::Eval)
    }

    pub fn merged(&self) -> Self {
        Self { norm: self.norm.detached(), head: self.head.merged(), tied: self.tied }
    }

    pub fn export(&self, weights: &mut Weights) {
        self.norm.export("model.norm.", weights);
        if !self.tied {
            self.head.export("lm_head.", weights);
        }
    }
}

impl Rope {
    /// The rotations of `positions` positions: position p turns pair i by p base^(-2i/d), stretched as the architecture
    /// says. Computed in single precision, as the checkpoints' own libraries do.
    pub fn new(arch: &LlamaArch, positions: i64, device: Device) -> Self {
        let d = i64::from(arch.head_dim);
        let options = (Kind::Float, Device::Cpu);
        let exponents = Tensor::arange_start_step(0, d, 2, options) / d as f64;
        let frequencies = Tensor::full([d / 2], arch.rope_theta, options).pow(&exponents).reciprocal();
        let frequencies = match arch.rope_scaling {
            Some(scaling) => stretched(&frequencies, scaling),
            None => frequencies,
        };
        let angles = Tensor::arange(positions, options).outer(&frequencies);
        let angles = Tensor::cat(&[&angles, &angles], 1);
        Self { cos: angles.cos().to_device(device), sin: angles.sin().to_device(device) }
    }

    /// The same for heads of `width` numbers, those that fill up each half not turned.
    pub fn filled_up(&self, width: i64) -> Self {
        let more = (width - self.cos.size()[1]) / 2;
        let fill = |table: &Tensor, with: f64| {
            let halves = table.chunk(2, 1).iter().map(|half| half.pad([0, more], "constant", with)).collect::<Vec<_>>();
            Tensor::cat(&halves, 1)
        };
        Self { cos: fill(&self.cos, 1.0), sin: fill(&self.sin, 0.0) }
    }

    pub fn shallow_clone(&self) -> Self {
        Self { cos: self.cos.shallow_clone(), sin: self.sin.shallow_clone() }
    }

    /// Turns `x [B, h, N, d]`, whose first token is at position `first`.
    fn turn(&self, x: &Tensor, first: i64) -> Tensor {
        let n = x.size()[2];
        let rows = |table: &Tensor| table.narrow(0, first, n).to_kind(x.kind());
        let halves = x.chunk(2, -1);
        let crossed = Tensor::cat(&[&-&halves[1], &halves[0]], -1);
        x * rows(&self.cos) + crossed * rows(&self.sin)
    }
}

/// Frequencies for a longer context than the model was made for.
fn stretched(frequencies: &Tensor, scaling: RopeScaling) -> Tensor {
    match scaling {
        RopeScaling::Linear { factor } => frequencies / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let original = f64::from(original_max_position_embeddings);
            let wavelengths = frequencies.reciprocal() * std::f64::consts::TAU;
            let share = (wavelengths.reciprocal() * original - low_freq_factor) / (high_freq_factor - low_freq_factor);
            let between = (share.neg() + 1.0) * frequencies / factor + &share * frequencies;
            let long = wavelengths.gt(original / low_freq_factor);
            let short = wavelengths.lt(original / high_freq_factor);
            let far = frequencies / factor;
            far.where_self(&long, &frequencies.where_self(&short, &between))
        }
    }
}
