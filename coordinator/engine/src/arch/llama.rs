//! Decoders of the LLaMA type as numbers (LAW), in the words of Hugging Face's `config.json`: LLaMA, Llama 3.x, SmolLM2,
//! Qwen2/2.5 and Qwen3.
//!
//! Letters: D width, F hidden width of the MLP, H heads, G heads of keys and values, d width of a head, V vocabulary.

use serde::{Deserialize, Serialize};

/// A pre-norm decoder: `RMSNorm`, rotary embeddings, grouped-query attention, a gated MLP with `SiLU`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LlamaArch {
    /// Whose conventions it follows.
    #[serde(default)]
    pub model_type: ModelType,
    /// Rows V of the embedding and of the head, padding included.
    pub vocab_size: u32,
    /// Width D.
    pub hidden_size: u32,
    /// Hidden width F of the MLP.
    pub intermediate_size: u32,
    /// Number of blocks L.
    pub num_hidden_layers: u32,
    /// Attention heads H.
    pub num_attention_heads: u32,
    /// Heads G of keys and values; divides H.
    pub num_key_value_heads: u32,
    /// Width d of a head; even.
    pub head_dim: u32,
    /// What `RMSNorm` adds to the mean square.
    #[serde(default = "epsilon")]
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding's wavelengths.
    #[serde(default = "ten_thousand")]
    pub rope_theta: f64,
    /// How wavelengths are stretched for long contexts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Longest sequence it was made for.
    #[serde(default = "two_thousand")]
    pub max_position_embeddings: u32,
    /// The head is the embedding.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Whether attention's projections carry biases. Qwen2's q, k and v do whatever stands here.
    #[serde(default)]
    pub attention_bias: bool,
    /// Whether the MLP's maps carry biases (LLaMA only).
    #[serde(default)]
    pub mlp_bias: bool,
}

/// Whose conventions a decoder follows: `model_type` of `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ModelType {
    /// LLaMA 1 to 3, and SmolLM2.
    #[default]
    Llama,
    /// Qwen2 and Qwen2.5: q, k and v have biases.
    Qwen2,
    /// Qwen3: queries and keys are normalised head by head.
    Qwen3,
}

impl ModelType {
    /// Its name in `config.json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// How wavelengths of the rotary embedding are stretched, by `rope_type`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "rope_type", rename_all = "snake_case", deny_unknown_fields)]
pub enum RopeScaling {
    /// Llama 3.1's rule: long wavelengths by `factor`, short ones not at all, those between in proportion.
    Llama3 {
        /// How far long wavelengths are stretched.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are short.
        high_freq_factor: f64,
        /// Context of the model before it was stretched.
        original_max_position_embeddings: u32,
    },
    /// All positions divided by `factor`.
    Linear {
        /// How far all wavelengths are stretched.
        factor: f64,
    },
}

fn epsilon() -> f64 {
    1e-6
}

fn ten_thousand() -> f64 {
    1e4
}

fn two_thousand() -> u32 {
    2048
}

impl LlamaArch {
    /// The architecture behind a hub name such as `Qwen/Qwen3-0.6B`, `llama-7b` or `meta-llama/Llama-3.2-1B-Instruct`;
    /// who published it does not matter.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next()?.to_lowercase();
        let name = SUFFIXES.iter().fold(name.as_str(), |name, suffix| name.strip_suffix(suffix).unwrap_or(name));
        let llama = |hidden_size, intermediate_size, depth, heads| Self {
            model_type: ModelType::Llama,
            vocab_size: 32_000,
            hidden_size,
            intermediate_size,
            num_hidden_layers: depth,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim: hidden_size / heads,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            rope_scaling: None,
            max_position_embeddings: 2048,
            tie_word_embeddings: false,
            attention_bias: false,
            mlp_bias: false,
        };
        let llama2 = |arch: Self| Self { rms_norm_eps: 1e-5, max_position_embeddings: 4096, ..arch };
        let llama32 = |arch: Self| Self {
            vocab_size: 128_256,
            num_key_value_heads: 8,
            rms_norm_eps: 1e-5,
            rope_theta: 5e5,
            rope_scaling: Some(RopeScaling::Llama3 {
                factor: 32.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192,
            }),
            max_position_embeddings: 131_072,
            tie_word_embeddings: true,
            ..arch
        };
        let qwen3 = |arch: Self, tied| Self {
            model_type: ModelType::Qwen3,
            vocab_size: 151_936,
            num_key_value_heads: 8,
            head_dim: 128,
            rope_theta: 1e6,
            max_position_embeddings: 40_960,
            tie_word_embeddings: tied,
            ..arch
        };
        let qwen25 = |arch: Self, groups| Self {
            model_type: ModelType::Qwen2,
            vocab_size: 151_936,
            num_key_value_heads: groups,
            rope_theta: 1e6,
            max_position_embeddings: 32_768,
            tie_word_embeddings: true,
            ..arch
        };
        let smollm2 = |arch: Self, groups| Self {
            vocab_size: 49_152,
            num_key_value_heads: groups,
            rms_norm_eps: 1e-5,
            rope_theta: 1e5,
            max_position_embeddings: 8192,
            tie_word_embeddings: true,
            ..arch
        };
        Some(match name {
            "llama-7b" => llama(4096, 11_008, 32, 32),
            "llama-13b" => llama(5120, 13_824, 40, 40),
            "llama-2-7b" => llama2(llama(4096, 11_008, 32, 32)),
            "llama-2-13b" => llama2(llama(5120, 13_824, 40, 40)),
            "llama-3.2-1b" => llama32(llama(2048, 8192, 16, 32)),
            "llama-3.2-3b" => llama32(llama(3072, 8192, 28, 24)),
            "qwen2.5-0.5b" => qwen25(llama(896, 4864, 24, 14), 2),
            "qwen2.5-1.5b" => qwen25(llama(1536, 8960, 28, 12), 2),
            "qwen2.5-3b" => qwen25(llama(2048, 11_008, 36, 16), 2),
            "qwen2.5-7b" => {
                Self { vocab_size: 152_064, tie_word_embeddings: false, ..qwen25(llama(3584, 18_944, 28, 28), 4) }
            }
            "qwen3-0.6b" => qwen3(llama(1024, 3072, 28, 16), true),
            "qwen3-1.7b" => qwen3(llama(2048, 6144, 28, 16), true),
            "qwen3-4b" => qwen3(llama(2560, 9728, 36, 32), true),
            "qwen3-8b" => qwen3(llama(4096, 12_288, 36, 32), false),
            "smollm2-135m" => smollm2(llama(576, 1536, 30, 9), 3),
            "smollm2-360m" => smollm2(llama(960, 2560, 32, 15), 5),
            _ => return None,
        })
    }

    /// What makes this architecture impossible, if anything does.
    #[must_use]
    pub fn flaw(&self) -> Option<String> {
        let positive = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Some(format!("{name} is 0"));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let (groups, heads) = (self.num_key_value_heads, self.num_attention_heads);
            return Some(format!("num_key_value_heads {groups} does not divide num_attention_heads {heads}"));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Some(format!("head_dim {} is odd: rotary embeddings turn pairs", self.head_dim));
        }
        let reals = [("rms_norm_eps", self.rms_norm_eps), ("rope_theta", self.rope_theta)];
        if let Some((name, value)) = reals.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Some(format!("{name} {value} is not positive"));
        }
        if self.mlp_bias && self.model_type != ModelType::Llama {
            return Some(format!("{} has no mlp_bias", self.model_type.name()));
        }
        self.rope_scaling.and_then(RopeScaling::flaw)
    }

    /// The first number that would make this network compute something else than `other`, and both values. How long a context
    /// it was made for is no such number.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        let counts = |arch: &Self| {
            [
                ("vocab_size", arch.vocab_size),
                ("hidden_size", arch.hidden_size),
                ("intermediate_size", arch.intermediate_size),
                ("num_hidden_layers", arch.num_hidden_layers),
                ("num_attention_heads", arch.num_attention_heads),
                ("num_key_value_heads", arch.num_key_value_heads),
                ("head_dim", arch.head_dim),
            ]
            .map(|(key, count)| (key, count.to_string()))
        };
        let others = |arch: &Self| {
            [
                ("model_type", arch.model_type.name().to_owned()),
                ("rms_norm_eps", arch.rms_norm_eps.to_string()),
                ("rope_theta", arch.rope_theta.to_string()),
                ("rope_scaling", format!("{:?}", arch.rope_scaling)),
                ("tie_word_embeddings", arch.tie_word_embeddings.to_string()),
                ("attention_bias", arch.attention_bias.to_string()),
                ("mlp_bias", arch.mlp_bias.to_string()),
            ]
        };
        let all = |arch: &Self| counts(arch).into_iter().chain(others(arch));
        let mut pairs = all(self).zip(all(other));
        let ((key, one), (_, another)) = pairs.find(|(one, another)| one.1 != another.1)?;
        Some(format!("{key} is {one} there and {another} here"))
    }

    /// Width D.
    #[must_use]
    pub fn width(&self) -> u64 {
        u64::from(self.hidden_size)
    }

    /// Width H d of all queries.
    #[must_use]
    pub fn query_width(&self) -> u64 {
        u64::from(self.num_attention_heads) * u64::from(self.head_dim)
    }

    /// Width G d of all keys, and of all values.
    #[must_use]
    pub fn key_width(&self) -> u64 {
        u64::from(self.num_key_value_heads) * u64::from(self.head_dim)
    }

    /// Whether queries, keys and values carry biases.
    #[must_use]
    pub fn has_qkv_bias(&self) -> bool {
        self.attention_bias || self.model_type == ModelType::Qwen2
    }

    /// Whether attention's output projection carries a bias.
    #[must_use]
    pub fn has_o_bias(&self) -> bool {
        self.attention_bias && self.model_type != ModelType::Qwen2
    }

    /// Whether queries and keys are normalised head by head.
    #[must_use]
    pub fn has_qk_norm(&self) -> bool {
        self.model_type == ModelType::Qwen3
    }
}

/// What a hub name may end with without changing the shape.
const SUFFIXES: [&str; 4] = ["-hf", "-instruct", "-chat", "-base"];

impl RopeScaling {
    fn flaw(self) -> Option<String> {
        let factor = match self {
            Self::Linear { factor } | Self::Llama3 { factor, .. } => factor,
        };
        if !(factor.is_finite() && factor >= 1.0) {
            return Some(format!("rope_scaling.factor {factor} is below 1"));
        }
        match self {
            Self::Llama3 { low_freq_factor: low, high_freq_factor: high, .. } if !(low > 0.0 && high > low) => {
                Some(format!("rope_scaling: high_freq_factor {high} is not above low_freq_factor {low}"))
            }
            Self::Llama3 { original_max_position_embeddings: 0, .. } => {
                Some("rope_scaling.original_max_position_embeddings is 0".to_owned())
            }
            Self::Llama3 { .. } | Self::Linear { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::anchor_tensors;

    #[test]
    fn presets_go_by_the_models_own_name() {
        let qwen = LlamaArch::preset("Qwen/Qwen3-0.6B").expect("shipped");
        assert_eq!((qwen.query_width(), qwen.key_width(), qwen.hidden_size), (2048, 1024, 1024));
        assert_eq!(LlamaArch::preset("meta-llama/Llama-3.2-1B-Instruct"), LlamaArch::preset("llama-3.2-1b"));
        assert_eq!(LlamaArch::preset("Llama-2-7b-chat-hf"), LlamaArch::preset("llama-2-7b"));
        assert_eq!(LlamaArch::preset("Qwen/Qwen2.5-1.5B-Instruct"), LlamaArch::preset("qwen2.5-1.5b"));
        assert_eq!(LlamaArch::preset("llama-65b"), None);
    }

    #[test]
    fn published_sizes_of_qwen2_5_are_met() {
        let published = [
            ("Qwen/Qwen2.5-0.5B", 494_032_768),
            ("Qwen/Qwen2.5-1.5B", 1_543_714_304),
            ("Qwen/Qwen2.5-3B", 3_085_938_688),
            ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ];
        for (name, params) in published {
            let tensors = anchor_tensors(&LlamaArch::preset(name).expect("shipped").into());
            let found: u64 = tensors.iter().map(|tensor| tensor.shape.iter().product::<u64>()).sum();
            assert_eq!(found, params, "{name}");
        }
    }

    #[test]
    fn every_preset_is_possible() {
        let llamas = ["llama-7b", "llama-13b", "llama-2-13b", "llama-3.2-3b", "smollm2-360m"];
        let qwens = ["qwen2.5-0.5b", "qwen2.5-1.5b", "qwen2.5-3b", "qwen2.5-7b", "qwen3-4b", "qwen3-8b"];
        for name in llamas.into_iter().chain(qwens) {
            assert_eq!(LlamaArch::preset(name).expect("shipped").flaw(), None, "{name}");
        }
    }

    #[test]
    fn what_computes_something_else_is_told_by_its_key() {
        let seven = |name| LlamaArch::preset(name).expect("shipped");
        let (first, second) = (seven("llama-7b"), seven("llama-2-7b"));
        assert_eq!(second.difference(&first).as_deref(), Some("rms_norm_eps is 0.00001 there and 0.000001 here"));
        let longer = LlamaArch { max_position_embeddings: 9, ..first.clone() };
        assert_eq!(longer.difference(&first), None);
    }

    #[test]
    fn an_impossible_architecture_says_why() {
        let arch = LlamaArch { num_key_value_heads: 3, ..LlamaArch::preset("llama-3.2-1b").expect("shipped") };
        assert_eq!(arch.flaw().as_deref(), Some("num_key_value_heads 3 does not divide num_attention_heads 32"));
        let arch = LlamaArch { head_dim: 63, ..LlamaArch::preset("llama-7b").expect("shipped") };
        assert!(arch.flaw().is_some_and(|flaw| flaw.contains("63 is odd")));
    }
}
