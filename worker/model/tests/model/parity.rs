//! Parity with timm: logits of golden files within 1e-5 (tests/golden/make_golden.py).

use std::path::{Path, PathBuf};

use esta_engine::arch::VitArch;
use esta_engine::catalog::Catalog;
use esta_engine::groups::GroupLayout;
use esta_engine::spec::Precision;
use esta_model::{Input, ParamStore, Phase, SourceHead, Start, StitchedNet, Weights, WeightsError, read_vit};
use esta_proto::StitchId;
use serde_json::json;
use tch::{Device, Tensor};

use crate::fixture::{distance, spec};

const CLASSES: u32 = 7;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.safetensors"))
}

fn plain() -> VitArch {
    VitArch { image_size: 16, patch_size: 4, in_chans: 1, embed_dim: 12, depth: 2, num_heads: 3, mlp_ratio: 4 }
}

fn colour(image_size: u32) -> VitArch {
    VitArch { image_size, patch_size: 5, in_chans: 3, embed_dim: 10, depth: 3, num_heads: 2, mlp_ratio: 2 }
}

/// The logits of a lone anchor with the head it came with.
fn logits(arch: &VitArch, weights: &str, images: &Tensor) -> Tensor {
    let job = spec(json!({
        "mode": "anchor", "data": { "num_classes": CLASSES },
        "family": { "anchors": [{ "name": "a", "arch": arch, "weights": "-" }] },
    }));
    let catalog = Catalog::build(&job).expect("one anchor");
    let mut family = Weights::new("family");
    family.absorb("anchors.0.", read_vit(&golden(weights), arch, SourceHead::Keep(CLASSES)).expect("readable"));
    let layout = GroupLayout::new(&catalog, &job);
    let start = Start { seed: 1, weights: &family, device: Device::Cpu };
    let store = ParamStore::new(&layout, start).expect("startable");
    let net = StitchedNet::new(&catalog, &store, &family, &job.pst, Precision::F32).expect("complete");
    net.forward(StitchId(0), &Input::from(images), Phase::Eval).expect("stitch 0 is the anchor")
}

fn check(arch: &VitArch, weights: &str, case: &str) {
    let case = Weights::read(&golden(&format!("{case}.case"))).expect("readable");
    let images = case.get("images").expect("the case has images");
    let found = logits(arch, weights, images);
    let off = distance(&found, case.get("logits").expect("the case has logits"));
    assert!(off < 1e-5, "{weights}: off by {off:e}");
}

#[test]
fn one_channel_and_three_heads() {
    check(&plain(), "plain", "plain");
}

#[test]
fn three_channels_and_another_mlp() {
    check(&colour(15), "colour", "colour");
}

#[test]
fn position_embeddings_are_resized_as_timm_does_up_and_down() {
    for size in [35, 10] {
        let arch = colour(size);
        let case = Weights::read(&golden(&format!("colour_{size}.case"))).expect("readable");
        let weights = read_vit(&golden("colour"), &arch, SourceHead::Drop).expect("readable");
        let expected = case.get("pos_embed").expect("the case has it");
        let off = distance(weights.get("pos_embed").expect("it is part of every state"), expected);
        assert!(off < 1e-6, "{size}: off by {off:e}");
        check(&arch, "colour", &format!("colour_{size}"));
    }
}

#[test]
fn half_precision_files_become_single_precision() {
    check(&plain(), "half", "half");
}

#[test]
fn a_folder_is_read_by_its_model_safetensors() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(golden("plain"), folder.path().join("model.safetensors")).expect("copied");
    let weights = read_vit(folder.path(), &plain(), SourceHead::Drop).expect("readable");
    assert!(weights.get("head.weight").is_none(), "the source's head is dropped");
    assert!(weights.origin().ends_with("model.safetensors"));
}

#[test]
fn a_misshapen_tensor_is_named_with_both_shapes_and_its_file() {
    let arch = VitArch { mlp_ratio: 3, ..plain() };
    let error = read_vit(&golden("plain"), &arch, SourceHead::Drop).expect_err("the MLP is wider");
    let text = error.to_string();
    assert!(text.contains("plain.safetensors"), "{text}");
    assert!(text.ends_with("tensor blocks.0.mlp.fc1.weight has shape [48, 12], expected [36, 12]"), "{text}");
}

#[test]
fn a_missing_tensor_is_named_with_its_shape() {
    let error = read_vit(&golden("plain"), &VitArch { depth: 3, ..plain() }, SourceHead::Drop).expect_err("2 blocks");
    assert!(matches!(&error, WeightsError::Missing { name, expected, .. }
        if name == "blocks.2.norm1.weight" && expected == &[12]));
}

#[test]
fn a_tensor_with_a_value_that_is_no_number_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    let mut weights = Weights::read(&golden("plain")).expect("readable");
    let bias = weights.get("norm.bias").expect("it is part of every state").copy();
    let _ = bias.get(3).fill_(f64::NAN);
    weights.insert("norm.bias", bias);
    weights.save(&path).expect("written");
    let error = read_vit(&path, &plain(), SourceHead::Drop).expect_err("one value is no number");
    assert!(error.to_string().ends_with("model.safetensors: tensor norm.bias holds a value that is not finite"));
}

#[test]
fn another_kind_of_network_is_refused() {
    let error = read_vit(&golden("plain"), &VitArch { depth: 1, ..plain() }, SourceHead::Drop).expect_err("2 blocks");
    assert!(matches!(&error, WeightsError::Unexpected { name, .. } if name.starts_with("blocks.1.")));
}

#[test]
fn a_file_that_is_no_safetensors_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    std::fs::write(&path, b"not weights").expect("written");
    assert!(
        matches!(read_vit(folder.path(), &plain(), SourceHead::Drop), Err(WeightsError::Format { path: p, .. }) if p == path)
    );
    let absent = folder.path().join("absent");
    assert!(
        matches!(read_vit(&absent, &plain(), SourceHead::Drop), Err(WeightsError::Read { path, .. }) if path == absent)
    );
}

#[test]
fn what_is_saved_reads_back_bit_for_bit_and_the_name_is_never_half_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.safetensors");
    let weights = Weights::read(&golden("colour")).expect("readable");
    weights.save(&path).expect("written");
    let again = Weights::read(&path).expect("readable");
    assert!(weights.iter().zip(again.iter()).all(|(one, other)| one == other), "names and tensors agree");
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).expect("listed").map(|entry| entry.expect("read").file_name()).collect();
    assert_eq!(names, ["out.safetensors"], "no temporary file is left");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions();
    std::fs::write(folder.path().join("any"), "").expect("written");
    assert_eq!(mode(&path), mode(&folder.path().join("any")), "readable by whom any other file is");
    let error = weights.save(&folder.path().join("absent/out.safetensors")).expect_err("there is no such folder");
    assert!(matches!(error, WeightsError::Write { .. }));
}
