//! What holds of every catalog and layout, whatever the anchors and the space.

use std::collections::BTreeSet;

use esta_engine::arch::{Arch, VitArch};
use esta_engine::budget::{Price, Unit};
use esta_engine::catalog::{Catalog, CatalogWarning};
use esta_engine::cost::Task;
use esta_engine::groups::GroupLayout;
use esta_engine::spec::{BudgetSpec, JobSpec, Mode, PstBias, SpaceKind, SpaceSpec, SpecError};
use esta_proto::{BudgetId, GroupId, StitchId};
use proptest::prelude::*;

fn vit(embed_dim: u32, depth: u32) -> VitArch {
    VitArch { image_size: 8, patch_size: 4, in_chans: 1, embed_dim, depth, num_heads: 1, mlp_ratio: 4 }
}

fn arch(embed_dim: u32, depth: u32) -> Arch {
    vit(embed_dim, depth).into()
}

const TASK: Task = Task::Classify { classes: 5 };

/// Two to four anchors of growing width, with depths that fit the kind.
fn families() -> impl Strategy<Value = (Vec<Arch>, SpaceSpec)> {
    let kinds = [SpaceKind::Snnet, SpaceKind::Esta, SpaceKind::Twoway, SpaceKind::Proportional, SpaceKind::Unpaired];
    let kind = proptest::sample::select(kinds.to_vec());
    let steps = proptest::collection::vec(1_u32..4, 1..4);
    (kind, 2_u32..7, steps, 1_u32..4, 1_u32..4, any::<bool>()).prop_map(
        |(kind, first, steps, window, stride, nearest)| {
            let mut depth = first;
            let mut anchors = vec![arch(2, depth)];
            for (i, step) in (1..).zip(steps) {
                depth = match kind {
                    SpaceKind::Snnet | SpaceKind::Esta => depth,
                    SpaceKind::Twoway => depth * step,
                    SpaceKind::Proportional | SpaceKind::Unpaired => depth + step,
                };
                anchors.push(arch(2 + 2 * i, depth));
            }
            (anchors, SpaceSpec { kind, window: window.min(first), stride, nearest })
        },
    )
}

/// A job whose anchors are given; everything else is default.
fn job(anchors: &[Arch], mode: Mode) -> JobSpec {
    let anchors = anchors.iter().enumerate();
    let anchors: Vec<_> = anchors
        .map(|(i, arch)| serde_json::json!({"name": format!("a{i}"), "arch": arch.as_vit(), "weights": "w"}))
        .collect();
    let mut spec: JobSpec = serde_json::from_value(serde_json::json!({
        "name": "any",
        "family": {"anchors": anchors},
        "budgets": {"gap": 1e3},
        "train": {"max_steps": 1},
        "data": {"num_classes": 5, "train": {"layout": "image_folder", "path": "p"}},
    }))
    .expect("a complete specification");
    spec.mode = mode;
    spec
}

fn build(anchors: &[Arch], space: &SpaceSpec) -> Result<Catalog, SpecError> {
    Catalog::new(anchors.to_vec(), space, TASK, &BudgetSpec::Gap(1e3), Mode::Pst)
}

/// A window moving past blocks can leave an `esta` space empty; that is refused and tested elsewhere.
fn stitched(anchors: &[Arch], space: &SpaceSpec) -> Result<Catalog, TestCaseError> {
    build(anchors, space).map_err(|flaw| TestCaseError::reject(flaw.to_string()))
}

proptest! {
    #[test]
    fn every_path_is_whole((anchors, space) in families()) {
        let catalog = stitched(&anchors, &space)?;
        for stitch in catalog.stitches() {
            prop_assert_eq!(stitch.segments.len(), stitch.layers.len() + 1);
            prop_assert_eq!(stitch.segments[0].first, 0);
            let end = stitch.segments[stitch.segments.len() - 1];
            prop_assert_eq!(end.last + 1, catalog.anchors[end.anchor.index()].depth());
            for segment in &stitch.segments {
                prop_assert!(segment.first <= segment.last);
                prop_assert!(segment.last < catalog.anchors[segment.anchor.index()].depth());
            }
            for (pair, layer) in stitch.segments.windows(2).zip(&stitch.layers) {
                let layer = &catalog.layers[layer.index()];
                prop_assert_eq!((layer.from, layer.to), (pair[0].anchor, pair[1].anchor));
                prop_assert!(layer.positions.contains(&(pair[0].last, pair[1].first)));
            }
            prop_assert!(stitch.macs > 0 && stitch.params > 0);
        }
    }

    #[test]
    fn numbers_are_places_and_paths_are_distinct((anchors, space) in families()) {
        let catalog = stitched(&anchors, &space)?;
        for id in (0..u32::try_from(catalog.id_bound()).expect("small")).map(StitchId) {
            prop_assert!(catalog.get(id).is_none_or(|stitch| stitch.id == id));
        }
        let anchors_first = catalog.stitches().take(anchors.len()).enumerate();
        for (i, stitch) in anchors_first {
            prop_assert!(stitch.is_anchor() && stitch.end_anchor().index() == i && stitch.id.index() == i);
        }
        let paths: BTreeSet<_> = catalog.stitches().map(|stitch| stitch.segments.clone()).collect();
        prop_assert_eq!(paths.len(), catalog.stitches().count());
        let used: BTreeSet<_> = catalog.stitches().flat_map(|stitch| &stitch.layers).copied().collect();
        prop_assert_eq!(used.into_iter().collect::<Vec<_>>(), catalog.layers.iter().map(|l| l.id).collect::<Vec<_>>());
    }

    #[test]
    fn bins_partition_the_stitches_in_ascending_cost((anchors, space) in families()) {
        let catalog = stitched(&anchors, &space)?;
        let mut binned: Vec<StitchId> = catalog.bins().iter().flatten().copied().collect();
        binned.sort_unstable();
        prop_assert_eq!(binned, catalog.stitches().map(|stitch| stitch.id).collect::<Vec<_>>());
        let ranges: Vec<(u64, u64)> = (0..).map_while(|bin| catalog.bin_range(BudgetId(bin))).collect();
        prop_assert_eq!(ranges.len(), catalog.bins().len());
        prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0 && pair[1].0 - pair[0].0 > 1000));
        prop_assert!(ranges.iter().all(|(least, greatest)| greatest - least <= 1000));
        for stitch in catalog.stitches() {
            prop_assert!(catalog.bins()[stitch.budget.index()].contains(&stitch.id));
        }
    }

    #[test]
    fn rd_1_groups_are_unique_and_each_is_touched(
        (anchors, space) in families(),
        mode in proptest::sample::select(vec![Mode::Pst, Mode::Snnet]),
        bias in proptest::sample::select(vec![PstBias::None, PstBias::StitchLayer, PstBias::All]),
        stitch_r in 0_u32..3,
    ) {
        stitched(&anchors, &space)?;
        let mut spec = job(&anchors, mode);
        (spec.family.space, spec.pst.bias, spec.pst.stitch_r) = (space, bias, stitch_r);
        let catalog = Catalog::build(&spec).map_err(|flaw| TestCaseError::fail(flaw.to_string()))?;
        let layout = GroupLayout::new(&catalog, &spec);
        let names: Vec<&str> =
            layout.groups.iter().flat_map(|group| &group.params).map(|param| param.name.as_str()).collect();
        prop_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        prop_assert!(layout.groups.iter().all(|group| group.numel() > 0));
        let mut touched = BTreeSet::new();
        for stitch in catalog.stitches() {
            let groups = layout.touched(stitch.id);
            prop_assert!(groups.windows(2).all(|pair| pair[0] < pair[1]));
            touched.extend(groups.iter().copied());
        }
        prop_assert_eq!(touched, layout.groups.iter().map(|group| group.id).collect::<BTreeSet<GroupId>>());
    }
}

fn flaw(anchors: &[Arch], kind: SpaceKind) -> String {
    build(anchors, &SpaceSpec { kind, ..SpaceSpec::default() }).expect_err("cannot be stitched").to_string()
}

#[test]
fn what_cannot_be_stitched_is_refused_in_words() {
    let (small, deep, wide) = (arch(4, 4), arch(8, 6), arch(16, 4));
    assert_eq!(
        flaw(std::slice::from_ref(&small), SpaceKind::Esta),
        "family.anchors: one anchor cannot be stitched; give two, or mode: anchor"
    );
    assert_eq!(
        flaw(&[small.clone(), deep.clone()], SpaceKind::Snnet),
        "family.space.kind: windows need equal depths, but one anchor has 4 blocks and another 6; use proportional, unpaired or twoway"
    );
    assert_eq!(
        flaw(&[small.clone(), deep.clone()], SpaceKind::Twoway),
        "family.space.kind: anchors 0 and 1 have 4 and 6 blocks: twoway needs the second depth to be a multiple of the first; use proportional"
    );
    assert_eq!(
        flaw(&[deep, wide.clone()], SpaceKind::Unpaired),
        "family.space.kind: anchors 0 and 1 have 6 and 4 blocks: unpaired needs the second to be deeper; use proportional"
    );
    let finer = VitArch { patch_size: 2, ..vit(8, 2) };
    assert_eq!(
        flaw(&[small.clone(), finer.into()], SpaceKind::Esta),
        "family.anchors[1]: it sees 17 tokens, the anchor before it 5"
    );
    let descending = flaw(&[wide, small], SpaceKind::Esta);
    assert!(descending.starts_with("family.anchors[1]: anchors ascend in cost, but "), "{descending}");
    assert_eq!(
        flaw(&[arch(4, 1), arch(8, 1)], SpaceKind::Esta),
        "family.space.window: 2 is not between 1 and the anchors' 1 blocks"
    );
    assert_eq!(
        flaw(&[arch(4, 1), arch(8, 1)], SpaceKind::Proportional),
        "family.space.kind: anchors 0 and 1 have 1 and 1 blocks: this space has no stitch between them"
    );
}

#[test]
fn sizes_that_no_count_could_hold_are_refused() {
    let huge = VitArch { embed_dim: u32::MAX, num_heads: 1, image_size: 1 << 30, patch_size: 1, ..vit(4, 4) };
    assert_eq!(flaw(&[arch(4, 4), huge.into()], SpaceKind::Esta), "family.anchors[1].arch: its cost exceeds 2^53 MACs");
    assert_eq!(
        flaw(&[arch(4, 4), arch(4, 5000)], SpaceKind::Proportional),
        "family.anchors[1].arch: 5000 blocks; at most 1024"
    );
    let windows = SpaceSpec { kind: SpaceKind::Snnet, window: 1024, stride: 1, nearest: true };
    let flaw = build(&[arch(4, 1024), arch(8, 1024)], &windows).expect_err("1024 x 1024 pairs");
    assert_eq!(flaw.to_string(), "family.space: enumerates more than 1000000 stitches");
}

#[test]
fn a_stitch_above_the_last_edge_is_refused() {
    let anchors = vec![arch(4, 4), arch(8, 4)];
    let edges = BudgetSpec::Edges(vec![1e3]);
    let flaw = Catalog::new(anchors, &SpaceSpec::default(), TASK, &edges, Mode::Pst).expect_err("all above 1000");
    assert_eq!(flaw.key, "budgets.edges");
}

#[test]
fn under_three_budgets_are_warned_of() {
    let anchors = vec![arch(4, 4), arch(8, 4)];
    let wide = Catalog::new(anchors.clone(), &SpaceSpec::default(), TASK, &BudgetSpec::Gap(1e9), Mode::Pst);
    assert_eq!(wide.expect("stitches").warnings(), [CatalogWarning::FewBins { bins: 1, unit: Unit::Macs }]);
    let fine = Catalog::new(anchors, &SpaceSpec::default(), TASK, &BudgetSpec::Gap(1e2), Mode::Pst);
    assert_eq!(fine.expect("stitches").warnings(), []);
}

#[test]
fn at_most_includes_the_cost_itself() {
    let catalog = build(&[arch(4, 4), arch(8, 4)], &SpaceSpec::default()).expect("stitches");
    let cheapest = catalog.get(StitchId(0)).expect("the small anchor");
    assert_eq!(catalog.at_most(Price::Macs(cheapest.macs)).map(|stitch| stitch.id).collect::<Vec<_>>(), [StitchId(0)]);
    assert_eq!(catalog.at_most(Price::Macs(cheapest.macs - 1)).count(), 0);
    assert_eq!(catalog.at_most(Price::Macs(u64::MAX)).count(), catalog.stitches().count());
}

#[test]
fn a_stitch_serialises_as_an_item_of_the_catalog_command() {
    let catalog = build(&[arch(4, 2), arch(8, 2)], &SpaceSpec::default()).expect("stitches");
    let stitch = catalog.get(StitchId(2)).expect("the first stitch");
    let item = serde_json::to_value(stitch).expect("plain data");
    let expected = serde_json::json!({
        "id": 2,
        "segments": [{"anchor": 0, "first": 0, "last": 0}, {"anchor": 1, "first": 0, "last": 1}],
        "macs": stitch.macs,
        "params": stitch.params,
        "bin": stitch.budget.0,
    });
    assert_eq!(item, expected);
}
