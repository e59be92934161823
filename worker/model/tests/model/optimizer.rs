//! OP-1: what no slot touched does not move. Adam's arithmetic against a scalar version.

use std::collections::BTreeSet;

use esta_engine::spec::ReduceSpec;
use esta_model::{AdamW, ParamStore, Reduced, SlotOptions, StepBuffer, Weights};
use esta_proto::{GroupId, SlotId, StitchId};
use serde_json::json;
use tch::Tensor;

use crate::fixture::{Family, distance};

/// One step of one slot per stitch.
fn reduced(family: &Family, stitches: &[StitchId]) -> Reduced {
    let ids: BTreeSet<GroupId> = stitches.iter().flat_map(|&stitch| family.layout.touched(stitch)).copied().collect();
    let count = |id: &GroupId| stitches.iter().filter(|s| family.layout.touched(**s).contains(id)).count() as u32;
    let touched: Vec<_> = ids.iter().map(|id| (*id, count(id))).collect();
    let mut buffer = StepBuffer::new(&family.store, &touched, stitches.len() as u32, &ReduceSpec::default());
    for (slot, &stitch) in (0..).zip(stitches) {
        buffer.add_slot(&family.store, SlotId(slot), &family.run(stitch, &SlotOptions::default()));
    }
    buffer.into_reduced(&family.store)
}

fn step(family: &mut Family, optimizer: &AdamW, stitches: &[StitchId]) -> esta_model::Update {
    let reduced = reduced(family, stitches);
    optimizer.step(&mut family.store, &reduced, 1e-2).expect("the step is valid")
}

/// Values and both moments of one group.
fn group_state(store: &ParamStore, id: GroupId) -> [Tensor; 3] {
    let params = &store.group(id).params;
    let (start, end) = (params[0].range.start, params[params.len() - 1].range.end);
    store.state().map(|flat| flat.narrow(0, start, end - start).copy())
}

#[test]
fn op_1_only_what_the_slots_touched_moves_optimizer_state_included() {
    let mut family = Family::trained(json!({}));
    let optimizer = AdamW { weight_decay: 0.1, ..AdamW::default() };
    // Every group has momentum first: what is not touched must not coast on it.
    let all = family.stitches();
    step(&mut family, &optimizer, &all);
    let stitch = family.longest();
    let ids: Vec<GroupId> = family.layout.groups.iter().map(|group| group.id).collect();
    let before: Vec<_> = ids.iter().map(|&id| group_state(&family.store, id)).collect();
    let touches = family.store.touches().to_vec();
    step(&mut family, &optimizer, &[stitch]);
    for (&id, before) in ids.iter().zip(&before) {
        let touched = family.layout.touched(stitch).contains(&id);
        let after = group_state(&family.store, id);
        for (one, other) in before.iter().zip(&after) {
            assert_eq!(one != other, touched, "group {id}");
        }
        assert_eq!(family.store.touches()[id.index()], touches[id.index()] + u64::from(touched));
    }
}

/// Adam as in the paper, one number at a time.
fn scalar_adam(optimizer: &AdamW, grads: &[f64], start: f64, decay: f64, lr: f64) -> f64 {
    let (mut value, mut m, mut v) = (start, 0.0, 0.0);
    for (step, grad) in (1..).zip(grads) {
        m = optimizer.beta1 * m + (1.0 - optimizer.beta1) * grad;
        v = optimizer.beta2 * v + (1.0 - optimizer.beta2) * grad * grad;
        let (m_hat, v_hat) = (m / (1.0 - optimizer.beta1.powi(step)), v / (1.0 - optimizer.beta2.powi(step)));
        value -= lr * decay * value;
        value -= lr * m_hat / (v_hat.sqrt() + optimizer.epsilon);
    }
    value
}

#[test]
fn bias_correction_counts_a_groups_own_touches_and_decay_spares_biases() {
    let mut family = Family::trained(json!({}));
    let optimizer = AdamW { weight_decay: 0.1, ..AdamW::default() };
    let stitch = family.longest();
    let elements: Vec<(String, f64, bool)> = family
        .store
        .touched(stitch)
        .flat_map(|group| &group.params)
        .map(|param| (param.name.clone(), param.tensor.view(-1).double_value(&[0]), !param.name.ends_with("bias")))
        .collect();
    let mut grads: Vec<Vec<f64>> = vec![Vec::new(); elements.len()];
    for _ in 0..3 {
        let reduced = reduced(&family, &[stitch]);
        let mut offset = 0;
        for (param, grads) in family.store.touched(stitch).flat_map(|group| &group.params).zip(&mut grads) {
            grads.push(reduced.gradient().double_value(&[offset]));
            offset += param.tensor.numel() as i64;
        }
        optimizer.step(&mut family.store, &reduced, 1e-2).expect("valid");
    }
    for ((name, start, decays), grads) in elements.iter().zip(&grads) {
        let decay = if *decays { optimizer.weight_decay } else { 0.0 };
        let expected = scalar_adam(&optimizer, grads, *start, decay, 1e-2);
        let found = family.store.get(name).expect("it is there").view(-1).double_value(&[0]);
        assert!((found - expected).abs() < 2e-6, "{name}: {found} vs {expected}");
    }
}

#[test]
fn a_group_first_touched_late_takes_a_full_first_step() {
    let mut family = Family::trained(json!({}));
    let optimizer = AdamW { weight_decay: 0.0, ..AdamW::default() };
    for _ in 0..5 {
        step(&mut family, &optimizer, &[StitchId(0)]);
    }
    let own = family.layout.touched(StitchId(1))[0];
    let before = group_state(&family.store, own);
    step(&mut family, &optimizer, &[StitchId(1)]);
    let moved = (&group_state(&family.store, own)[0] - &before[0]).abs().max().double_value(&[]);
    assert!((moved - 1e-2).abs() < 1e-4, "Adam's first step is the learning rate: {moved}");
}

#[test]
fn clipping_is_one_norm_over_what_was_touched_and_leaves_scores_alone() {
    let mut family = Family::trained(json!({}));
    let stitches = [family.longest(), StitchId(0)];
    let loose = reduced(&family, &stitches);
    let norm = loose.gradient().norm().double_value(&[]);
    let scores: Vec<f64> = loose.outcomes().iter().map(|outcome| outcome.score).collect();
    let clipped = AdamW { max_grad_norm: norm / 4.0, ..AdamW::default() };
    let update = clipped.step(&mut family.store, &loose, 1e-2).expect("valid");
    assert!((update.grad_norm / norm - 1.0).abs() < 1e-6);
    assert!((update.clip - 0.25).abs() < 1e-6);
    let m = family.store.state()[1].norm().double_value(&[]);
    assert!((m / (0.1 * norm / 4.0) - 1.0).abs() < 1e-5, "the first moment took the clipped gradient");
    let again: Vec<f64> = loose.outcomes().iter().map(|outcome| outcome.score).collect();
    assert_eq!(scores, again, "SC-1: scores were taken before");
}

#[test]
fn an_invalid_step_moves_nothing() {
    let mut family = Family::trained(json!({}));
    let stitch = family.longest();
    let touched: Vec<_> = family.layout.touched(stitch).iter().map(|&id| (id, 1)).collect();
    let mut result = family.run(stitch, &SlotOptions::default());
    result.finite = false;
    let mut buffer = StepBuffer::new(&family.store, &touched, 1, &ReduceSpec::default());
    buffer.add_slot(&family.store, SlotId(0), &result);
    let reduced = buffer.into_reduced(&family.store);
    let before = family.store.snapshot();
    assert!(AdamW::default().step(&mut family.store, &reduced, 1e-2).is_err());
    assert_eq!(before, family.store.snapshot());
    assert!(family.store.touches().iter().all(|touches| *touches == 0));
}

#[test]
fn training_lowers_the_loss_of_every_stitch() {
    let mut family = Family::fresh(json!({}));
    let all = family.stitches();
    let loss = |family: &Family| all.iter().map(|&s| family.run(s, &SlotOptions::default()).loss).sum::<f64>();
    let before = loss(&family);
    for _ in 0..30 {
        step(&mut family, &AdamW::default(), &all);
    }
    assert!(loss(&family) < 0.7 * before, "{} after {before}", loss(&family));
}

#[test]
fn the_start_depends_on_seed_and_name_only() {
    let one = Family::fresh(json!({}));
    let again = Family::fresh(json!({}));
    assert_eq!(one.store.snapshot(), again.store.snapshot());
    let other = Family::fresh(json!({ "seed": 43 }));
    assert_ne!(one.store.snapshot(), other.store.snapshot());
    // Another space has other groups before the shared ones; the shared ones start alike.
    let smaller = Family::fresh(json!({ "family": { "space": { "kind": "esta" } }, "pst": { "bias": "none" } }));
    let name = "anchors.1.blocks.1.attn.qkv.lora_A";
    let get = |family: &Family| family.store.get(name).expect("both have it").detach();
    assert_eq!(get(&one), get(&smaller));
    let bound = get(&one).abs().max().double_value(&[]);
    assert!(bound <= 1.0 / 12f64.sqrt() && bound > 0.8 / 12f64.sqrt(), "uniform within 1/sqrt(D): {bound}");
}

#[test]
fn what_trains_whole_starts_as_the_anchors() {
    let family = Family::fresh(json!({ "mode": "snnet" }));
    for (name, tensor) in family.frozen.iter() {
        let Some(trained) = family.store.get(name) else { continue };
        assert_eq!(&trained.detach(), tensor, "{name}");
    }
    assert!(family.store.get("stitch_layers.0.weight").is_some());
    assert!(family.store.get("anchors.0.cls_token").is_some());
}

#[test]
fn a_state_on_disk_continues_bit_for_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let (params, optimizer) = (folder.path().join("adapter.safetensors"), folder.path().join("optimizer.safetensors"));
    let mut family = Family::trained(json!({}));
    let path = [family.longest(), StitchId(0)];
    step(&mut family, &AdamW::default(), &path);
    family.store.save_params(&params).expect("written");
    family.store.save_optimizer(&optimizer).expect("written");
    step(&mut family, &AdamW::default(), &path);

    let mut resumed = Family::fresh(json!({}));
    resumed.store.load_params(&params).expect("read");
    resumed.store.load_optimizer(&optimizer).expect("read");
    step(&mut resumed, &AdamW::default(), &path);
    assert_eq!(family.store.snapshot(), resumed.store.snapshot());
    assert_eq!(family.store.touches(), resumed.store.touches());

    let mut joiner = Family::fresh(json!({ "seed": 1 }));
    joiner.store.restore(&family.store.snapshot(), family.store.touches()).expect("the same layout");
    assert_eq!(joiner.logits(path[0]), family.logits(path[0]), "the network sees it at once");
    assert!(joiner.store.restore(&Tensor::zeros([3], (tch::Kind::Float, tch::Device::Cpu)), &[]).is_err());
}

#[test]
fn a_state_of_another_layout_is_refused_by_name_and_moves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("adapter.safetensors");
    Family::trained(json!({ "pst": { "lora_r": 3 } })).store.save_params(&path).expect("written");
    let mut family = Family::fresh(json!({}));
    let before = family.store.snapshot();
    let error = family.store.load_params(&path).expect_err("another rank").to_string();
    assert!(error.contains("lora_A has shape [3, 3, 8], expected [3, 2, 8]"), "{error}");
    assert_eq!(before, family.store.snapshot());
    Weights::new("empty").save(&path).expect("written");
    assert!(family.store.load_optimizer(&path).is_err());
}

#[test]
fn trainable_parameters_meet_the_formula() {
    let family = Family::fresh(json!({}));
    assert_eq!(family.store.numel() as u64, family.layout.trainable_params());
    assert!(distance(&family.store.state()[1], &family.store.state()[2]) == 0.0, "moments start at zero");
}
