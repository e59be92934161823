//! A tiny family whose every number is alive, and a forward pass that knows nothing but an export's files.

use std::path::Path;

use esta_engine::{
    catalog::Catalog,
    law::Law,
    spec::{JobSpec, Precision},
};
use esta_model::{ParamStore, Phase, Start, StitchedNet, Weights, tensor_shapes};
use esta_proto::StitchId;
use esta_worker::export::Models;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

pub const CLASSES: u32 = 5;

/// A run in the middle of its training.
pub struct Family {
    pub law: Law,
    pub frozen: Weights,
    pub store: ParamStore,
}

/// Two anchors of widths 8 and 12, with sections replaced.
pub fn law(changes: Value) -> Law {
    let arch = |width: u32, heads: u32| json!({ "image_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": width, "depth": 3, "num_heads": heads });
    let anchor = |name: &str, arch: Value| json!({ "name": name, "arch": arch, "weights": "-" });
    let mut value = json!({
        "name": "tiny",
        "family": { "anchors": [anchor("a", arch(8, 2)), anchor("b", arch(12, 3))] },
        "pst": { "lora_r": 2, "stitch_r": 3 },
        "train": { "max_steps": 10 },
        "data": { "num_classes": CLASSES, "train": { "layout": "idx", "path": "-", "labels": "-" } },
        "budgets": { "gap": 1e4 },
    });
    merge(&mut value, changes);
    let spec: JobSpec = serde_json::from_value(value).expect("a specification");
    Law::new(spec).expect("a valid one")
}

fn merge(base: &mut Value, changes: Value) {
    match (base, changes) {
        (Value::Object(base), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(base.entry(key).or_insert(Value::Null), change);
            }
        }
        (base, change) => *base = change,
    }
}

impl Family {
    pub fn trained(changes: Value) -> Self {
        // The tests already fill the cores.
        tch::set_num_threads(1);
        let law = law(changes);
        let mut frozen = zeros(&law.catalog);
        let names: Vec<(String, Vec<i64>)> = frozen.iter().map(|(name, t)| (name.to_owned(), t.size())).collect();
        for (name, shape) in names {
            let base = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
            frozen.insert(name.as_str(), noise(&name, &shape) * 0.3 + base);
        }
        let store = ParamStore::new(&law.layout, start(&frozen)).expect("every parameter has a start");
        for param in store.groups().iter().flat_map(|group| &group.params) {
            let mut tensor = param.tensor.detach();
            tensor += noise(&format!("trained {}", param.name), &param.tensor.size()) * 0.3;
        }
        Self { law, frozen, store }
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
    tch::no_grad(|| net.forward(stitch, &images(), Phase::Eval).expect("the stitch exists"))
}

/// Anchors and stitching layers of the right shapes.
pub fn zeros(catalog: &Catalog) -> Weights {
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let mut frozen = Weights::new("fixture");
    for (number, arch) in catalog.anchors.iter().enumerate() {
        for (name, shape) in tensor_shapes(arch, None) {
            frozen.insert(format!("anchors.{number}.{name}"), zeros(&shape));
        }
    }
    for layer in &catalog.layers {
        let width = |anchor: esta_proto::AnchorId| i64::from(catalog.anchors[anchor.index()].embed_dim);
        let (from, to) = (width(layer.from), width(layer.to));
        frozen.insert(format!("stitch_layers.{}.weight", layer.id), zeros(&[to, from]));
        frozen.insert(format!("stitch_layers.{}.bias", layer.id), zeros(&[to]));
    }
    frozen
}

pub fn start(weights: &Weights) -> Start<'_> {
    Start { seed: 1, weights, device: Device::Cpu }
}

/// [8, 1, 8, 8]
pub fn images() -> Tensor {
    noise("images", &[8, 1, 8, 8])
}

/// Uniform in -1..1, a function of name and shape.
fn noise(name: &str, shape: &[i64]) -> Tensor {
    let mut state = name.bytes().fold(17_u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32) - 1.0
    };
    let values: Vec<f32> = (0..shape.iter().product::<i64>()).map(|_| next()).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Largest absolute difference.
pub fn distance(one: &Tensor, other: &Tensor) -> f64 {
    (one.to_kind(Kind::Double) - other.to_kind(Kind::Double)).abs().max().double_value(&[])
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
