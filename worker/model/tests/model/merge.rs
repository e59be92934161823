//! Merged equals unmerged within 1e-5, for every kind of stitch, and a lone anchor is an ordinary timm state.

use esta_engine::spec::Precision;
use esta_model::{Input, Phase, SourceHead, StitchError, read_vit, tensor_shapes};
use esta_proto::StitchId;
use serde_json::json;

use crate::fixture::{CLASSES, Family, batch, distance};

#[test]
fn merged_equals_unmerged_for_every_stitch_of_every_space() {
    let images = batch(8).0;
    for space in ["twoway", "esta", "snnet", "proportional"] {
        let pst = json!({ "targets": ["q", "v", "o", "fc1", "fc2"], "lora_alpha": 4.0 });
        let family = Family::trained(json!({ "family": { "space": { "kind": space } }, "pst": pst }));
        let kinds: std::collections::BTreeSet<usize> =
            family.catalog.stitches().map(|stitch| stitch.segments.len()).collect();
        assert!(kinds.contains(&1) && kinds.contains(&2), "{space} has stitched paths");
        for stitch in family.stitches() {
            let merged =
                family.net.merged(stitch).expect("single precision").forward(&Input::from(&images), Phase::Train);
            let off = distance(&merged, &family.logits(stitch));
            assert!(off < 1e-5, "{space}, stitch {stitch}: off by {off:e}");
            assert!(!merged.requires_grad());
        }
    }
}

#[test]
fn a_lone_anchor_is_an_ordinary_timm_state() {
    let family = Family::trained(json!({}));
    let state = family.net.merged_state(&family.catalog, StitchId(1)).expect("single precision");
    let arch = family.catalog.anchors[1].as_vit().expect("images");
    let names: Vec<&str> = state.weights.iter().map(|(name, _)| name).collect();
    let mut expected = tensor_shapes(arch, Some(CLASSES));
    expected.sort();
    assert_eq!(names, expected.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
    for (name, shape) in &expected {
        state.weights.expect(name, shape).expect("timm's shape");
    }
    let folder = tempfile::tempdir().expect("a folder");
    state.weights.save(&folder.path().join("model.safetensors")).expect("written");
    read_vit(folder.path(), arch, SourceHead::Keep(CLASSES)).expect("it reads back as an anchor");
}

#[test]
fn a_stitched_path_numbers_its_blocks_in_order_of_execution() {
    let family = Family::trained(json!({}));
    let stitch = family.longest();
    let state = family.net.merged_state(&family.catalog, stitch).expect("single precision");
    let path = family.catalog.get(stitch).expect("in the catalog");
    assert_eq!(state.weights.numel() as u64, path.params, "the catalog counts what deploys");
    let spans: Vec<_> = state.segments.iter().map(|s| (s.anchor, s.first, s.last)).collect();
    assert_eq!(spans, path.segments.iter().map(|s| (s.anchor, s.first, s.last)).collect::<Vec<_>>());
    let blocks: u32 = state.segments.iter().map(|segment| segment.last - segment.first + 1).sum();
    assert!(state.weights.get(&format!("blocks.{}.attn.qkv.weight", blocks - 1)).is_some());
    assert!(state.weights.get(&format!("blocks.{blocks}.attn.qkv.weight")).is_none());
    for j in 0..state.segments.len() - 1 {
        let shape = [&state.segments[j + 1], &state.segments[j]].map(|segment| segment.arch.width() as i64);
        state.weights.expect(&format!("stitch_layers.{j}.weight"), &shape).expect("from one width to the other");
    }
}

#[test]
fn rounded_networks_are_not_merged_and_holes_are_no_stitches() {
    let family = Family::trained(json!({}));
    assert!(matches!(family.net_in(Precision::Bf16).merged(StitchId(0)), Err(StitchError::Precision)));
    let beyond = StitchId(family.catalog.id_bound() as u32);
    assert!(matches!(family.net.merged(beyond), Err(StitchError::Unknown(id)) if id == beyond));
}
