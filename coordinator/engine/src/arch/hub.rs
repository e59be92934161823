//! `config.json` as Hugging Face's libraries write it, version 4 and 5 (LAW): what it says of a decoder of the LLaMA type.

use serde::{Deserialize, Deserializer};
use thiserror::Error;

use super::{LlamaArch, ModelType, RopeScaling};

/// The part of a `config.json` that fixes an architecture. Keys it does not know are other programs' business; those that
/// would change what the network computes are known, and refused where they do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct HubConfig {
    model_type: Option<String>,
    vocab_size: Option<u32>,
    hidden_size: Option<u32>,
    intermediate_size: Option<u32>,
    num_hidden_layers: Option<u32>,
    num_attention_heads: Option<u32>,
    /// `null` is not the same as absent.
    #[serde(default, deserialize_with = "given")]
    num_key_value_heads: Option<Option<u32>>,
    head_dim: Option<u32>,
    hidden_act: Option<String>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    /// Version 5's place for both of the above.
    rope_parameters: Option<Rope>,
    partial_rotary_factor: Option<f64>,
    max_position_embeddings: Option<u32>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    use_sliding_window: Option<bool>,
    quantization_config: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Rope {
    rope_type: Option<String>,
    /// Its older name; transformers writes both.
    #[serde(rename = "type")]
    older_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<u32>,
}

/// A value that is there, be it `null`.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// A `config.json` of a network that is not supported, or of none.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum HubConfigFlaw {
    /// A key that every architecture needs.
    #[error("config.json has no {0}")]
    Missing(&'static str),
    /// Another kind of network.
    #[error("model_type {0:?} is not supported; there are llama (SmolLM2 too), qwen2 and qwen3")]
    ModelType(String),
    /// A value that would make it compute something else.
    #[error("{key} {value} is not supported: {supported}")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What is supported.
        supported: &'static str,
    },
    /// The numbers contradict each other.
    #[error("{0}")]
    Impossible(String),
}

impl TryFrom<HubConfig> for LlamaArch {
    type Error = HubConfigFlaw;

    fn try_from(config: HubConfig) -> Result<Self, HubConfigFlaw> {
        let model_type = config.model_type()?;
        config.check()?;
        let need = |value: Option<u32>, key| value.ok_or(HubConfigFlaw::Missing(key));
        let heads = need(config.num_attention_heads, "num_attention_heads")?;
        let hidden_size = need(config.hidden_size, "hidden_size")?;
        let absent = Absent::of(model_type, hidden_size, heads);
        let arch = Self {
            model_type,
            vocab_size: need(config.vocab_size, "vocab_size")?,
            hidden_size,
            intermediate_size: need(config.intermediate_size, "intermediate_size")?,
            num_hidden_layers: need(config.num_hidden_layers, "num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: config.num_key_value_heads.map_or(absent.groups, |groups| groups.unwrap_or(heads)),
            head_dim: config.head_dim.unwrap_or(absent.head_dim),
            rms_norm_eps: config.rms_norm_eps.unwrap_or(1e-6),
            rope_theta: config.theta().unwrap_or(1e4),
            rope_scaling: config.scaling()?,
            max_position_embeddings: config.max_position_embeddings.unwrap_or(absent.positions),
            tie_word_embeddings: config.tie_word_embeddings.unwrap_or(false),
            attention_bias: config.attention_bias.unwrap_or(false) && model_type != ModelType::Qwen2,
            mlp_bias: config.mlp_bias.unwrap_or(false) && model_type == ModelType::Llama,
        };
        match arch.flaw() {
            Some(flaw) => Err(HubConfigFlaw::Impossible(flaw)),
            None => Ok(arch),
        }
    }
}

/// What transformers' configuration classes take absent keys for, where they differ.
struct Absent {
    groups: u32,
    head_dim: u32,
    positions: u32,
}

impl Absent {
    fn of(model_type: ModelType, hidden_size: u32, heads: u32) -> Self {
        let head_dim = hidden_size.checked_div(heads).unwrap_or(0);
        match model_type {
            ModelType::Llama => Self { groups: heads, head_dim, positions: 2048 },
            ModelType::Qwen2 => Self { groups: 32, head_dim, positions: 32_768 },
            ModelType::Qwen3 => Self { groups: 32, head_dim: 128, positions: 32_768 },
        }
    }
}

impl HubConfig {
    fn model_type(&self) -> Result<ModelType, HubConfigFlaw> {
        match self.model_type.as_deref() {
            Some("llama") => Ok(ModelType::Llama),
            Some("qwen2") => Ok(ModelType::Qwen2),
            Some("qwen3") => Ok(ModelType::Qwen3),
            Some(other) => Err(HubConfigFlaw::ModelType(other.to_owned())),
            None => Err(HubConfigFlaw::Missing("model_type")),
        }
    }

    fn check(&self) -> Result<(), HubConfigFlaw> {
        let unsupported = |key, value: String, supported| Err(HubConfigFlaw::Unsupported { key, value, supported });
        match self.hidden_act.as_deref() {
            None | Some("silu" | "swish") => {}
            Some(other) => return unsupported("hidden_act", format!("{other:?}"), "it is silu"),
        }
        match self.partial_rotary_factor {
            Some(share) if share < 1.0 => {
                return unsupported("partial_rotary_factor", share.to_string(), "whole heads are turned");
            }
            _ => {}
        }
        if self.use_sliding_window == Some(true) {
            return unsupported("use_sliding_window", "true".to_owned(), "attention sees all that came before");
        }
        if self.quantization_config.is_some() {
            return unsupported("quantization_config", String::new(), "weights are F32, F16 or BF16");
        }
        Ok(())
    }

    fn theta(&self) -> Option<f64> {
        self.rope_parameters.as_ref().and_then(|rope| rope.rope_theta).or(self.rope_theta)
    }

    fn scaling(&self) -> Result<Option<RopeScaling>, HubConfigFlaw> {
        let Some(rope) = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()) else { return Ok(None) };
        let factor = || rope.factor.ok_or(HubConfigFlaw::Missing("rope_scaling.factor"));
        match rope.rope_type.as_deref().or(rope.older_type.as_deref()) {
            None | Some("default") => Ok(None),
            Some("linear") => Ok(Some(RopeScaling::Linear { factor: factor()? })),
            Some("llama3") => Ok(Some(RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor: rope.low_freq_factor.unwrap_or(1.0),
                high_freq_factor: rope.high_freq_factor.unwrap_or(4.0),
                original_max_position_embeddings: rope
                    .original_max_position_embeddings
                    .ok_or(HubConfigFlaw::Missing("rope_scaling.original_max_position_embeddings"))?,
            })),
            Some(other) => Err(HubConfigFlaw::Unsupported {
                key: "rope_scaling",
                value: format!("{other:?}"),
                supported: "there are default, linear and llama3",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(changes: Value) -> Result<LlamaArch, HubConfigFlaw> {
        let mut config = json!({
            "model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4,
        });
        let Value::Object(changes) = changes else { panic!("changes are an object") };
        for (key, value) in changes {
            config[key] = value;
        }
        serde_json::from_value::<HubConfig>(config).expect("types fit").try_into()
    }

    #[test]
    fn absent_keys_mean_what_transformers_takes_them_for() {
        let arch = read(json!({})).expect("a plain llama");
        assert_eq!((arch.num_key_value_heads, arch.head_dim, arch.tie_word_embeddings), (4, 8, false));
        assert_eq!((arch.rms_norm_eps, arch.rope_theta, arch.rope_scaling), (1e-6, 1e4, None));
    }

    #[test]
    fn absent_keys_of_qwen_mean_what_its_own_classes_take_them_for() {
        let of = |changes: Value| read(changes).expect("it is possible");
        let qwen2 = of(json!({"model_type": "qwen2", "hidden_size": 256, "num_attention_heads": 64}));
        assert_eq!((qwen2.num_key_value_heads, qwen2.head_dim, qwen2.max_position_embeddings), (32, 4, 32_768));
        let qwen3 = of(json!({"model_type": "qwen3", "num_attention_heads": 32}));
        assert_eq!((qwen3.num_key_value_heads, qwen3.head_dim, qwen3.max_position_embeddings), (32, 128, 32_768));
        for model_type in ["llama", "qwen2", "qwen3"] {
            let null = of(json!({"model_type": model_type, "num_key_value_heads": null}));
            assert_eq!(null.num_key_value_heads, 4, "null is as many as there are heads: {model_type}");
        }
        let flaw = read(json!({"model_type": "qwen2"})).expect_err("32 of 4 heads").to_string();
        assert!(flaw.contains("num_key_value_heads 32 does not divide"), "{flaw}");
    }

    #[test]
    fn the_kind_of_rotary_embedding_may_stand_under_both_its_names() {
        let with = |key: &str, rope: Value| read(json!({key: rope}));
        for key in ["rope_scaling", "rope_parameters"] {
            let rope = json!({"rope_type": "linear", "type": "linear", "factor": 2.0, "rope_theta": 1e4});
            let arch = with(key, rope).expect("linear");
            assert_eq!(arch.rope_scaling, Some(RopeScaling::Linear { factor: 2.0 }), "{key}");
            let older = with(key, json!({"type": "linear", "factor": 2.0})).expect("linear");
            assert_eq!(older, arch, "{key}");
            let other = with(key, json!({"rope_type": "linear", "type": "default", "factor": 2.0})).expect("linear");
            assert_eq!(other, arch, "{key}: rope_type is the one that counts");
            let flaw = with(key, json!({"rope_type": "yarn", "type": "yarn", "factor": 4.0})).expect_err("yarn");
            assert!(flaw.to_string().contains("rope_scaling \"yarn\""), "{key}: {flaw}");
        }
    }

    #[test]
    fn both_ways_of_writing_rotary_embeddings_are_one() {
        let llama3 = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        });
        let older = read(json!({"rope_theta": 5e5, "rope_scaling": llama3})).expect("version 4");
        let mut parameters = llama3;
        parameters["rope_theta"] = json!(5e5);
        assert_eq!(older, read(json!({"rope_parameters": parameters})).expect("version 5"));
        assert_eq!(older.rope_theta, 5e5);
        assert!(matches!(older.rope_scaling, Some(RopeScaling::Llama3 { factor: 8.0, .. })));
    }

    #[test]
    fn what_would_compute_something_else_is_refused_by_its_key() {
        let flaws = [
            (json!({"model_type": "gpt2"}), "model_type \"gpt2\" is not supported"),
            (json!({"hidden_act": "gelu"}), "hidden_act \"gelu\""),
            (json!({"rope_scaling": {"type": "yarn", "factor": 4.0}}), "rope_scaling \"yarn\""),
            (json!({"model_type": "qwen2", "use_sliding_window": true}), "use_sliding_window true"),
            (json!({"quantization_config": {"bits": 4}}), "weights are F32, F16 or BF16"),
            (json!({"num_key_value_heads": 3}), "num_key_value_heads 3 does not divide"),
            (json!({"vocab_size": null}), "config.json has no vocab_size"),
        ];
        for (changes, says) in flaws {
            let flaw = read(changes.clone()).expect_err("refused").to_string();
            assert!(flaw.contains(says), "{changes}: {flaw}");
        }
    }
}
