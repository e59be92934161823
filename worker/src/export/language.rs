//! Language models as Hugging Face folders (HANDS): a stitched one with the modelling file that transformers loads it by, a
//! lone anchor as its ordinary architecture where that has a place for every tensor.
//!
//! ```text
//! stitch-<id>/   model.safetensors  config.json  generation_config.json  tokenizer files  esta.json  README.md
//!                modeling_stitched.py   only where the architecture is not an ordinary one
//! adapter-<id>/  adapter_model.safetensors  adapter_config.json  esta.json  README.md
//! bundle/        the files of a stitch, unmerged, with modeling_stitched.py
//! ```

mod adapter;
mod bundle;
mod heads;
mod vocabulary;

use std::path::Path;

use esta_engine::{
    arch::{LlamaArch, ModelType, RopeScaling},
    catalog::Stitch,
    law::Law,
    spec::{Layout, Template},
};
use esta_model::{MergedSegment, MergedState, Weights};
use serde::Serialize;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use heads::Geometry;

use super::{ExportError, Palettes, config::chosen_by, folder};

pub use adapter::write as write_adapter;
pub use bundle::write as write_bundle;
pub use heads::Heads;
pub use vocabulary::Vocabulary;

/// `esta.json`: where a model comes from.
#[derive(Debug, Serialize)]
struct Origin<'a> {
    run: &'a str,
    stitch: u32,
    path: String,
    macs: u64,
    params: u64,
    /// How it was asked in training.
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<Template>,
    chosen: Vec<super::config::ChosenBy>,
}

impl<'a> Origin<'a> {
    fn new(law: &'a Law, stitch: &Stitch, palettes: &Palettes) -> Self {
        Self {
            run: &law.spec.name,
            stitch: stitch.id.0,
            path: stitch.path(&law.spec.family),
            macs: stitch.macs,
            params: stitch.params,
            template: template(law),
            chosen: chosen_by(stitch.id, palettes),
        }
    }
}

/// Writes merged stitches of a run.
pub struct Writer<'a> {
    pub law: &'a Law,
    pub vocabulary: &'a Vocabulary,
    pub palettes: &'a Palettes,
    pub heads: Heads,
}

/// The files of a model that differ between ordinary and stitched ones.
struct Written {
    config: Value,
    weights: Weights,
    modelling: Option<folder::Modelling>,
}

impl Writer<'_> {
    /// Writes a merged stitch.
    pub fn write(&self, stitch: &Stitch, merged: &MergedState, target: &Path) -> Result<(), ExportError> {
        let dtype = dtype_of(&merged.weights);
        let origin = Origin::new(self.law, stitch, self.palettes);
        let padding = match self.heads {
            Heads::Padded => Geometry::common(&merged.segments),
            Heads::AsTrained => None,
        };
        if self.heads == Heads::Padded && padding.is_none() {
            tracing::info!(stitch = stitch.id.0, "all its blocks have one attention geometry: no head is filled up");
        }
        let ordinary = match merged.segments.as_slice() {
            [alone] => ordinary(speaker(alone), &merged.weights),
            _ => None,
        };
        let Written { config, weights, modelling } = match ordinary {
            Some((arch, weights)) => {
                Written { config: ordinary_config(&arch, self.vocabulary, dtype), weights, modelling: None }
            }
            None => self.stitched(merged, (dtype, padding)),
        };
        let readme = readme(&origin, modelling.is_some());
        folder::replace(target, modelling, |files| {
            files.tensors(&weights.to_kind(dtype))?;
            files.json("config.json", &config)?;
            self.vocabulary.write(files)?;
            files.json(folder::ADAPTED_MARK, &origin)?;
            files.text("README.md", &readme)
        })
    }

    fn stitched(&self, merged: &MergedState, (dtype, padding): (Kind, Option<Geometry>)) -> Written {
        let mut config = stitched_config(self.law, merged, padding);
        merge(&mut config, Value::Object(self.vocabulary.ids()));
        merge(&mut config, json!({ "torch_dtype": dtype_name(dtype) }));
        let weights = with_companions(merged, one_vocabulary(untied(&merged.weights)));
        let weights = match padding {
            Some(geometry) => heads::padded(&weights, &merged.segments, geometry),
            None => weights,
        };
        Written { config, weights, modelling: Some(folder::LANGUAGE) }
    }
}

/// Writes an anchor of ordinary architecture: what pre-training makes.
///
/// # Errors
/// [`ExportError`] naming the file.
pub fn save_anchor(
    arch: &LlamaArch,
    weights: &Weights,
    vocabulary: &Vocabulary,
    target: &Path,
) -> Result<(), ExportError> {
    let dtype = dtype_of(weights);
    folder::replace(target, None, |files| {
        files.tensors(&weights.to_kind(dtype))?;
        files.json("config.json", &ordinary_config(arch, vocabulary, dtype))?;
        vocabulary.write(files)?;
        files.json(folder::ADAPTED_MARK, &json!({ "made": "from scratch" }))
    })
}

/// How a run asks its models; none where it trains on documents.
fn template(law: &Law) -> Option<Template> {
    let asks = law.spec.data.train.layout != Layout::Text;
    law.spec.data.text.as_ref().filter(|_| asks).map(|text| text.template)
}

fn speaker(segment: &MergedSegment) -> &LlamaArch {
    segment.arch.as_llama().expect("a language model's segments")
}

/// The type that most numbers have: the matrices'.
fn dtype_of(weights: &Weights) -> Kind {
    let matrices = weights.iter().filter(|(_, tensor)| tensor.dim() > 1);
    matrices.map(|(_, tensor)| tensor.kind()).next().unwrap_or(Kind::Float)
}

fn dtype_name(kind: Kind) -> &'static str {
    if kind == Kind::BFloat16 { "bfloat16" } else { "float32" }
}

/// The anchor's architecture with the biases that its tensors have, and the tensors with those that the architecture then
/// asks for, zeros among them; none where it has no place for a tensor, or is refused.
fn ordinary(arch: &LlamaArch, weights: &Weights) -> Option<(LlamaArch, Weights)> {
    let has = |ending: &str| weights.iter().any(|(name, _)| name.ends_with(ending));
    let mlp_bias = ["gate_proj.bias", "up_proj.bias", "down_proj.bias"].iter().any(|ending| has(ending));
    let qkv_bias = ["q_proj.bias", "k_proj.bias", "v_proj.bias"].iter().any(|ending| has(ending));
    let attention_bias = match arch.model_type {
        // transformers refuses it, whatever the heads' own size.
        ModelType::Llama if !arch.hidden_size.is_multiple_of(arch.num_attention_heads) => return None,
        ModelType::Qwen2 if has("o_proj.bias") => return None,
        ModelType::Qwen2 => false,
        ModelType::Llama | ModelType::Qwen3 => qkv_bias || has("o_proj.bias"),
    };
    if mlp_bias && arch.model_type != ModelType::Llama {
        return None;
    }
    let arch = LlamaArch { attention_bias, mlp_bias, ..arch.clone() };
    let mut filled = Weights::new(weights.origin());
    for (name, shape) in esta_model::llama_shapes(&arch) {
        let tensor = match weights.get(&name) {
            Some(tensor) => tensor.shallow_clone(),
            None => Tensor::zeros(&shape[..], (Kind::Float, Device::Cpu)),
        };
        filled.insert(name, tensor);
    }
    Some((arch, filled))
}

/// With a head of its own: a lone tied anchor that is no ordinary one.
fn untied(weights: &Weights) -> Weights {
    let mut all = weights.shallow_clone();
    if let (None, Some(embedding)) = (weights.get("lm_head.weight"), weights.get("model.embed_tokens.weight")) {
        all.insert("lm_head.weight", embedding.copy());
    }
    all
}

/// With as many rows in the embedding as in the head, which another anchor padded otherwise: tools know one size of a
/// vocabulary. Ids of the tokenizer are below both, so no row that is read changes.
fn one_vocabulary(mut weights: Weights) -> Weights {
    const EMBEDDING: &str = "model.embed_tokens.weight";
    if let (Some(embedding), Some(head)) = (weights.get(EMBEDDING), weights.get("lm_head.weight")) {
        let (rows, wanted) = (embedding.size()[0], head.size()[0]);
        let resized = match rows < wanted {
            true => embedding.constant_pad_nd([0, 0, 0, wanted - rows]),
            false => embedding.narrow(0, 0, wanted),
        };
        weights.insert(EMBEDDING, resized);
    }
    weights
}

/// `config.json` as transformers writes it for this architecture.
fn ordinary_config(arch: &LlamaArch, vocabulary: &Vocabulary, dtype: Kind) -> Value {
    let class = match arch.model_type {
        ModelType::Llama => "LlamaForCausalLM",
        ModelType::Qwen2 => "Qwen2ForCausalLM",
        ModelType::Qwen3 => "Qwen3ForCausalLM",
    };
    let mut config = json!({
        "architectures": [class],
        "model_type": arch.model_type.name(),
        "vocab_size": arch.vocab_size,
        "hidden_size": arch.hidden_size,
        "intermediate_size": arch.intermediate_size,
        "num_hidden_layers": arch.num_hidden_layers,
        "num_attention_heads": arch.num_attention_heads,
        "num_key_value_heads": arch.num_key_value_heads,
        "head_dim": arch.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": arch.rms_norm_eps,
        "rope_theta": arch.rope_theta,
        "rope_scaling": scaling(arch),
        "max_position_embeddings": arch.max_position_embeddings,
        "tie_word_embeddings": arch.tie_word_embeddings,
        "attention_bias": arch.attention_bias,
        "mlp_bias": arch.mlp_bias,
        "use_cache": true,
        "torch_dtype": dtype_name(dtype),
    });
    merge(&mut config, Value::Object(vocabulary.ids()));
    config
}

/// `config.json` of a stitched model, as its modelling file reads it.
fn stitched_config(law: &Law, merged: &MergedState, padding: Option<Geometry>) -> Value {
    let segments = merged.segments.iter().enumerate().map(|(place, segment)| {
        let arch = speaker(segment);
        let geometry = Geometry::of(arch);
        let mut config = json!({
            "anchor": law.spec.family.anchors[segment.anchor.index()].name,
            "first_block": segment.first,
            "num_hidden_layers": segment.last - segment.first + 1,
            "hidden_size": arch.hidden_size,
            "intermediate_size": arch.intermediate_size,
            "padded_heads": padding.map(|_| geometry.config()),
            "rms_norm_eps": arch.rms_norm_eps,
            "rope_theta": arch.rope_theta,
            "rope_scaling": scaling(arch),
            "attention_bias": has_biases(merged, place, BIASED[0]),
            "attention_output_bias": has_biases(merged, place, BIASED[1]),
            "mlp_bias": has_biases(merged, place, BIASED[2]),
            "qk_norm": arch.has_qk_norm(),
        });
        merge(&mut config, padding.unwrap_or(geometry).config());
        config
    });
    let end = speaker(&merged.segments[merged.segments.len() - 1]);
    let positions = merged.segments.iter().map(|segment| speaker(segment).max_position_embeddings).min();
    json!({
        "architectures": ["StitchedForCausalLM"],
        "model_type": "stitched_llama",
        "auto_map": {
            "AutoConfig": "modeling_stitched.StitchedConfig",
            "AutoModel": "modeling_stitched.StitchedModel",
            "AutoModelForCausalLM": "modeling_stitched.StitchedForCausalLM",
        },
        "vocab_size": end.vocab_size,
        "tie_word_embeddings": false,
        "max_position_embeddings": positions,
        "num_hidden_layers": blocks_of(&merged.segments, merged.segments.len()).start,
        "hidden_size": end.hidden_size,
        "segments": segments.collect::<Vec<_>>(),
        "use_cache": true,
    })
}

/// The maps of a block that carry biases together or not at all, as `modeling_stitched.py` knows them.
const BIASED: [&[&str]; 3] = [
    &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    &["self_attn.o_proj"],
    &["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
];

/// Whether any of these maps has a bias in the segment at `place`.
fn has_biases(merged: &MergedState, place: usize, maps: &[&str]) -> bool {
    let mut blocks = blocks_of(&merged.segments, place);
    let has = |block| maps.iter().any(|map| merged.weights.get(&format!("model.layers.{block}.{map}.bias")).is_some());
    blocks.any(has)
}

/// With a bias of zero on every map whose companions have one.
fn with_companions(merged: &MergedState, mut weights: Weights) -> Weights {
    for place in 0..merged.segments.len() {
        for maps in BIASED.into_iter().filter(|maps| has_biases(merged, place, maps)) {
            for block in blocks_of(&merged.segments, place) {
                for name in maps.iter().map(|map| format!("model.layers.{block}.{map}")) {
                    let rows = weights.get(&format!("{name}.weight")).map(|weight| weight.size()[0]);
                    let bias = format!("{name}.bias");
                    if let (None, Some(rows)) = (weights.get(&bias), rows) {
                        weights.insert(bias, Tensor::zeros(rows, (Kind::Float, Device::Cpu)));
                    }
                }
            }
        }
    }
    weights
}

/// The numbers, in order of execution, of the blocks of the segment at `place`.
fn blocks_of(segments: &[MergedSegment], place: usize) -> std::ops::Range<u32> {
    let blocks = |segment: &MergedSegment| segment.last - segment.first + 1;
    let start = segments[..place].iter().map(blocks).sum();
    start..start + segments.get(place).map_or(0, blocks)
}

fn scaling(arch: &LlamaArch) -> Value {
    match arch.rope_scaling {
        None => Value::Null,
        Some(RopeScaling::Linear { factor }) => json!({ "rope_type": "linear", "factor": factor }),
        Some(RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }) => {
            json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings,
            })
        }
    }
}

fn merge(config: &mut Value, more: Value) {
    if let (Value::Object(config), Value::Object(more)) = (config, more) {
        config.extend(more);
    }
}

fn readme(origin: &Origin<'_>, stitched: bool) -> String {
    let Origin { run, stitch, path, params, .. } = origin;
    let trust = if stitched { ", trust_remote_code=True" } else { "" };
    format!(
        "# Stitch {stitch} of the run {run}\n\n`{path}`, {params} parameters.\n\n```python\nfrom transformers import \
         AutoModelForCausalLM, AutoTokenizer\nmodel = AutoModelForCausalLM.from_pretrained(\".\"{trust})\ntokenizer = \
         AutoTokenizer.from_pretrained(\".\")\n```\n\nor `esta-worker generate --model . --prompt ...`.\n"
    )
}
