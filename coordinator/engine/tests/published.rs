//! The catalog against everything that METHOD.md section 1 quotes of SN-Net's published spaces.
//!
//! The product counts the model that runs. Two defects of the published counts are added back here: version 1's
//! stitched rows leave out the MACs of the final norm, and parameters of its stitches leave out the class token and
//! the position embedding.

use std::collections::BTreeSet;

use esta_engine::arch::{Arch, LlamaArch, VitArch};
use esta_engine::catalog::{Catalog, Segment, Stitch};
use esta_engine::cost::{self, Task};
use esta_engine::spec::{BudgetSpec, Mode, ParamBins, SpaceKind, SpaceSpec};
use esta_proto::{AnchorId, StitchId};

fn vit(size: &str) -> VitArch {
    VitArch::preset(&format!("deit_{size}_patch16_224")).expect("a timm name")
}

fn catalog(sizes: &[&str], space: &SpaceSpec) -> Catalog {
    let anchors = sizes.iter().map(|size| vit(size).into()).collect();
    Catalog::new(anchors, space, Task::Classify { classes: 1000 }, &BudgetSpec::Gap(1e9), Mode::Pst)
        .expect("these anchors stitch")
}

fn space(kind: SpaceKind) -> SpaceSpec {
    SpaceSpec { kind, ..SpaceSpec::default() }
}

fn snnet() -> Catalog {
    catalog(&["tiny", "small", "base"], &space(SpaceKind::Snnet))
}

fn twoway(sizes: &[&str]) -> Catalog {
    catalog(sizes, &space(SpaceKind::Twoway))
}

fn stitch(catalog: &Catalog, id: u32) -> &Stitch {
    catalog.get(StitchId(id)).expect("no hole")
}

fn path(stitch: &Stitch) -> Vec<(u32, u32, u32)> {
    stitch.segments.iter().map(|Segment { anchor, first, last }| (anchor.0, *first, *last)).collect()
}

/// (MACs, parameters) as version 1 published them.
fn as_version_1_counts(catalog: &Catalog, id: u32) -> (u64, u64) {
    let stitch = stitch(catalog, id);
    if stitch.is_anchor() {
        return (stitch.macs, stitch.params);
    }
    let arch = |anchor: AnchorId| catalog.anchors[anchor.index()].as_vit().expect("vision transformers");
    let (front, end) = (arch(stitch.segments[0].anchor), arch(stitch.end_anchor()));
    (stitch.macs - cost::norm_macs(end), stitch.params - cost::token_params(front))
}

#[test]
fn every_published_row_of_the_sliding_window_space() {
    let catalog = snnet();
    let rows = [
        (0, 1_258_411_200, 5_717_416),
        (1, 4_608_338_304, 22_050_664),
        (2, 17_582_740_224, 86_567_656),
        (3, 4_696_010_496, 22_345_960),
        (5, 4_798_437_888, 22_790_824),
        (36, 1_652_086_272, 7_720_360),
        (70, 6_121_909_248, 29_742_952),
    ];
    for (id, macs, params) in rows {
        assert_eq!(as_version_1_counts(&catalog, id), (macs, params), "row {id}");
    }
    assert_eq!(path(stitch(&catalog, 5)), [(0, 0, 1), (1, 0, 11)], "row 5 is the pair (1, 0)");
    assert_eq!(path(stitch(&catalog, 36)), [(0, 0, 11), (1, 11, 11)], "row 36 is the pair (11, 11)");
}

#[test]
fn every_published_row_of_the_two_way_space() {
    let catalog = twoway(&["small", "large"]);
    let rows = [
        (0, 4_608_338_304),
        (1, 61_604_135_936),
        (2, 56_843_745_792),
        (14, 9_523_655_552),
        (25, 57_017_547_264),
        (80, 9_504_781_184),
    ];
    for (id, macs) in rows {
        assert_eq!(stitch(&catalog, id).macs, macs, "row {id}");
    }
}

#[test]
fn the_sliding_window_space_of_three_anchors_has_71_stitches_and_22_layers() {
    let catalog = snnet();
    assert_eq!((catalog.stitches().count(), catalog.id_bound(), catalog.layers.len()), (71, 71, 22));
    let joins = |id: u32| {
        let segments = &stitch(&catalog, id).segments;
        (segments[0].anchor.0, segments[1].anchor.0)
    };
    assert!((3..37).all(|id| joins(id) == (0, 1)));
    assert!((37..71).all(|id| joins(id) == (1, 2)));
}

#[test]
fn without_nearest_it_has_732() {
    let every = SpaceSpec { nearest: false, ..space(SpaceKind::Snnet) };
    let catalog = catalog(&["tiny", "small", "base"], &every);
    let of_layers = |count| catalog.stitches().filter(|stitch| stitch.layers.len() == count).count();
    assert_eq!([of_layers(0), of_layers(1), of_layers(2)], [3, 3 * 34, 627]);
    assert_eq!(catalog.layers.len(), 33, "one- and two-layer paths share their layers");
    let first_chain = stitch(&catalog, 105);
    assert_eq!(path(first_chain), [(0, 0, 0), (1, 0, 0), (2, 0, 11)]);
    assert!(catalog.stitches().flat_map(|stitch| &stitch.segments).all(|segment| segment.first <= segment.last));
}

#[test]
fn esta_has_32_per_pair_and_67_in_all() {
    let catalog = catalog(&["tiny", "small", "base"], &SpaceSpec::default());
    assert_eq!((catalog.stitches().count(), catalog.layers.len()), (67, 22));
    assert!(catalog.stitches().filter(|stitch| !stitch.is_anchor()).all(|stitch| stitch.segments[0].last < 11));
}

#[test]
fn a_two_way_pair_has_135_numbers_134_stitches_and_a_hole_at_13() {
    for sizes in [["small", "base"], ["small", "large"], ["base", "large"]] {
        let catalog = twoway(&sizes);
        assert_eq!((catalog.id_bound(), catalog.stitches().count(), catalog.layers.len()), (135, 134, 22), "{sizes:?}");
        assert_eq!(catalog.get(StitchId(13)), None);
        let budgeted: BTreeSet<StitchId> = catalog.bins().iter().flatten().copied().collect();
        assert!(!budgeted.contains(&StitchId(13)), "a hole has no budget");
    }
}

#[test]
fn two_way_paths_come_up_down_and_then_double() {
    let catalog = twoway(&["small", "large"]);
    assert_eq!(path(stitch(&catalog, 2)), [(0, 0, 0), (1, 2, 23)]);
    assert_eq!(path(stitch(&catalog, 14)), [(1, 0, 1), (0, 1, 11)]);
    assert_eq!(path(stitch(&catalog, 25)), [(1, 0, 1), (0, 1, 1), (1, 4, 23)]);
    assert_eq!(path(stitch(&catalog, 80)), [(0, 0, 0), (1, 2, 3), (0, 2, 11)]);
    let (up, down) = (stitch(&catalog, 3).layers[0], stitch(&catalog, 14).layers[0]);
    assert_eq!(stitch(&catalog, 25).layers, [down, up], "double paths reuse the layers of single ones");
    assert_eq!((up.0, down.0), (1, 11), "layers up come first");
}

#[test]
fn three_anchors_are_two_way_stitched_pair_by_pair() {
    let catalog = twoway(&["tiny", "small", "large"]);
    assert_eq!((catalog.id_bound(), catalog.stitches().count()), (3 + 133 + 133, 3 + 132 + 132));
    let holes: Vec<u32> = (0..269).filter(|&id| catalog.get(StitchId(id)).is_none()).collect();
    assert_eq!(holes, [3 + 11, 3 + 133 + 11]);
    assert_eq!(stitch(&catalog, 3 + 133).segments[0].anchor, AnchorId(1));
}

#[test]
fn unequal_depths_have_the_published_counts() {
    let of_depths = |kind, depths: [u32; 2]| {
        let anchors =
            [("tiny", depths[0]), ("base", depths[1])].map(|(size, depth)| Arch::Vit(VitArch { depth, ..vit(size) }));
        let (budgets, task) = (BudgetSpec::Gap(1e9), Task::Classify { classes: 10 });
        let catalog = Catalog::new(anchors.to_vec(), &space(kind), task, &budgets, Mode::Pst).expect("stitches");
        catalog.stitches().count() - 2
    };
    assert_eq!(of_depths(SpaceKind::Proportional, [32, 40]), 31);
    assert_eq!(of_depths(SpaceKind::Proportional, [12, 12]), 11);
    assert_eq!(of_depths(SpaceKind::Unpaired, [32, 40]), 39);
    assert_eq!(of_depths(SpaceKind::Unpaired, [28, 32]), 31);
    assert_eq!(of_depths(SpaceKind::Unpaired, [16, 28]), 27);
}

#[test]
fn one_gmac_makes_16_bins_of_the_window_space_and_13_of_the_two_way_space() {
    assert_eq!(snnet().bins().len(), 16);
    assert_eq!(twoway(&["small", "large"]).bins().len(), 13);
}

#[test]
fn llama_7b_to_13b_has_31_stitches_of_sizes_in_between() {
    let anchors = ["llama-7b", "llama-13b"].map(|name| Arch::Llama(LlamaArch::preset(name).expect("shipped")));
    let (space, task) = (space(SpaceKind::Proportional), Task::Speak { tokens: 512 });
    let bins = BudgetSpec::Params(ParamBins::Gap(1e9));
    let catalog = Catalog::new(anchors.to_vec(), &space, task, &bins, Mode::Pst).expect("stitches");
    assert_eq!((catalog.stitches().count(), catalog.layers.len()), (2 + 31, 31));
    let stitched = || catalog.stitches().filter(|stitch| !stitch.is_anchor()).map(|stitch| stitch.params);
    let billions = |params: Option<u64>| format!("{:.2}", params.expect("31 of them") as f64 / 1e9);
    assert_eq!((billions(stitched().min()), billions(stitched().max())), ("6.91".into(), "12.89".into()));
    assert_eq!(catalog.bins().len(), 6);
}
