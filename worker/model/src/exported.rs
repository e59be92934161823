//! Language models as they were exported (TENSOR): a stitched model's folder, or an ordinary one, as one network.

use std::path::Path;

use esta_engine::arch::{HubConfig, HubConfigFlaw, LlamaArch, ModelType, RopeScaling};
use esta_engine::spec::{Precision, PstSpec};
use serde::Deserialize;
use tch::Device;

use crate::build::{Biases, BlockBuilder, MOST_POSITIONS, token_embed, token_head};
use crate::hub::{HubError, read_json, read_tensors};
use crate::llama::Rope;
use crate::network::{Block, Front, Network, Segment, Tail};
use crate::source::{LinearShape, Source};
use crate::weights::{Weights, WeightsError};

/// What this program writes for a stitched model.
const STITCHED: &str = "stitched_llama";
/// The kind of what it writes for all stitches of a run at once.
const BUNDLE: &str = "bundle";

/// `config.json`, as far as it says what it is.
#[derive(Deserialize)]
struct Kind {
    model_type: Option<String>,
    kind: Option<String>,
}

/// `config.json` of a stitched model.
#[derive(Deserialize)]
struct StitchedConfig {
    vocab_size: u32,
    embedding_vocab_size: Option<u32>,
    max_position_embeddings: u32,
    segments: Vec<SegmentConfig>,
}

#[derive(Deserialize)]
struct SegmentConfig {
    num_hidden_layers: u32,
    hidden_size: u32,
    intermediate_size: u32,
    num_attention_heads: u32,
    num_key_value_heads: u32,
    head_dim: u32,
    rms_norm_eps: f64,
    rope_theta: f64,
    rope_scaling: Option<RopeScaling>,
    attention_bias: bool,
    attention_output_bias: bool,
    mlp_bias: bool,
    qk_norm: bool,
    /// Where heads are filled up with zeros: as they were.
    padded_heads: Option<UnpaddedHeads>,
}

/// Attention before it was filled up.
#[derive(Deserialize)]
struct UnpaddedHeads {
    head_dim: u32,
}

/// A segment of an exported model: its shape, and which maps have biases.
struct Stretch {
    arch: LlamaArch,
    biases: Biases,
    /// Width of a head without the zeros that fill it up.
    true_head_dim: u32,
}

/// Reads a language model that can answer: a folder of `esta-worker export`, or any Hugging Face folder of a supported
/// architecture.
///
/// # Errors
/// [`HubError`] naming the file and what is wrong with it.
pub fn read_exported(folder: &Path, precision: Precision, device: Device) -> Result<Network, HubError> {
    let path = folder.join("config.json");
    let Kind { model_type, kind } = read_json(&path)?;
    if kind.as_deref() == Some(BUNDLE) {
        return Err(impossible(&path, "it holds all stitches of a run: export one with --stitch".to_owned()));
    }
    let (stretches, tied) = match model_type.as_deref() {
        Some(STITCHED) => (stretches(&path)?, false),
        _ => {
            let config: HubConfig = read_json(&path)?;
            let arch = LlamaArch::try_from(config).map_err(|source| HubError::Config { path, source })?;
            let tied = arch.tie_word_embeddings;
            (vec![Stretch { biases: Biases::of(&arch), true_head_dim: arch.head_dim, arch }], tied)
        }
    };
    let frozen = read_tensors(folder, precision, device)?;
    Ok(network(&stretches, tied, &frozen, precision)?)
}

fn stretches(path: &Path) -> Result<Vec<Stretch>, HubError> {
    let StitchedConfig { vocab_size, embedding_vocab_size, max_position_embeddings, segments } = read_json(path)?;
    if segments.is_empty() {
        return Err(impossible(path, "segments is empty".to_owned()));
    }
    let stretch = |(place, segment): (usize, SegmentConfig)| {
        let vocab_size = if place == 0 { embedding_vocab_size.unwrap_or(vocab_size) } else { vocab_size };
        let stretch = segment.stretch(vocab_size, max_position_embeddings);
        match stretch.flaw() {
            Some(flaw) => Err(impossible(path, format!("segments[{place}]: {flaw}"))),
            None => Ok(stretch),
        }
    };
    let mut stretches: Vec<Stretch> = segments.into_iter().enumerate().map(stretch).collect::<Result<_, _>>()?;
    // A model of one segment has one vocabulary for both ends.
    if let [alone] = stretches.as_mut_slice() {
        alone.arch.vocab_size = vocab_size;
    }
    Ok(stretches)
}

fn impossible(path: &Path, flaw: String) -> HubError {
    HubError::Config { path: path.to_owned(), source: HubConfigFlaw::Impossible(flaw) }
}

impl SegmentConfig {
    fn stretch(self, vocab_size: u32, max_position_embeddings: u32) -> Stretch {
        Stretch {
            biases: Biases { qkv: self.attention_bias, o: self.attention_output_bias, mlp: self.mlp_bias },
            true_head_dim: self.padded_heads.map_or(self.head_dim, |heads| heads.head_dim),
            arch: LlamaArch {
                model_type: if self.qk_norm { ModelType::Qwen3 } else { ModelType::Llama },
                vocab_size,
                hidden_size: self.hidden_size,
                intermediate_size: self.intermediate_size,
                num_hidden_layers: self.num_hidden_layers,
                num_attention_heads: self.num_attention_heads,
                num_key_value_heads: self.num_key_value_heads,
                head_dim: self.head_dim,
                rms_norm_eps: self.rms_norm_eps,
                rope_theta: self.rope_theta,
                rope_scaling: self.rope_scaling,
                max_position_embeddings,
                tie_word_embeddings: false,
                attention_bias: false,
                mlp_bias: false,
            },
        }
    }
}

impl Stretch {
    fn flaw(&self) -> Option<String> {
        let (width, padded) = (self.true_head_dim, self.arch.head_dim);
        let too_wide =
            || (width > padded).then(|| format!("padded_heads: head_dim {width} is above the padded {padded}"));
        self.arch.flaw().or_else(|| self.unpadded().flaw()).or_else(too_wide)
    }

    /// The shape of which the rotations are.
    fn unpadded(&self) -> LlamaArch {
        LlamaArch { head_dim: self.true_head_dim, ..self.arch.clone() }
    }
}

fn network(stretches: &[Stretch], tied: bool, frozen: &Weights, precision: Precision) -> Result<Network, WeightsError> {
    let pst = PstSpec::default();
    let source = Source { frozen, trained: None, pst: &pst, precision };
    let (front, end) = (&stretches[0].arch, &stretches[stretches.len() - 1].arch);
    let mut number = 0;
    let mut segments = Vec::with_capacity(stretches.len());
    for (place, stretch) in stretches.iter().enumerate() {
        let Stretch { arch, biases, true_head_dim } = stretch;
        let entry = match place.checked_sub(1) {
            Some(hop) => {
                let shape = [arch, &stretches[hop].arch].map(|arch| i64::from(arch.hidden_size));
                Some(source.linear(&LinearShape::plain(&format!("model.stitch_layers.{hop}"), &shape))?)
            }
            None => None,
        };
        let positions = i64::from(arch.max_position_embeddings.min(MOST_POSITIONS));
        let rope = Rope::new(&stretch.unpadded(), positions, source.device()).filled_up(i64::from(arch.head_dim));
        let builder = BlockBuilder { source, arch, rope: &rope, biases: *biases, true_head_dim: *true_head_dim };
        let mut blocks: Vec<Box<dyn Block>> = Vec::new();
        for _ in 0..arch.num_hidden_layers {
            blocks.push(Box::new(builder.block(&format!("model.layers.{number}."), None)?));
            number += 1;
        }
        segments.push(Segment { entry, blocks });
    }
    let head = if tied { "model.embed_tokens" } else { "lm_head" };
    Ok(Network {
        front: Front::Tokens(token_embed(&source, "model.embed_tokens", front)?),
        segments,
        tail: Tail::Tokens(token_head(&source, ("model.norm", head), end, tied)?),
    })
}
