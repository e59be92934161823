//! In-place distillation: what a slot learns of a teacher, beside the reference in double precision.

use esta_model::{Input, Slot, SlotOptions, SlotResult, Teacher, run_slot};
use esta_proto::StitchId;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::fixture::{Family, batch, distance};
use crate::reference::Reference;

/// The largest anchor of the fixture's two.
const LARGEST: StitchId = StitchId(1);

fn taught(weight: f64, temperature: f64) -> SlotOptions {
    let teacher = Some(Teacher { stitch: LARGEST, weight, temperature });
    SlotOptions { teacher, ..SlotOptions::default() }
}

fn variants() -> [Value; 3] {
    [json!({}), json!({ "mode": "snnet" }), json!({ "family": { "space": { "kind": "esta" } } })]
}

fn same_bits(one: &SlotResult, other: &SlotResult) -> bool {
    let numbers = |r: &SlotResult| [r.loss, r.score, r.grad_norm].map(f64::to_bits);
    let bits = |r: &SlotResult| r.grads.view_dtype(Kind::Int);
    numbers(one) == numbers(other) && bits(one) == bits(other)
}

/// (1 - w) CE + w T^2 sum p (ln p - ln q) over images, with p a constant: as the papers write it, by other operations.
fn written_out(reference: &Reference<'_>, family: &Family, stitch: StitchId, how: Teacher) -> Tensor {
    let (images, labels) = batch(8);
    let path = |id| family.catalog.get(id).expect("in the catalog");
    let temperature = how.temperature;
    let p = (reference.logits(path(how.stitch), &images).detach() / temperature).softmax(-1, Kind::Double);
    let q = (reference.logits(path(stitch), &images) / temperature).softmax(-1, Kind::Double);
    let divergence = (&p * (&p / q).log()).sum(Kind::Double) / images.size()[0] as f64;
    let labelled = reference.loss(path(stitch), &images, &labels);
    labelled * (1.0 - how.weight) + divergence * (how.weight * temperature.powi(2))
}

/// The gradients of the touched parameters in the slot's order.
fn backward(reference: &Reference<'_>, family: &Family, stitch: StitchId, loss: &Tensor) -> Tensor {
    loss.backward();
    let params = family.store.touched(stitch).flat_map(|group| &group.params);
    let grads: Vec<Tensor> = params.map(|param| reference.leaves[&param.name].grad().reshape([-1])).collect();
    Tensor::cat(&grads, 0)
}

#[test]
fn a_teacher_without_weight_changes_no_bit() {
    let family = Family::trained(json!({}));
    for stitch in family.stitches() {
        let alone = family.run(stitch, &SlotOptions::default());
        assert!(same_bits(&alone, &family.run(stitch, &taught(0.0, 2.0))), "stitch {stitch}");
    }
    let stitch = family.longest();
    assert!(!same_bits(&family.run(stitch, &SlotOptions::default()), &family.run(stitch, &taught(0.5, 2.0))));
}

#[test]
fn gradients_equal_an_independent_computation_of_what_the_slot_minimises() {
    for variant in variants() {
        let family = Family::trained(variant.clone());
        for (weight, temperature) in [(0.5, 1.0), (0.3, 4.0), (1.0, 2.0)] {
            let how = Teacher { stitch: LARGEST, weight, temperature };
            for stitch in [StitchId(0), family.longest()] {
                let reference = Reference::new(&family);
                let loss = written_out(&reference, &family, stitch, how);
                let expected = backward(&reference, &family, stitch, &loss);
                let found = family.run(stitch, &taught(weight, temperature));
                let off = distance(&found.grads, &expected);
                assert!(off < 1e-5, "{variant}, stitch {stitch}, {how:?}: gradients off by {off:e}");
                let norm = expected.norm().double_value(&[]);
                assert!((found.grad_norm / norm - 1.0).abs() < 1e-5, "{} for {norm}", found.grad_norm);
            }
        }
    }
}

#[test]
fn the_reported_loss_stays_that_of_the_labels() {
    let family = Family::trained(json!({}));
    for stitch in family.stitches() {
        let (alone, found) = (family.run(stitch, &SlotOptions::default()), family.run(stitch, &taught(0.7, 3.0)));
        assert_eq!(alone.loss.to_bits(), found.loss.to_bits(), "stitch {stitch}");
    }
}

#[test]
fn the_teachers_own_slots_learn_from_labels_alone() {
    let family = Family::trained(json!({}));
    let alone = family.run(LARGEST, &SlotOptions::default());
    assert!(same_bits(&alone, &family.run(LARGEST, &taught(0.9, 1.0))));
}

#[test]
fn no_gradient_reaches_the_teacher() {
    let family = Family::trained(json!({}));
    let own = |id: StitchId| {
        family.store.touched(id).flat_map(|group| &group.params).map(|param| param.name.clone()).collect::<Vec<_>>()
    };
    let ends_elsewhere = |id: &StitchId| family.catalog.get(*id).is_some_and(|s| s.end_anchor().index() == 0);
    let students: Vec<StitchId> = family.stitches().into_iter().filter(ends_elsewhere).collect();
    assert!(students.iter().any(|id| own(*id).iter().any(|name| own(LARGEST).contains(name))), "some share parameters");
    for student in students {
        assert!(!own(student).contains(&"anchors.1.head.weight".to_owned()), "stitch {student} ends elsewhere");
        // Through the head of the student's own end alone: as many gradients as it touches parameters, and no other.
        let found = family.run(student, &taught(0.8, 2.0)).grads;
        let touched = family.store.touched(student).flat_map(|group| &group.params);
        assert_eq!(found.numel(), touched.map(|param| param.tensor.numel()).sum::<usize>());
    }
    let mut params = family.store.groups().iter().flat_map(|group| &group.params);
    assert!(params.all(|param| !param.tensor.grad().defined()), ".grad stays empty");
}

#[test]
fn a_shared_parameter_is_moved_by_the_student_alone() {
    // Were the teacher's answers not constant, the gradient of what both paths share would hold their derivative too.
    let family = Family::trained(json!({}));
    let stitch = family.longest();
    let how = Teacher { stitch: LARGEST, weight: 1.0, temperature: 1.0 };
    let (images, labels) = batch(8);
    let path = |id| family.catalog.get(id).expect("in the catalog");
    let leaky = Reference::new(&family);
    let p = leaky.logits(path(LARGEST), &images).softmax(-1, Kind::Double);
    let q = leaky.logits(path(stitch), &images).softmax(-1, Kind::Double);
    let divergence = (&p * (&p / q).log()).sum(Kind::Double) / images.size()[0] as f64;
    let loss = leaky.loss(path(stitch), &images, &labels) * 0.0 + divergence;
    let leaked = backward(&leaky, &family, stitch, &loss);
    let found = family.run(stitch, &taught(how.weight, how.temperature)).grads;
    assert!(distance(&found, &leaked) > 1e-3, "the two can be told apart");
    let constant = Reference::new(&family);
    let expected = backward(&constant, &family, stitch, &written_out(&constant, &family, stitch, how));
    assert!(distance(&found, &expected) < 1e-5);
}

#[test]
fn passes_add_up_under_a_teacher_and_a_loss_scale_changes_no_bit() {
    let family = Family::trained(json!({}));
    let stitch = family.longest();
    let whole = family.run(stitch, &taught(0.5, 2.0));
    let parts = family.run(stitch, &SlotOptions { micro_batches: 4, ..taught(0.5, 2.0) });
    assert!(distance(&whole.grads, &parts.grads) < 1e-6);
    let scaled = family.run(stitch, &SlotOptions { loss_scale: 1024.0, ..taught(0.5, 2.0) });
    assert!(same_bits(&whole, &scaled), "SC-1");
}

#[test]
fn a_teacher_that_is_not_in_the_catalog_is_refused() {
    let family = Family::trained(json!({}));
    let (images, labels) = batch(8);
    let slot = Slot { stitch: StitchId(0), input: &Input::from(&images), labels: &labels, dropout_seed: 0 };
    let teacher = Some(Teacher { stitch: StitchId(999), weight: 0.5, temperature: 1.0 });
    let options = SlotOptions { teacher, ..SlotOptions::default() };
    let error = run_slot(&family.net, &family.store, &slot, &options).expect_err("there is no such path");
    assert_eq!(std::error::Error::source(&error).expect("a cause").to_string(), "stitch 999 is not in the catalog");
}
