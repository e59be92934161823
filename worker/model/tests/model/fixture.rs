//! Tiny families whose every number is alive: no weight is zero unless a test wants it so. The worker's tests of exports
//! use them too.

use esta_engine::catalog::Catalog;
use esta_engine::cost::Task;
use esta_engine::groups::GroupLayout;
use esta_engine::spec::{JobSpec, Precision};
use esta_model::{
    Input, ParamStore, Phase, Slot, SlotOptions, SlotResult, Start, StitchedNet, Weights, random_anchor, run_slot,
};
use esta_proto::StitchId;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

pub const CLASSES: u32 = 5;

/// A run's parts up to the network.
pub struct Family {
    pub spec: JobSpec,
    pub catalog: Catalog,
    pub layout: GroupLayout,
    pub frozen: Weights,
    pub store: ParamStore,
    pub net: StitchedNet,
}

/// A specification over two anchors of widths 8 and 12, with sections replaced.
pub fn spec(changes: Value) -> JobSpec {
    let arch = |width: u32, heads: u32| json!({ "image_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": width, "depth": 3, "num_heads": heads });
    let anchor = |name: &str, arch: Value| json!({ "name": name, "arch": arch, "weights": "-" });
    let mut value = json!({
        "name": "tiny",
        "family": { "anchors": [anchor("a", arch(8, 2)), anchor("b", arch(12, 3))], "space": { "kind": "twoway" } },
        "pst": { "lora_r": 2, "stitch_r": 3 },
        "train": { "max_steps": 10 },
        "data": { "num_classes": CLASSES, "train": { "layout": "idx", "path": "-" } },
        "budgets": { "gap": 1e4 },
    });
    merge(&mut value, changes);
    serde_json::from_value(value).expect("a valid specification")
}

/// Lays one tree over another: objects merge, anything else replaces.
pub fn merge(base: &mut Value, changes: Value) {
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
    /// At the start of training: B, biases and heads zero.
    pub fn fresh(changes: Value) -> Self {
        // The tests already fill the cores.
        tch::set_num_threads(1);
        let spec = spec(changes);
        let catalog = Catalog::build(&spec).expect("the family can be stitched");
        let layout = GroupLayout::new(&catalog, &spec);
        let frozen = frozen(&catalog);
        let store = ParamStore::new(&layout, Start { seed: spec.seed, weights: &frozen, device: Device::Cpu })
            .expect("every parameter has a start");
        let net = StitchedNet::new(&catalog, &store, &frozen, &spec.pst, spec.train.precision).expect("all is there");
        Self { spec, catalog, layout, frozen, store, net }
    }

    /// In the middle of training: every trained number is alive.
    pub fn trained(changes: Value) -> Self {
        let family = Self::fresh(changes);
        for param in family.store.groups().iter().flat_map(|group| &group.params) {
            let mut tensor = param.tensor.detach();
            tensor += noise(&param.name, &param.tensor.size()) * 0.3;
        }
        family
    }

    pub fn stitches(&self) -> Vec<StitchId> {
        self.catalog.stitches().map(|stitch| stitch.id).collect()
    }

    /// The longest path of the catalog: most segments, then most blocks.
    pub fn longest(&self) -> StitchId {
        self.catalog.stitches().max_by_key(|stitch| (stitch.segments.len(), stitch.macs)).expect("not empty").id
    }

    pub fn run(&self, stitch: StitchId, options: &SlotOptions) -> SlotResult {
        let (images, labels) = batch(8);
        let slot = Slot { stitch, input: &Input::Images(images), labels: &labels, dropout_seed: 1 };
        run_slot(&self.net, &self.store, &slot, options).expect("the stitch exists")
    }

    pub fn logits(&self, stitch: StitchId) -> Tensor {
        self.net.forward(stitch, &Input::Images(batch(8).0), Phase::Eval).expect("the stitch exists")
    }

    /// The same parameters under another precision.
    pub fn net_in(&self, precision: Precision) -> StitchedNet {
        StitchedNet::new(&self.catalog, &self.store, &self.frozen, &self.spec.pst, precision).expect("all is there")
    }
}

/// Images and labels of the tiny families.
pub fn batch(images: i64) -> (Tensor, Tensor) {
    let labels = Tensor::arange(images, (Kind::Int64, Device::Cpu)).fmod(i64::from(CLASSES));
    (noise("images", &[images, 1, 8, 8]), labels)
}

/// Anchors without heads, and stitching layers.
pub fn frozen(catalog: &Catalog) -> Weights {
    let mut frozen = Weights::new("fixture");
    for (number, arch) in catalog.anchors.iter().enumerate() {
        let mut anchor = random_anchor(arch, Task::Classify { classes: 1 }, 7);
        anchor.remove("head.weight");
        anchor.remove("head.bias");
        for (name, tensor) in anchor.iter() {
            let mut tensor = tensor.shallow_clone();
            tensor += noise(&format!("{number}{name}"), &tensor.size()) * 0.3;
        }
        frozen.absorb(&format!("anchors.{number}."), anchor);
    }
    for layer in &catalog.layers {
        let width = |anchor: esta_proto::AnchorId| catalog.anchors[anchor.index()].width() as i64;
        let name = format!("stitch_layers.{}", layer.id);
        frozen.insert(format!("{name}.weight"), noise(&name, &[width(layer.to), width(layer.from)]) * 0.5);
        frozen.insert(format!("{name}.bias"), noise(&format!("{name}b"), &[width(layer.to)]) * 0.2);
    }
    frozen
}

/// Uniform in -1..1, a function of name and shape.
pub fn noise(name: &str, shape: &[i64]) -> Tensor {
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
