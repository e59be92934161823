//! The group layout against METHOD.md section 2's counts, and what RD-1 and OP-1 need of it.

use std::collections::BTreeSet;

use esta_engine::catalog::Catalog;
use esta_engine::groups::{GroupKind, GroupLayout};
use esta_engine::spec::{JobSpec, LoraSharing, Mode, PstBias, SpaceKind, Target};
use esta_proto::{AnchorId, LayerId, StitchId};

/// ViT-Ti/S/B on 1,000 classes with every default.
fn family() -> JobSpec {
    let anchor =
        |name: &str| serde_json::json!({"name": name, "preset": format!("vit_{name}_patch16_224"), "weights": "w"});
    serde_json::from_value(serde_json::json!({
        "name": "layout",
        "family": {"anchors": [anchor("tiny"), anchor("small"), anchor("base")]},
        "train": {"max_steps": 1},
        "data": {"num_classes": 1000, "train": {"layout": "image_folder", "path": "p"}},
    }))
    .expect("a complete specification")
}

fn lay_out(spec: &JobSpec) -> (Catalog, GroupLayout) {
    let catalog = Catalog::build(spec).expect("this family stitches");
    let layout = GroupLayout::new(&catalog, spec);
    (catalog, layout)
}

fn params_of(layout: &GroupLayout, wanted: impl Fn(GroupKind) -> bool) -> u64 {
    layout.groups.iter().filter(|group| wanted(group.kind)).map(|group| group.numel()).sum()
}

/// Names and shapes of one group.
fn tensors(layout: &GroupLayout, kind: GroupKind) -> Vec<(&str, &[u64])> {
    let group = layout.find(kind).expect("the group trains");
    group.params.iter().map(|param| (param.name.as_str(), param.shape.as_slice())).collect()
}

#[test]
fn the_defaults_train_2_257_344_parameters_heads_apart() {
    let (_, layout) = lay_out(&family());
    let blocks = params_of(&layout, |kind| matches!(kind, GroupKind::Block(..)));
    let layers = params_of(&layout, |kind| matches!(kind, GroupKind::Layer(_)));
    let biases = params_of(&layout, |kind| matches!(kind, GroupKind::Bias(_)));
    assert_eq!((blocks, layers, biases), (774_144, 304_128, 1_179_072));
    assert_eq!(layout.trainable_params_without_heads(), 2_257_344);
    let heads = 1000 * (192 + 384 + 768) + 3 * 1000;
    assert_eq!(layout.trainable_params(), 2_257_344 + heads);
}

#[test]
fn a_lora_per_stitch_gives_every_path_pairs_of_its_own_and_shares_only_heads() {
    let mut spec = family();
    spec.pst.lora = LoraSharing::PerStitch;
    let (catalog, layout) = lay_out(&spec);
    assert!(layout.groups.iter().all(|group| matches!(group.kind, GroupKind::Head(_) | GroupKind::Bias(_))));
    // Per block of width D three pairs of rank 8 and three biases; per stitching layer a pair of rank 16 and a bias.
    let own = |stitch: StitchId| {
        let stitch = catalog.get(stitch).expect("it is in the catalog");
        let width = |anchor: AnchorId| catalog.anchors[anchor.index()].width();
        let blocks = stitch.segments.iter().map(|s| u64::from(s.last - s.first + 1) * width(s.anchor) * 3 * (16 + 1));
        let layers = stitch.layers.iter().map(|layer| {
            let layer = &catalog.layers[layer.index()];
            16 * (width(layer.from) + width(layer.to)) + width(layer.to)
        });
        blocks.sum::<u64>() + layers.sum::<u64>()
    };
    for stitch in [0, 3, 66].map(StitchId) {
        assert_eq!(layout.find(GroupKind::Bias(stitch)).expect("it trains").numel(), own(stitch), "stitch {stitch}");
    }
    let pair: Vec<_> = tensors(&layout, GroupKind::Bias(StitchId(3))).into_iter().take(3).collect();
    let name = |part: &str| format!("stitches.3.0.blocks.0.attn.qkv.{part}");
    assert_eq!(
        pair.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>(),
        ["lora_A", "lora_B", "bias"].map(name)
    );
}

#[test]
fn shared_parameters_follow_the_rank() {
    for rank in [1, 4, 16] {
        let mut spec = family();
        spec.pst.lora_r = rank;
        spec.pst.stitch_r = rank;
        let (_, layout) = lay_out(&spec);
        let rank = u64::from(rank);
        let blocks = params_of(&layout, |kind| matches!(kind, GroupKind::Block(..)));
        let layers = params_of(&layout, |kind| matches!(kind, GroupKind::Layer(_)));
        assert_eq!((blocks, layers), (72 * rank * (192 + 384 + 768), 19_008 * rank));
    }
}

#[test]
fn full_sn_net_trains_117_056_448_parameters_heads_apart() {
    let mut spec = family();
    spec.mode = Mode::Snnet;
    spec.family.space.kind = SpaceKind::Snnet;
    let (catalog, layout) = lay_out(&spec);
    assert_eq!(layout.trainable_params_without_heads(), 117_056_448);
    let anchors: u64 = catalog.stitches().filter(|stitch| stitch.is_anchor()).map(|stitch| stitch.params).sum();
    let layers = params_of(&layout, |kind| matches!(kind, GroupKind::Layer(_)));
    assert_eq!(layout.trainable_params(), anchors + layers, "the layout holds every weight that the costs count");
}

#[test]
fn groups_stand_in_the_documented_order() {
    let (_, layout) = lay_out(&family());
    let kinds: Vec<GroupKind> = layout.groups.iter().map(|group| group.kind).collect();
    let anchors = (0..3).map(AnchorId);
    let blocks = anchors.clone().flat_map(|anchor| (0..12).map(move |block| GroupKind::Block(anchor, block)));
    let layers = (0..22).map(|layer| GroupKind::Layer(LayerId(layer)));
    let biases = (0..67).map(|stitch| GroupKind::Bias(StitchId(stitch)));
    let expected: Vec<GroupKind> = blocks.chain(layers).chain(anchors.map(GroupKind::Head)).chain(biases).collect();
    assert_eq!(kinds, expected);
    assert!((0..).zip(&layout.groups).all(|(place, group)| group.id.0 == place));
}

#[test]
fn adapter_names_and_shapes() {
    let mut spec = family();
    spec.pst.targets = vec![Target::Q, Target::V, Target::O];
    let (catalog, layout) = lay_out(&spec);
    let block = tensors(&layout, GroupKind::Block(AnchorId(1), 11));
    let expected: [(&str, &[u64]); 4] = [
        ("anchors.1.blocks.11.attn.qkv.lora_A", &[2, 8, 384]),
        ("anchors.1.blocks.11.attn.qkv.lora_B", &[2, 384, 8]),
        ("anchors.1.blocks.11.attn.proj.lora_A", &[8, 384]),
        ("anchors.1.blocks.11.attn.proj.lora_B", &[384, 8]),
    ];
    assert_eq!(block, expected);
    let layer = tensors(&layout, GroupKind::Layer(LayerId(11)));
    let expected: [(&str, &[u64]); 2] =
        [("stitch_layers.11.lora_A", &[16, 384]), ("stitch_layers.11.lora_B", &[768, 16])];
    assert_eq!(layer, expected);
    let head = tensors(&layout, GroupKind::Head(AnchorId(0)));
    let expected: [(&str, &[u64]); 2] = [("anchors.0.head.weight", &[1000, 192]), ("anchors.0.head.bias", &[1000])];
    assert_eq!(head, expected);
    let last = catalog.get(StitchId(66)).expect("no hole");
    let bias = tensors(&layout, GroupKind::Bias(last.id));
    let (place, block) = (last.segments.len() - 1, last.segments[1].last);
    let qkv = format!("stitches.66.{place}.blocks.{block}.attn.qkv.bias");
    let proj = format!("stitches.66.{place}.blocks.{block}.attn.proj.bias");
    let expected: [(&str, &[u64]); 3] = [(&qkv, &[2, 768]), (&proj, &[768]), ("stitches.66.layers.0.bias", &[768])];
    assert_eq!(bias[bias.len() - 3..], expected);
}

#[test]
fn pairs_on_the_mlp_follow_those_of_attention() {
    let mut spec = family();
    spec.pst.targets = vec![Target::V, Target::Fc1, Target::Fc2];
    let (_, layout) = lay_out(&spec);
    let block = tensors(&layout, GroupKind::Block(AnchorId(0), 3));
    let expected: [(&str, &[u64]); 6] = [
        ("anchors.0.blocks.3.attn.qkv.lora_A", &[1, 8, 192]),
        ("anchors.0.blocks.3.attn.qkv.lora_B", &[1, 192, 8]),
        ("anchors.0.blocks.3.mlp.fc1.lora_A", &[8, 192]),
        ("anchors.0.blocks.3.mlp.fc1.lora_B", &[768, 8]),
        ("anchors.0.blocks.3.mlp.fc2.lora_A", &[8, 768]),
        ("anchors.0.blocks.3.mlp.fc2.lora_B", &[192, 8]),
    ];
    assert_eq!(block, expected);
    let bias = tensors(&layout, GroupKind::Bias(StitchId(0)));
    let expected: [(&str, &[u64]); 3] = [
        ("stitches.0.0.blocks.0.attn.qkv.bias", &[1, 192]),
        ("stitches.0.0.blocks.0.mlp.fc1.bias", &[768]),
        ("stitches.0.0.blocks.0.mlp.fc2.bias", &[192]),
    ];
    assert_eq!(bias[..3], expected);
}

#[test]
fn everything_trained_bears_timms_names_and_shapes() {
    let mut spec = family();
    spec.mode = Mode::Snnet;
    let (_, layout) = lay_out(&spec);
    let embed = tensors(&layout, GroupKind::Embed(AnchorId(0)));
    let expected: [(&str, &[u64]); 4] = [
        ("anchors.0.cls_token", &[1, 1, 192]),
        ("anchors.0.pos_embed", &[1, 197, 192]),
        ("anchors.0.patch_embed.proj.weight", &[192, 3, 16, 16]),
        ("anchors.0.patch_embed.proj.bias", &[192]),
    ];
    assert_eq!(embed, expected);
    let block = tensors(&layout, GroupKind::Block(AnchorId(0), 3));
    let expected: [(&str, &[u64]); 12] = [
        ("anchors.0.blocks.3.norm1.weight", &[192]),
        ("anchors.0.blocks.3.norm1.bias", &[192]),
        ("anchors.0.blocks.3.attn.qkv.weight", &[576, 192]),
        ("anchors.0.blocks.3.attn.qkv.bias", &[576]),
        ("anchors.0.blocks.3.attn.proj.weight", &[192, 192]),
        ("anchors.0.blocks.3.attn.proj.bias", &[192]),
        ("anchors.0.blocks.3.norm2.weight", &[192]),
        ("anchors.0.blocks.3.norm2.bias", &[192]),
        ("anchors.0.blocks.3.mlp.fc1.weight", &[768, 192]),
        ("anchors.0.blocks.3.mlp.fc1.bias", &[768]),
        ("anchors.0.blocks.3.mlp.fc2.weight", &[192, 768]),
        ("anchors.0.blocks.3.mlp.fc2.bias", &[192]),
    ];
    assert_eq!(block, expected);
    let layer = tensors(&layout, GroupKind::Layer(LayerId(0)));
    let expected: [(&str, &[u64]); 2] = [("stitch_layers.0.weight", &[384, 192]), ("stitch_layers.0.bias", &[384])];
    assert_eq!(layer, expected);
    let head: Vec<&str> = tensors(&layout, GroupKind::Head(AnchorId(2))).iter().map(|(name, _)| *name).collect();
    assert_eq!(head, ["anchors.2.norm.weight", "anchors.2.norm.bias", "anchors.2.head.weight", "anchors.2.head.bias"]);
    assert!(layout.groups.iter().all(|group| !matches!(group.kind, GroupKind::Bias(_))));
}

#[test]
fn op_1_a_stitch_touches_exactly_the_groups_on_its_path() {
    let mut spec = family();
    let kinds = |spec: &JobSpec, id: u32| -> Vec<String> {
        let (_, layout) = lay_out(spec);
        let groups = layout.touched(StitchId(id)).iter();
        groups.map(|group| layout.groups[group.index()].kind.to_string()).collect()
    };
    // Number 34 is the last tiny-to-small stitch, (10, 11).
    let tiny = (0..=10).map(|block| format!("block(0,{block})"));
    let rest = ["block(1,11)", "layer(10)", "head(1)", "bias(34)"].map(str::to_owned);
    assert_eq!(kinds(&spec, 34), tiny.clone().chain(rest).collect::<Vec<_>>());

    spec.mode = Mode::Snnet;
    let embed = std::iter::once("embed(0)".to_owned());
    let rest = ["block(1,11)", "layer(10)", "head(1)"].map(str::to_owned);
    assert_eq!(kinds(&spec, 34), embed.chain(tiny).chain(rest).collect::<Vec<_>>());
}

#[test]
fn the_parts_of_pst_can_be_switched_off() {
    let mut spec = family();
    spec.pst.bias = PstBias::StitchLayer;
    let (catalog, layout) = lay_out(&spec);
    assert_eq!(layout.find(GroupKind::Bias(StitchId(0))), None, "an anchor has no stitching layer");
    let biases = params_of(&layout, |kind| matches!(kind, GroupKind::Bias(_)));
    assert_eq!(biases, 32 * (384 + 768));
    assert!(catalog.stitches().all(|stitch| !layout.touched(stitch.id).is_empty()));

    spec.pst.bias = PstBias::None;
    spec.pst.stitch_r = 0;
    let (_, layout) = lay_out(&spec);
    assert!(layout.groups.iter().all(|group| matches!(group.kind, GroupKind::Block(..) | GroupKind::Head(_))));
}

#[test]
fn one_anchor_alone_has_no_stitching_layers() {
    let mut spec = family();
    spec.mode = Mode::Anchor;
    spec.family.anchors.truncate(1);
    let (catalog, adapters) = lay_out(&spec);
    assert_eq!((catalog.stitches().count(), catalog.layers.len()), (1, 0));
    assert_eq!(adapters.trainable_params_without_heads(), 72 * 8 * 192 + 12 * 3 * 192);
    assert!(catalog.warnings().is_empty(), "a lone anchor needs no budgets");

    spec.train.full = true;
    let (_, everything) = lay_out(&spec);
    assert_eq!(everything.trainable_params(), catalog.get(StitchId(0)).expect("the anchor").params);
}

#[test]
fn rd_1_order_is_by_number_and_the_canonical_text_shows_it() {
    let (_, layout) = lay_out(&family());
    let text = layout.canonical_text();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("0 block(0,0) anchors.0.blocks.0.attn.qkv.lora_A 3x8x192"));
    assert_eq!(lines.next(), Some("0 block(0,0) anchors.0.blocks.0.attn.qkv.lora_B 3x192x8"));
    let (two, ten) = (text.find("anchors.0.blocks.2."), text.find("anchors.0.blocks.10."));
    assert!(two < ten, "block 10 does not sort before block 2");
    let tensors: usize = layout.groups.iter().map(|group| group.params.len()).sum();
    assert_eq!(text.lines().count(), tensors);
    let names: BTreeSet<&str> = text.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(names.len(), tensors, "names are unique");
}

/// LLaMA 7B and 13B with every default: LoRA of rank 8 on q, k and v, of rank 16 on stitching layers, biases everywhere.
fn speakers() -> JobSpec {
    serde_json::from_value(serde_json::json!({
        "name": "layout",
        "family": {
            "anchors": [
                {"name": "7b", "preset": "llama-7b", "weights": "7b"},
                {"name": "13b", "preset": "llama-13b", "weights": "13b"},
            ],
            "space": {"kind": "proportional"},
        },
        "budgets": {"params": {"gap": 1e9}},
        "train": {"max_steps": 1},
        "data": {"text": {}, "train": {"layout": "alpaca", "path": "a.json"}},
    }))
    .expect("a complete specification")
}

#[test]
fn language_models_train_adapters_by_formula_and_no_head() {
    let (catalog, layout) = lay_out(&speakers());
    let (small, large) = ((4096, 32), (5120, 40));
    let blocks: u64 = [small, large].iter().map(|(width, depth)| depth * 3 * 8 * 2 * width).sum();
    assert_eq!(params_of(&layout, |kind| matches!(kind, GroupKind::Block(..))), blocks);
    assert_eq!(params_of(&layout, |kind| matches!(kind, GroupKind::Layer(_))), 31 * 16 * (4096 + 5120));
    // Every stitch has a bias on q, k and v of each block it runs, and one on its stitching layer.
    let biases = catalog.stitches().map(|stitch| {
        let runs = |anchor: u32| {
            let segments = stitch.segments.iter().filter(|segment| segment.anchor == AnchorId(anchor));
            segments.map(|segment| u64::from(segment.last - segment.first) + 1).sum::<u64>()
        };
        3 * (4096 * runs(0) + 5120 * runs(1)) + if stitch.is_anchor() { 0 } else { 5120 }
    });
    assert_eq!(params_of(&layout, |kind| matches!(kind, GroupKind::Bias(_))), biases.sum::<u64>());
    assert!(layout.groups.iter().all(|group| !matches!(group.kind, GroupKind::Head(_) | GroupKind::Embed(_))));
    let block = tensors(&layout, GroupKind::Block(AnchorId(1), 39));
    assert_eq!(block[0], ("anchors.1.model.layers.39.self_attn.q_proj.lora_A", &[8, 5120][..]));
    assert_eq!(block.len(), 6);
    let (whole, frozen) = (layout.trainable_params(), 6_738_415_616_u64 + 13_015_864_320);
    assert!(whole * 100 < frozen, "{whole} of {frozen}");
}

#[test]
fn every_map_of_a_decoder_can_carry_a_pair_and_a_tied_head_trains_as_its_embedding() {
    let mut spec = speakers();
    spec.pst.targets = vec![Target::Q, Target::K, Target::V, Target::O, Target::Fc1, Target::Fc2];
    let (_, layout) = lay_out(&spec);
    let names: Vec<&str> = tensors(&layout, GroupKind::Block(AnchorId(0), 0)).iter().map(|(name, _)| *name).collect();
    let maps = ["self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "mlp.gate", "mlp.up", "mlp.down"];
    let expected: Vec<String> = maps
        .iter()
        .flat_map(|map| ["lora_A", "lora_B"].map(|part| format!("anchors.0.model.layers.0.{map}_proj.{part}")))
        .collect();
    assert_eq!(names, expected);

    let mut spec = speakers();
    spec.mode = Mode::Snnet;
    let untied = lay_out(&spec).1;
    for (anchor, preset) in spec.family.anchors.iter_mut().zip(["smollm2-135m", "smollm2-360m"]) {
        anchor.preset = Some(preset.to_owned());
    }
    let (catalog, tied) = lay_out(&spec);
    let head = |layout: &GroupLayout| tensors(layout, GroupKind::Head(AnchorId(1))).len();
    assert_eq!((head(&untied), head(&tied)), (2, 1), "a norm, and a head where it has a tensor of its own");
    let stitched = catalog.stitches().find(|stitch| !stitch.is_anchor()).expect("stitched");
    let touched: Vec<GroupKind> = tied.touched(stitched.id).iter().map(|id| tied.groups[id.index()].kind).collect();
    for end in [0, 1] {
        assert!(touched.contains(&GroupKind::Embed(AnchorId(end))), "both ends of a tied path train");
    }
}
