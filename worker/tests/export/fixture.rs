//! The model's tiny families as runs to export, and a forward pass that knows nothing but an export's files.

#[path = "../../model/tests/model/fixture.rs"]
#[allow(dead_code, reason = "shared with the model's tests")]
mod tiny;

use std::path::Path;

use esta_engine::{
    law::Law,
    spec::{Precision, SpaceKind},
};
use esta_model::{Input, ParamStore, Phase, Start, StitchedNet, Weights};
use esta_proto::StitchId;
use esta_worker::export::Models;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

pub use tiny::{CLASSES, distance, frozen};

/// A run in the middle of its training.
pub struct Family {
    pub law: Law,
    pub frozen: Weights,
    pub store: ParamStore,
}

/// Two anchors of widths 8 and 12 in the default space, with sections replaced.
pub fn law(changes: Value) -> Law {
    Law::new(tiny::spec(in_default_space(changes))).expect("a valid specification")
}

fn in_default_space(changes: Value) -> Value {
    let mut all = json!({ "family": { "space": { "kind": SpaceKind::default() } } });
    tiny::merge(&mut all, changes);
    all
}

impl Family {
    pub fn trained(changes: Value) -> Self {
        let tiny::Family { spec, frozen, store, .. } = tiny::Family::trained(in_default_space(changes));
        Self { law: Law::new(spec).expect("a valid specification"), frozen, store }
    }

    pub fn models(&self) -> Models<'_> {
        Models::new(&self.law, &self.store, self.frozen.to_device(Device::Cpu)).expect("all is there")
    }

    pub fn stitches(&self) -> Vec<StitchId> {
        self.law.catalog.stitches().map(|stitch| stitch.id).collect()
    }

    /// Unmerged, in single precision.
    pub fn logits(&self, stitch: StitchId) -> Tensor {
        forward(&self.law, &self.store, &self.frozen, Precision::F32, stitch)
    }

    /// Unmerged, in the run's own precision.
    pub fn run_logits(&self, stitch: StitchId) -> Tensor {
        forward(&self.law, &self.store, &self.frozen, self.law.spec.train.precision, stitch)
    }
}

/// Logits of a stitch on [`images`].
pub fn forward(law: &Law, store: &ParamStore, frozen: &Weights, precision: Precision, stitch: StitchId) -> Tensor {
    let net = StitchedNet::new(&law.catalog, store, frozen, &law.spec.pst, precision).expect("all is there");
    tch::no_grad(|| net.forward(stitch, &Input::from(&images()), Phase::Eval).expect("the stitch exists"))
}

pub fn start(weights: &Weights) -> Start<'_> {
    Start { seed: 1, weights, device: Device::Cpu }
}

/// [8, 1, 8, 8]
pub fn images() -> Tensor {
    tiny::batch(8).0
}

pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("readable")).expect("JSON")
}

/// Logits of a standalone folder on [`images`], from `config.json` and the tensors alone: the textbook's network.
pub fn plain_forward(folder: &Path) -> Tensor {
    let (config, weights) = (read_json(&folder.join("config.json")), Weights::read(folder).expect("readable"));
    let get = |name: &str| weights.get(name).unwrap_or_else(|| panic!("{name} is absent"));
    let affine = |x: &Tensor, name: &str| x.matmul(&get(&format!("{name}.weight")).tr()) + get(&format!("{name}.bias"));
    let norm = |x: &Tensor, name: &str| {
        let centred = x - x.mean_dim(-1, true, None::<Kind>);
        let scale = (centred.square().mean_dim(-1, true, None::<Kind>) + 1e-6).rsqrt();
        centred * scale * get(&format!("{name}.weight")) + get(&format!("{name}.bias"))
    };
    let patch = config["segments"][0]["arch"]["patch_size"].as_i64().expect("a number");
    let (kernel, bias) = (get("patch_embed.proj.weight"), get("patch_embed.proj.bias"));
    let tokens = images().conv2d(kernel, Some(bias), [patch, patch], 0, 1, 1).flatten(2, 3).transpose(1, 2);
    let cls_token = get("cls_token").expand([tokens.size()[0], 1, tokens.size()[2]], false);
    let mut x = Tensor::cat(&[cls_token, tokens], 1) + get("pos_embed");
    let mut number = 0;
    for (place, segment) in config["segments"].as_array().expect("a list").iter().enumerate() {
        if place > 0 {
            x = affine(&x, &format!("stitch_layers.{}", place - 1));
        }
        let heads = segment["arch"]["num_heads"].as_i64().expect("a number");
        for _ in segment["first"].as_u64().expect("a number")..=segment["last"].as_u64().expect("a number") {
            let block = format!("blocks.{number}");
            let mixed = attention(&affine(&norm(&x, &format!("{block}.norm1")), &format!("{block}.attn.qkv")), heads);
            x += affine(&mixed, &format!("{block}.attn.proj"));
            let hidden = affine(&norm(&x, &format!("{block}.norm2")), &format!("{block}.mlp.fc1")).gelu("none");
            x += affine(&hidden, &format!("{block}.mlp.fc2"));
            number += 1;
        }
    }
    affine(&norm(&x.select(1, 0), "norm"), "head")
}

/// `[B, N, 3 D] -> [B, N, D]`
fn attention(qkv: &Tensor, heads: i64) -> Tensor {
    let (b, n, width) = qkv.size3().expect("[B, N, 3 D]");
    let split = qkv.view([b, n, 3, heads, width / 3 / heads]).permute([2, 0, 3, 1, 4]);
    let [q, k, v] = [0, 1, 2].map(|part| split.select(0, part));
    let scale = ((width / 3 / heads) as f64).sqrt();
    let weights = (q.matmul(&k.transpose(-2, -1)) / scale).softmax(-1, None::<Kind>);
    weights.matmul(&v).transpose(1, 2).reshape([b, n, width / 3])
}
