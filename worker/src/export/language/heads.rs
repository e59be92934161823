//! Attention filled up with zeros (HANDS): vLLM's transformers backend keeps one geometry of heads for all blocks, so paths
//! through anchors of several are exported in one that has room for each. The function stays the same: a further head of
//! zeros adds nothing, and neither does a further number of a head.
//!
//! Letters: H heads, G heads of keys and values, d width of a head.

use esta_engine::arch::LlamaArch;
use esta_model::{MergedSegment, Weights};
use serde_json::{Value, json};
use tch::Tensor;

use super::{blocks_of, speaker};

/// In which form a language model's attention is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Heads {
    /// As it was trained.
    #[default]
    AsTrained,
    /// In one geometry for all blocks.
    Padded,
}

/// The shape of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Heads of queries for each of keys and values: H / G.
    groups: i64,
    /// G
    key_heads: i64,
    /// d
    width: i64,
}

impl Geometry {
    pub fn of(arch: &LlamaArch) -> Self {
        let [heads, key_heads, width] =
            [arch.num_attention_heads, arch.num_key_value_heads, arch.head_dim].map(i64::from);
        Self { groups: heads / key_heads, key_heads, width }
    }

    /// The smallest that has room for every segment; none where all have one already.
    pub fn common(segments: &[MergedSegment]) -> Option<Self> {
        let all: Vec<Self> = segments.iter().map(|segment| Self::of(speaker(segment))).collect();
        let most = |one: Self, other: &Self| Self {
            groups: one.groups.max(other.groups),
            key_heads: one.key_heads.max(other.key_heads),
            width: one.width.max(other.width),
        };
        let common = all.iter().fold(all[0], most);
        all.iter().any(|one| *one != common).then_some(common)
    }

    /// As a segment of `config.json` names it.
    pub fn config(self) -> Value {
        json!({
            "num_attention_heads": self.groups * self.key_heads,
            "num_key_value_heads": self.key_heads,
            "head_dim": self.width,
        })
    }
}

/// The tensors of a path with all attention in the geometry `to`.
pub(super) fn padded(weights: &Weights, segments: &[MergedSegment], to: Geometry) -> Weights {
    let mut all = weights.shallow_clone();
    for (place, segment) in segments.iter().enumerate() {
        let from = Geometry::of(speaker(segment));
        for block in blocks_of(segments, place) {
            pad_block(&mut all, &format!("model.layers.{block}.self_attn."), (from, to));
        }
    }
    all
}

fn pad_block(weights: &mut Weights, prefix: &str, (from, to): (Geometry, Geometry)) {
    let queries = (0..from.key_heads).flat_map(|key| (0..from.groups).map(move |place| key * to.groups + place));
    let spread = |slots, heads| Spread { slots, heads, from: from.width, to: to.width };
    let queries = spread(queries.collect(), to.groups * to.key_heads);
    let keys = spread((0..from.key_heads).collect(), to.key_heads);
    // The mean square of a head falls by the share of zeros in it; so does what the norm adds to it (`modeling_stitched.py`).
    let norm = |tensor: &Tensor| {
        let shrunk = (from.width as f64 / to.width as f64).sqrt();
        (spread(vec![0], 1).apply(tensor, 0).to_kind(tch::Kind::Float) * shrunk).to_kind(tensor.kind())
    };
    let mut change = |part: &str, make: &dyn Fn(&Tensor) -> Tensor| {
        let name = format!("{prefix}{part}");
        if let Some(tensor) = weights.remove(&name) {
            weights.insert(name, make(&tensor));
        }
    };
    for part in ["q_proj.weight", "q_proj.bias"] {
        change(part, &|tensor| queries.apply(tensor, 0));
    }
    for part in ["k_proj.weight", "k_proj.bias", "v_proj.weight", "v_proj.bias"] {
        change(part, &|tensor| keys.apply(tensor, 0));
    }
    change("o_proj.weight", &|tensor| queries.apply(tensor, 1));
    change("q_norm.weight", &norm);
    change("k_norm.weight", &norm);
}

/// Heads moved to places among more and wider ones. Rotary embeddings turn number i with number i + d/2: a head's halves
/// stay halves.
struct Spread {
    /// The place of each head.
    slots: Vec<i64>,
    /// Places there are.
    heads: i64,
    /// d before
    from: i64,
    /// d after
    to: i64,
}

impl Spread {
    /// Along `dim`, zeros everywhere else.
    fn apply(&self, tensor: &Tensor, dim: i64) -> Tensor {
        let tensor = tensor.movedim_int(dim, 0);
        let rest = tensor.size().split_off(1);
        let shape = |heads: i64, half: i64| [&[heads, 2, half], rest.as_slice()].concat();
        let spread = Tensor::zeros(shape(self.heads, self.to / 2), (tensor.kind(), tensor.device()));
        let slots = Tensor::from_slice(&self.slots).to_device(tensor.device());
        let heads = tensor.reshape(shape(self.slots.len() as i64, self.from / 2));
        // In place: the narrowed tensor is a part of `spread`.
        let _ = spread.narrow(2, 0, self.from / 2).index_copy_(0, &slots, &heads);
        spread.reshape([&[self.heads * self.to], rest.as_slice()].concat()).movedim_int(0, dim).contiguous()
    }
}
