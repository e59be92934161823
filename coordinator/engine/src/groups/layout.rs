//! Which groups a catalog has, in which order, and which of them each stitch touches.

use std::collections::{BTreeMap, BTreeSet};

use esta_proto::{GroupId, StitchId};

use super::tensors::Tensors;
use super::{Group, GroupKind, GroupLayout};
use crate::catalog::{Catalog, Stitch};
use crate::spec::JobSpec;

impl GroupLayout {
    /// The groups of a run in the order of every reduction (RD-1): for each anchor its `Embed` (only where everything
    /// trains) and its `Block`s ascending; then `Layer`s by id, `Head`s by anchor, `Bias`es by stitch. A group is left
    /// out when no stitch touches it or nothing in it trains.
    ///
    /// Names, where `a` is an anchor, `b` its block, `l` a stitching layer, `s` a stitch, `g` the place of a segment
    /// and `j` that of a stitching layer on the stitch's path. Shapes, where D is the anchor's width, M its MLP's, F and
    /// E those in front of and behind a stitching layer, r the rank, C the classes, T the number of targets among q, k, v:
    ///
    /// | group | names | shapes |
    /// |---|---|---|
    /// | `Block`, adapters | `anchors.{a}.blocks.{b}.attn.qkv.lora_A`, `.lora_B` | T r D, T D r |
    /// | the same, target o | `anchors.{a}.blocks.{b}.attn.proj.lora_A`, `.lora_B` | r D, D r |
    /// | the same, target fc1 | `anchors.{a}.blocks.{b}.mlp.fc1.lora_A`, `.lora_B` | r D, M r |
    /// | the same, target fc2 | `anchors.{a}.blocks.{b}.mlp.fc2.lora_A`, `.lora_B` | r M, D r |
    /// | `Block` of a language model | `anchors.{a}.model.layers.{b}.{m}.lora_A`, `.lora_B` | r I, O r |
    /// | `Layer`, adapters | `stitch_layers.{l}.lora_A`, `.lora_B` | r F, E r |
    /// | `Head`, adapters | `anchors.{a}.head.weight`, `.bias` | C D, C |
    /// | `Bias` | `stitches.{s}.{g}.blocks.{b}.attn.qkv.bias` | T D |
    /// | the same, target o | `stitches.{s}.{g}.blocks.{b}.attn.proj.bias` | D |
    /// | the same, targets fc1, fc2 | `stitches.{s}.{g}.blocks.{b}.mlp.fc1.bias`, `.mlp.fc2.bias` | M, D |
    /// | `Bias` of a language model | `stitches.{s}.{g}.blocks.{b}.{m}.bias` | O |
    /// | `Bias` | `stitches.{s}.layers.{j}.bias` | E |
    /// | `Bias`, `pst.lora: per-stitch` | the pairs above, behind `stitches.{s}.{g}.` and as `stitches.{s}.layers.{j}` | as above |
    /// | `Layer`, everything | `stitch_layers.{l}.weight`, `.bias` | E F, E |
    /// | others, everything | timm's or Hugging Face's names behind `anchors.{a}.` | theirs |
    ///
    /// Of a language model, m is a map O I among `self_attn.{q,k,v,o}_proj` and `mlp.{gate,up,down}_proj`, in this order:
    /// fc1 stands for gate and up, fc2 for down. Its head is not a task's and trains only where everything does; a tied
    /// one is its `Embed`.
    #[must_use]
    pub fn new(catalog: &Catalog, spec: &JobSpec) -> Self {
        let tensors = Tensors { catalog, spec };
        let mut ordered = BTreeMap::new();
        for kind in catalog.stitches().flat_map(|stitch| on_path(stitch, catalog)) {
            ordered.entry(place(kind)).or_insert(kind);
        }
        let filled =
            ordered.into_values().map(|kind| (kind, tensors.of(kind))).filter(|(_, params)| !params.is_empty());
        let groups: Vec<Group> =
            (0..).map(GroupId).zip(filled).map(|(id, (kind, params))| Group { id, kind, params }).collect();
        let ids: BTreeMap<GroupKind, GroupId> = groups.iter().map(|group| (group.kind, group.id)).collect();
        let mut touched = vec![Vec::new(); catalog.id_bound()];
        for stitch in catalog.stitches() {
            let mine: BTreeSet<GroupId> = on_path(stitch, catalog).filter_map(|kind| ids.get(&kind).copied()).collect();
            touched[stitch.id.index()] = mine.into_iter().collect();
        }
        Self { groups, touched }
    }
}

/// Everything a stitch's forward pass uses that might train.
fn on_path<'a>(stitch: &'a Stitch, catalog: &Catalog) -> impl Iterator<Item = GroupKind> + use<'a> {
    let end = stitch.end_anchor();
    // The head of a tied end anchor is its embedding.
    let tied = catalog.anchors[end.index()].as_llama().is_some_and(|arch| arch.tie_word_embeddings);
    let embed = stitch.segments.first().map(|segment| GroupKind::Embed(segment.anchor));
    let blocks = stitch.segments.iter().flat_map(|segment| {
        let anchor = segment.anchor;
        (segment.first..=segment.last).map(move |block| GroupKind::Block(anchor, block))
    });
    let layers = stitch.layers.iter().map(|&layer| GroupKind::Layer(layer));
    let own = [GroupKind::Head(end), GroupKind::Bias(stitch.id)];
    let tied = tied.then_some(GroupKind::Embed(end));
    embed.into_iter().chain(tied).chain(blocks).chain(layers).chain(own)
}

/// Where a group stands in the order: its section, then what it belongs to.
fn place(kind: GroupKind) -> (u8, u32, u32) {
    match kind {
        GroupKind::Embed(anchor) => (0, anchor.0, 0),
        GroupKind::Block(anchor, block) => (0, anchor.0, block + 1),
        GroupKind::Layer(layer) => (1, layer.0, 0),
        GroupKind::Head(anchor) => (2, anchor.0, 0),
        GroupKind::Bias(StitchId(stitch)) => (3, stitch, 0),
    }
}
