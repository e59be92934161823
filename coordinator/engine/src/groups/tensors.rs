//! The tensors of each kind of group: names and shapes by the grammar of `GroupLayout::new`.

use esta_proto::{AnchorId, LayerId, StitchId};

use super::{GroupKind, Param};
use crate::arch::VitArch;
use crate::catalog::Catalog;
use crate::spec::{JobSpec, LoraSharing, PstBias, PstSpec, Target};

/// What the names and shapes derive from.
pub(super) struct Tensors<'a> {
    pub catalog: &'a Catalog,
    pub spec: &'a JobSpec,
}

impl Tensors<'_> {
    /// The trained tensors of a group in the order of its flat buffer; empty where nothing trains.
    pub(super) fn of(&self, kind: GroupKind) -> Vec<Param> {
        let pst = &self.spec.pst;
        match (kind, self.spec.trains_everything()) {
            (GroupKind::Embed(anchor), true) => embed(anchor, self.arch(anchor)),
            (GroupKind::Block(anchor, block), true) => whole_block(anchor, block, self.arch(anchor)),
            (GroupKind::Block(anchor, block), false) if pst.lora == LoraSharing::Shared => {
                block_pairs(&format!("anchors.{anchor}.blocks.{block}"), self.arch(anchor), pst)
            }
            (GroupKind::Layer(layer), true) => self.whole_layer(layer),
            (GroupKind::Layer(layer), false) if pst.lora == LoraSharing::Shared => {
                self.layer_pair(&format!("stitch_layers.{layer}"), layer)
            }
            (GroupKind::Head(anchor), true) => [self.norm(anchor), self.head(anchor)].concat(),
            (GroupKind::Head(anchor), false) => self.head(anchor),
            (GroupKind::Bias(stitch), false) => self.own(stitch),
            (GroupKind::Block(..) | GroupKind::Layer(_) | GroupKind::Embed(_), false) | (GroupKind::Bias(_), true) => {
                Vec::new()
            }
        }
    }

    fn arch(&self, anchor: AnchorId) -> &VitArch {
        &self.catalog.anchors[anchor.index()]
    }

    /// Widths in front of and behind a stitching layer.
    fn widths(&self, layer: LayerId) -> (u64, u64) {
        let layer = &self.catalog.layers[layer.index()];
        (self.arch(layer.from).width(), self.arch(layer.to).width())
    }

    fn whole_layer(&self, layer: LayerId) -> Vec<Param> {
        let (from, to) = self.widths(layer);
        affine(&format!("stitch_layers.{layer}"), &[to, from])
    }

    fn layer_pair(&self, prefix: &str, layer: LayerId) -> Vec<Param> {
        let rank = u64::from(self.spec.pst.stitch_r);
        if rank == 0 {
            return Vec::new();
        }
        let (from, to) = self.widths(layer);
        pair(prefix, &[rank, from], &[to, rank])
    }

    fn norm(&self, anchor: AnchorId) -> Vec<Param> {
        affine(&format!("anchors.{anchor}.norm"), &[self.arch(anchor).width()])
    }

    fn head(&self, anchor: AnchorId) -> Vec<Param> {
        let classes = u64::from(self.catalog.num_classes);
        affine(&format!("anchors.{anchor}.head"), &[classes, self.arch(anchor).width()])
    }

    /// A stitch's own tensors: block by block along its path, then its stitching layers; a pair before its bias.
    fn own(&self, id: StitchId) -> Vec<Param> {
        let Some(stitch) = self.catalog.get(id) else { return Vec::new() };
        let pst = &self.spec.pst;
        let pairs = pst.lora == LoraSharing::PerStitch;
        let mut params = Vec::new();
        for (place, segment) in stitch.segments.iter().enumerate() {
            let arch = self.arch(segment.anchor);
            for block in segment.first..=segment.last {
                let prefix = format!("stitches.{id}.{place}.blocks.{block}");
                if pairs {
                    params.extend(block_pairs(&prefix, arch, pst));
                }
                if pst.bias == PstBias::All {
                    params.extend(block_biases(&prefix, arch, pst));
                }
            }
        }
        for (j, &layer) in stitch.layers.iter().enumerate() {
            let prefix = format!("stitches.{id}.layers.{j}");
            if pairs {
                params.extend(self.layer_pair(&prefix, layer));
            }
            if pst.bias != PstBias::None {
                params.push(param(format!("{prefix}.bias"), &[self.widths(layer).1]));
            }
        }
        params
    }
}

fn embed(anchor: AnchorId, arch: &VitArch) -> Vec<Param> {
    let (d, patch) = (arch.width(), u64::from(arch.patch_size));
    let mut params = vec![
        param(format!("anchors.{anchor}.cls_token"), &[1, 1, d]),
        param(format!("anchors.{anchor}.pos_embed"), &[1, arch.tokens(), d]),
    ];
    params.extend(affine(&format!("anchors.{anchor}.patch_embed.proj"), &[d, u64::from(arch.in_chans), patch, patch]));
    params
}

fn whole_block(anchor: AnchorId, block: u32, arch: &VitArch) -> Vec<Param> {
    let d = arch.width();
    let hidden = d * u64::from(arch.mlp_ratio);
    let modules: [(&str, &[u64]); 6] = [
        ("norm1", &[d]),
        ("attn.qkv", &[3 * d, d]),
        ("attn.proj", &[d, d]),
        ("norm2", &[d]),
        ("mlp.fc1", &[hidden, d]),
        ("mlp.fc2", &[d, hidden]),
    ];
    modules.iter().flat_map(|(name, shape)| affine(&format!("anchors.{anchor}.blocks.{block}.{name}"), shape)).collect()
}

/// A linear map of a block that carries adaptation.
struct Adapted {
    /// Its name inside the block.
    name: &'static str,
    /// Adapted parts of a fused projection; none for a map of one part.
    parts: Option<u64>,
    inputs: u64,
    /// Of one part.
    outputs: u64,
}

/// The adapted maps of a block in the order of its flat buffer.
fn adapted(arch: &VitArch, pst: &PstSpec) -> impl Iterator<Item = Adapted> {
    let d = arch.width();
    let hidden = d * u64::from(arch.mlp_ratio);
    let fused = pst.targets.iter().map(|&target| u64::from(target.is_fused())).sum();
    let carries = |target| pst.targets.contains(&target);
    let maps = [
        (fused > 0, Adapted { name: "attn.qkv", parts: Some(fused), inputs: d, outputs: d }),
        (carries(Target::O), Adapted { name: "attn.proj", parts: None, inputs: d, outputs: d }),
        (carries(Target::Fc1), Adapted { name: "mlp.fc1", parts: None, inputs: d, outputs: hidden }),
        (carries(Target::Fc2), Adapted { name: "mlp.fc2", parts: None, inputs: hidden, outputs: d }),
    ];
    maps.into_iter().filter_map(|(carries, map)| carries.then_some(map))
}

/// The LoRA pairs of the block whose name is `prefix`.
fn block_pairs(prefix: &str, arch: &VitArch, pst: &PstSpec) -> Vec<Param> {
    let rank = u64::from(pst.lora_r);
    let of_map = |Adapted { name, parts, inputs, outputs }: Adapted| {
        let several = |sides: [u64; 2]| parts.into_iter().chain(sides).collect::<Vec<u64>>();
        pair(&format!("{prefix}.{name}"), &several([rank, inputs]), &several([outputs, rank]))
    };
    adapted(arch, pst).flat_map(of_map).collect()
}

/// A stitch's own biases on the block whose name is `prefix`.
fn block_biases(prefix: &str, arch: &VitArch, pst: &PstSpec) -> Vec<Param> {
    let of_map = |Adapted { name, parts, outputs, .. }: Adapted| {
        param(format!("{prefix}.{name}.bias"), &parts.into_iter().chain([outputs]).collect::<Vec<u64>>())
    };
    adapted(arch, pst).map(of_map).collect()
}

fn param(name: String, shape: &[u64]) -> Param {
    Param { name, shape: shape.to_vec() }
}

/// Weight and bias of a linear, convolution or norm; the bias is as long as the weight's first dimension.
fn affine(prefix: &str, weight: &[u64]) -> Vec<Param> {
    vec![param(format!("{prefix}.weight"), weight), param(format!("{prefix}.bias"), &weight[..1])]
}

/// A LoRA pair.
fn pair(prefix: &str, a: &[u64], b: &[u64]) -> Vec<Param> {
    vec![param(format!("{prefix}.lora_A"), a), param(format!("{prefix}.lora_B"), b)]
}
