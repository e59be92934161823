//! The tensors of each kind of group: names and shapes by the grammar of `GroupLayout::new`.

mod llama;
mod vit;

use esta_proto::{AnchorId, LayerId, StitchId};

use super::{GroupKind, Param};
use crate::arch::Arch;
use crate::catalog::Catalog;
use crate::spec::{JobSpec, LoraSharing, PstBias, PstSpec};

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
            (GroupKind::Block(anchor, block), true) => {
                whole_block(&block_name(anchor, block, self.arch(anchor)), self.arch(anchor))
            }
            (GroupKind::Block(anchor, block), false) if pst.lora == LoraSharing::Shared => {
                block_pairs(&block_name(anchor, block, self.arch(anchor)), self.arch(anchor), pst)
            }
            (GroupKind::Layer(layer), true) => self.whole_layer(layer),
            (GroupKind::Layer(layer), false) if pst.lora == LoraSharing::Shared => {
                self.layer_pair(&format!("stitch_layers.{layer}"), layer)
            }
            (GroupKind::Head(anchor), true) => [self.norm(anchor), self.head(anchor)].concat(),
            (GroupKind::Head(anchor), false) if self.arch(anchor).as_llama().is_some() => Vec::new(),
            (GroupKind::Head(anchor), false) => self.head(anchor),
            (GroupKind::Bias(stitch), false) => self.own(stitch),
            (GroupKind::Block(..) | GroupKind::Layer(_) | GroupKind::Embed(_), false) | (GroupKind::Bias(_), true) => {
                Vec::new()
            }
        }
    }

    fn arch(&self, anchor: AnchorId) -> &Arch {
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
        match self.arch(anchor) {
            Arch::Vit(arch) => affine(&format!("anchors.{anchor}.norm"), &[arch.width()]),
            Arch::Llama(arch) => llama::norm(anchor, arch),
        }
    }

    fn head(&self, anchor: AnchorId) -> Vec<Param> {
        match self.arch(anchor) {
            Arch::Vit(arch) => {
                let classes = u64::from(self.catalog.task.classes());
                affine(&format!("anchors.{anchor}.head"), &[classes, arch.width()])
            }
            Arch::Llama(arch) => llama::head(anchor, arch),
        }
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

/// What a block's checkpoint names begin with.
fn block_name(anchor: AnchorId, block: u32, arch: &Arch) -> String {
    match arch {
        Arch::Vit(_) => format!("anchors.{anchor}.blocks.{block}"),
        Arch::Llama(_) => format!("anchors.{anchor}.model.layers.{block}"),
    }
}

fn embed(anchor: AnchorId, arch: &Arch) -> Vec<Param> {
    match arch {
        Arch::Vit(arch) => vit::embed(anchor, arch),
        Arch::Llama(arch) => llama::embed(anchor, arch),
    }
}

/// All tensors of an anchor by its checkpoint's own names; a head that is a task's is left out.
#[must_use]
pub fn anchor_tensors(arch: &Arch) -> Vec<Param> {
    let anchor = AnchorId(0);
    let prefix = format!("anchors.{anchor}.");
    let mut params = embed(anchor, arch);
    params.extend((0..arch.depth()).flat_map(|block| whole_block(&block_name(anchor, block, arch), arch)));
    match arch {
        Arch::Vit(arch) => params.extend(affine(&format!("{prefix}norm"), &[arch.width()])),
        Arch::Llama(arch) => params.extend([llama::norm(anchor, arch), llama::head(anchor, arch)].concat()),
    }
    for param in &mut params {
        param.name.drain(..prefix.len());
    }
    params
}

/// The tensors of any of an anchor's blocks, by their names inside it.
#[must_use]
pub fn block_tensors(arch: &Arch) -> Vec<Param> {
    const NAME: &str = "block";
    let mut params = whole_block(NAME, arch);
    for param in &mut params {
        param.name.drain(..=NAME.len());
    }
    params
}

/// All tensors of the block whose name is `prefix`.
fn whole_block(prefix: &str, arch: &Arch) -> Vec<Param> {
    match arch {
        Arch::Vit(arch) => vit::whole_block(prefix, arch),
        Arch::Llama(arch) => llama::whole_block(prefix, arch),
    }
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
    /// Whether the anchor has a bias there.
    biased: bool,
}

/// The adapted maps of a block in the order of its flat buffer.
fn adapted(arch: &Arch, pst: &PstSpec) -> Vec<Adapted> {
    match arch {
        Arch::Vit(arch) => vit::adapted(arch, pst),
        Arch::Llama(arch) => llama::adapted(arch, pst),
    }
}

/// The LoRA pairs of the block whose name is `prefix`.
fn block_pairs(prefix: &str, arch: &Arch, pst: &PstSpec) -> Vec<Param> {
    let rank = u64::from(pst.lora_r);
    let of_map = |Adapted { name, parts, inputs, outputs, .. }: Adapted| {
        let several = |sides: [u64; 2]| parts.into_iter().chain(sides).collect::<Vec<u64>>();
        pair(&format!("{prefix}.{name}"), &several([rank, inputs]), &several([outputs, rank]))
    };
    adapted(arch, pst).into_iter().flat_map(of_map).collect()
}

/// A stitch's own biases on the block whose name is `prefix`.
fn block_biases(prefix: &str, arch: &Arch, pst: &PstSpec) -> Vec<Param> {
    let of_map = |Adapted { name, parts, outputs, .. }: Adapted| {
        param(format!("{prefix}.{name}.bias"), &parts.into_iter().chain([outputs]).collect::<Vec<u64>>())
    };
    adapted(arch, pst).into_iter().map(of_map).collect()
}

/// Parameters that a stitch's own biases add to its deployed model: where an anchor has a bias they go into that.
pub(crate) fn own_biases(catalog: &Catalog, spec: &JobSpec, id: StitchId) -> u64 {
    let Some(stitch) = catalog.get(id) else { return 0 };
    if spec.trains_everything() || spec.pst.bias != PstBias::All {
        return 0;
    }
    let of_block = |arch| {
        let bare = adapted(arch, &spec.pst).into_iter().filter(|map| !map.biased);
        bare.map(|map| map.outputs * map.parts.unwrap_or(1)).sum::<u64>()
    };
    let segments = stitch.segments.iter();
    segments
        .map(|segment| {
            let blocks = u64::from(segment.last - segment.first) + 1;
            blocks * of_block(&catalog.anchors[segment.anchor.index()])
        })
        .sum()
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
