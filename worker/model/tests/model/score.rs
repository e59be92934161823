//! Slots: loss, gradients and score against the reference, and SC-1.

use esta_engine::groups::GroupKind;
use esta_engine::spec::{Precision, SaliencyReduction};
use esta_model::{Input, Slot, SlotOptions, run_slot};
use esta_proto::StitchId;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::fixture::{Family, batch, distance};
use crate::reference::Reference;

/// Everything that can be switched about PST.
fn variants() -> Vec<Value> {
    vec![
        json!({}),
        json!({ "pst": { "bias": "none" } }),
        json!({ "pst": { "bias": "stitch-layer", "stitch_r": 0 } }),
        json!({ "pst": { "targets": ["q", "v"], "lora_r": 3, "lora_alpha": 6.0 } }),
        json!({ "pst": { "targets": ["k"] } }),
        json!({ "pst": { "targets": ["q", "k", "v", "o"], "lora_alpha": 1.0 } }),
        json!({ "pst": { "targets": ["o"] } }),
        json!({ "pst": { "targets": ["q", "fc1"], "lora_alpha": 2.0 } }),
        json!({ "pst": { "targets": ["v", "fc2"], "lora_r": 3 } }),
        json!({ "mode": "snnet" }),
        json!({ "mode": "anchor" }),
        json!({ "mode": "anchor", "train": { "full": true } }),
        json!({ "family": { "space": { "kind": "esta" } } }),
    ]
}

#[test]
fn every_variant_computes_what_the_method_says() {
    for variant in variants() {
        let family = Family::trained(variant.clone());
        let reference = Reference::new(&family);
        for stitch in family.catalog.stitches() {
            let off = distance(&family.logits(stitch.id), &reference.logits(stitch, &batch(8).0));
            assert!(off < 1e-5, "{variant}, stitch {}: off by {off:e}", stitch.id);
        }
    }
}

/// Sum and mean of |w g| over all but heads, from `.grad` in double precision, and every touched gradient.
fn independent(family: &Family, stitch: StitchId) -> (f64, f64, Tensor) {
    let reference = Reference::new(family);
    let (images, labels) = batch(8);
    reference.loss(family.catalog.get(stitch).expect("in the catalog"), &images, &labels).backward();
    let (mut sum, mut count, mut grads) = (0.0, 0, Vec::new());
    for group in family.store.touched(stitch) {
        for param in &group.params {
            let leaf = &reference.leaves[&param.name];
            let grad = leaf.grad();
            assert!(grad.defined(), "{} is on the path", param.name);
            if !matches!(group.kind, GroupKind::Head(_)) {
                sum += (leaf.detach() * &grad).abs().sum(Kind::Double).double_value(&[]);
                count += leaf.numel();
            }
            grads.push(grad.reshape([-1]));
        }
    }
    (sum, sum / count as f64, Tensor::cat(&grads, 0))
}

#[test]
fn score_and_gradients_equal_an_independent_autograd_computation() {
    for variant in variants() {
        let family = Family::trained(variant.clone());
        for stitch in [StitchId(0), family.longest()] {
            let (sum, mean, grads) = independent(&family, stitch);
            let found = family.run(stitch, &SlotOptions::default());
            assert!((found.score - mean).abs() <= 1e-6 * mean.max(1.0), "{variant}: {} vs {mean}", found.score);
            assert!((found.score / mean - 1.0).abs() < 1e-5, "{variant}: {} vs {mean}", found.score);
            let options = SlotOptions { saliency: SaliencyReduction::Sum, ..SlotOptions::default() };
            assert!((family.run(stitch, &options).score / sum - 1.0).abs() < 1e-5, "{variant}");
            let off = distance(&found.grads, &grads);
            assert!(off < 1e-5, "{variant}, stitch {stitch}: gradients off by {off:e}");
            let norm = grads.norm().double_value(&[]);
            assert!((found.grad_norm / norm - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let family = Family::trained(json!({}));
    let stitch = family.longest();
    let path = family.catalog.get(stitch).expect("in the catalog");
    let (images, labels) = batch(8);
    let reference = Reference::new(&family);
    let found = family.run(stitch, &SlotOptions::default()).grads;
    let mut offset = 0;
    for param in family.store.touched(stitch).flat_map(|group| &group.params) {
        let element = param.tensor.numel() as i64 / 2;
        let mut value = reference.leaves[&param.name].detach().view(-1).narrow(0, element, 1);
        let mut loss_at = |shift: f64| {
            value += shift;
            reference.loss(path, &images, &labels).double_value(&[])
        };
        let (above, below) = (loss_at(1e-4), loss_at(-2e-4));
        let _restored = loss_at(1e-4);
        let (slope, grad) = ((above - below) / 2e-4, found.double_value(&[offset + element]));
        assert!((slope - grad).abs() < 1e-5, "{}: slope {slope:e}, gradient {grad:e}", param.name);
        offset += param.tensor.numel() as i64;
    }
    assert_eq!(offset, found.numel() as i64);
}

#[test]
fn every_score_is_exactly_zero_at_the_start() {
    let family = Family::fresh(json!({}));
    for stitch in family.stitches() {
        let found = family.run(stitch, &SlotOptions::default());
        assert_eq!(found.score, 0.0, "B, biases and heads are zero");
        assert!(found.grad_norm > 0.0, "the head learns at once");
    }
}

#[test]
fn each_pair_obeys_the_signed_identity() {
    let family = Family::trained(json!({ "pst": { "targets": ["q", "k", "v", "o"] } }));
    let stitch = family.longest();
    let grads = family.run(stitch, &SlotOptions::default()).grads;
    let mut offset = 0;
    let mut sums = Vec::new();
    for param in family.store.touched(stitch).flat_map(|group| &group.params) {
        let len = param.tensor.numel() as i64;
        let product = grads.narrow(0, offset, len) * param.tensor.detach().view(-1);
        let size = product.abs().sum(Kind::Double).double_value(&[]);
        sums.push((param.name.clone(), product.sum(Kind::Double).double_value(&[]), size));
        offset += len;
    }
    let pairs: Vec<_> = sums.windows(2).filter(|two| two[0].0.ends_with("lora_A")).collect();
    assert!(pairs.len() > 6, "the path carries pairs");
    for two in pairs {
        assert!((two[0].1 - two[1].1).abs() < 1e-6 * two[0].2.max(1.0), "sum(A gA) = sum(B gB): {two:?}");
    }
}

#[test]
fn sc_1_a_power_of_two_loss_scale_changes_no_bit() {
    let family = Family::trained(json!({}));
    let stitch = family.longest();
    let plain = family.run(stitch, &SlotOptions::default());
    let scaled = family.run(stitch, &SlotOptions { loss_scale: 1024.0, ..SlotOptions::default() });
    assert_eq!((plain.score, plain.loss, plain.grad_norm), (scaled.score, scaled.loss, scaled.grad_norm));
    assert_eq!(plain.grads, scaled.grads);
}

#[test]
fn micro_batches_add_up_to_the_slot() {
    let family = Family::trained(json!({}));
    let stitch = family.longest();
    let whole = family.run(stitch, &SlotOptions { label_smoothing: 0.1, ..SlotOptions::default() });
    for micro_batches in [2, 3, 8] {
        let options = SlotOptions { micro_batches, label_smoothing: 0.1, ..SlotOptions::default() };
        let parts = family.run(stitch, &options);
        assert!((whole.loss - parts.loss).abs() < 1e-6, "{micro_batches} passes");
        assert!(distance(&whole.grads, &parts.grads) < 1e-6, "{micro_batches} passes");
        assert!((whole.score - parts.score).abs() < 1e-6, "{micro_batches} passes");
    }
    let (images, labels) = batch(8);
    let slot = Slot { stitch, input: &Input::from(&images), labels: &labels, dropout_seed: 0 };
    for micro_batches in [0, 9] {
        let options = SlotOptions { micro_batches, ..SlotOptions::default() };
        assert!(run_slot(&family.net, &family.store, &slot, &options).is_err(), "{micro_batches} passes of 8 images");
    }
}

#[test]
fn a_slot_leaves_no_trace_on_the_parameters() {
    let family = Family::trained(json!({}));
    let before = family.store.snapshot();
    let _result = family.run(family.longest(), &SlotOptions::default());
    assert_eq!(before, family.store.snapshot());
    let mut params = family.store.groups().iter().flat_map(|group| &group.params);
    assert!(params.all(|param| !param.tensor.grad().defined()), ".grad stays empty");
}

#[test]
fn bf16_stays_close_to_single_precision() {
    let family = Family::trained(json!({}));
    let rounded = family.net_in(Precision::Bf16);
    let (images, labels) = batch(8);
    for stitch in family.stitches() {
        let slot = Slot { stitch, input: &Input::from(&images), labels: &labels, dropout_seed: 0 };
        let exact = family.run(stitch, &SlotOptions::default());
        let found = run_slot(&rounded, &family.store, &slot, &SlotOptions::default()).expect("it runs");
        assert_eq!(found.grads.kind(), Kind::Float);
        assert!((found.loss / exact.loss - 1.0).abs() < 0.02, "{} vs {}", found.loss, exact.loss);
        let angle = found.grads.dot(&exact.grads).double_value(&[]) / (found.grad_norm * exact.grad_norm);
        assert!(angle > 0.99, "stitch {stitch}: cosine {angle}");
        assert_ne!(found.loss, exact.loss, "matrix products are rounded");
    }
}

#[test]
fn dropout_acts_in_training_only_and_is_keyed_by_its_seed() {
    let family = Family::trained(json!({ "pst": { "lora_dropout": 0.5 } }));
    let same = Family::trained(json!({}));
    let stitch = family.longest();
    assert_eq!(family.logits(stitch), same.logits(stitch), "evaluation has no dropout");
    let (images, labels) = batch(8);
    let run = |dropout_seed| {
        let slot = Slot { stitch, input: &Input::from(&images), labels: &labels, dropout_seed };
        run_slot(&family.net, &family.store, &slot, &SlotOptions::default()).expect("it runs")
    };
    let without = same.run(stitch, &SlotOptions::default());
    assert_ne!(run(1).loss, without.loss);
    assert_ne!(run(1).loss, run(2).loss);
}
