//! The whole run as one folder (HANDS): anchors once, what all stitches share, and every stitch's own biases.

use std::collections::{BTreeMap, BTreeSet};

use esta_engine::{
    arch::VitArch,
    catalog::Stitch,
    groups::GroupKind,
    law::Law,
    spec::{PaletteRule, Target},
    table::Row,
};
use esta_model::{ParamStore, Weights};
use esta_proto::{AnchorId, LayerId, StitchId};
use serde::Serialize;

use super::config::{Header, Kind};

/// `config.json` of a bundle.
#[derive(Debug, Serialize)]
pub struct BundleConfig<'a> {
    #[serde(flatten)]
    header: Header,
    /// The rule that answers budgets.
    rule: PaletteRule,
    pst: PstConfig,
    anchors: Vec<AnchorConfig<'a>>,
    /// The stitching layers that some stitch uses.
    layers: Vec<LayerConfig>,
    /// The catalog.
    stitches: Vec<StitchEntry<'a>>,
}

/// The shared low-rank updates of blocks.
#[derive(Debug, Serialize)]
struct PstConfig {
    /// None where the anchors' own weights were trained.
    targets: Vec<Target>,
    lora_r: u32,
    /// alpha / r
    scale: f64,
}

#[derive(Debug, Serialize)]
struct AnchorConfig<'a> {
    name: &'a str,
    arch: &'a VitArch,
}

#[derive(Debug, Serialize)]
struct LayerConfig {
    id: LayerId,
    from: AnchorId,
    to: AnchorId,
    /// Of its low-rank update; 0 where it has none.
    rank: u32,
}

/// A stitch of the catalog.
#[derive(Debug, Serialize)]
pub struct StitchEntry<'a> {
    #[serde(flatten)]
    stitch: &'a Stitch,
    layers: &'a [LayerId],
    /// What each rule says of it, higher is better; absent where it was never visited.
    values: BTreeMap<PaletteRule, f64>,
}

impl<'a> BundleConfig<'a> {
    /// The config of a run whose table holds `rows`.
    pub fn new(law: &'a Law, rows: &BTreeMap<StitchId, Row>) -> Self {
        let (spec, catalog) = (&law.spec, &law.catalog);
        let archs = catalog.anchors.iter().filter_map(|arch| arch.as_vit());
        let front = catalog.anchors[0].as_vit().expect("a family of vision transformers");
        let anchors = spec.family.anchors.iter().zip(archs);
        Self {
            header: Header::new(spec, Kind::Bundle, front),
            rule: spec.palette.rule,
            pst: pst(law),
            anchors: anchors.map(|(anchor, arch)| AnchorConfig { name: &anchor.name, arch }).collect(),
            layers: layers(law),
            stitches: stitches(law, rows),
        }
    }
}

/// The catalog with what the rules say of it.
pub fn stitches<'a>(law: &'a Law, rows: &BTreeMap<StitchId, Row>) -> Vec<StitchEntry<'a>> {
    let entry = |stitch: &'a Stitch| StitchEntry {
        stitch,
        layers: &stitch.layers,
        values: rows.get(&stitch.id).map(values).unwrap_or_default(),
    };
    law.catalog.stitches().map(entry).collect()
}

fn values(row: &Row) -> BTreeMap<PaletteRule, f64> {
    PaletteRule::ALL.into_iter().filter_map(|rule| Some((rule, rule.value(row)?))).collect()
}

fn pst(law: &Law) -> PstConfig {
    let pst = &law.spec.pst;
    match law.spec.trains_everything() {
        true => PstConfig { targets: Vec::new(), lora_r: 0, scale: 1.0 },
        false => PstConfig { targets: pst.targets.clone(), lora_r: pst.lora_r, scale: pst.scale() },
    }
}

fn layers(law: &Law) -> Vec<LayerConfig> {
    let used = used_layers(law);
    let adapted = |id| !law.spec.trains_everything() && law.layout.find(GroupKind::Layer(id)).is_some();
    let layers = law.catalog.layers.iter().filter(|layer| used.contains(&layer.id));
    let config = |layer: &esta_engine::catalog::Layer| {
        let rank = if adapted(layer.id) { law.spec.pst.stitch_r } else { 0 };
        LayerConfig { id: layer.id, from: layer.from, to: layer.to, rank }
    };
    layers.map(config).collect()
}

fn used_layers(law: &Law) -> BTreeSet<LayerId> {
    law.catalog.stitches().flat_map(|stitch| stitch.layers.iter().copied()).collect()
}

/// Every tensor of the run once, by the run's own names: what trains, over what is frozen.
pub fn tensors(law: &Law, store: &ParamStore, frozen: &Weights) -> Weights {
    let used: BTreeSet<String> = used_layers(law).iter().map(LayerId::to_string).collect();
    let wanted = |name: &str| match name.strip_prefix("stitch_layers.").and_then(|rest| rest.split('.').next()) {
        Some(layer) => used.contains(layer),
        None => true,
    };
    let mut all = Weights::new("bundle");
    for (name, tensor) in frozen.iter().filter(|(name, _)| wanted(name)) {
        all.insert(name, tensor.shallow_clone());
    }
    for param in store.groups().iter().flat_map(|group| &group.params) {
        all.insert(param.name.as_str(), param.tensor.detach());
    }
    all
}

/// How to use a bundle.
pub fn readme(config: &BundleConfig<'_>) -> String {
    let (run, stitches) = (&config.header.run, config.stitches.len());
    format!(
        "# All stitches of the run {run}\n\n\
         {stitches} networks over one set of weights; `config.json` lists them with their MACs. PyTorch is all it needs:\n\n\
         ```python\n\
         from modeling_stitched_vit import load_bundle  # the file in this folder\n\
         model = load_bundle(\".\"); model.set_budget(1e9)  # MACs per image at most; or model.set_stitch(id)\n\
         logits = model(model.preprocess(images))  # uint8 images [B, C, H, W]\n\
         ```\n"
    )
}
