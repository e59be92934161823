//! Stitching layers fitted on final features: the gap to the end anchor, rebuilt by the reference's formulas.

use esta_engine::catalog::Layer;
use esta_engine::spec::StitchInit;
use esta_model::{Input, Weights, fit_layers, refine_layers};
use serde_json::json;
use tch::{Kind, Tensor};

use crate::fixture::{Family, distance, noise};
use crate::reference::Reference;

fn images(count: i64) -> Tensor {
    noise("refine", &[count, 1, 8, 8])
}

fn least_squares(family: &Family, images: &Tensor) -> Weights {
    fit_layers(&family.catalog, &family.frozen, &Input::from(images), &StitchInit::default()).expect("solvable")
}

fn refined(family: &Family, start: &Weights, images: &Tensor, steps: u32) -> Weights {
    refine_layers(&family.catalog, &family.frozen, start, images, steps).expect("all is there")
}

fn part(weights: &Weights, layer: usize, part: &str) -> Tensor {
    weights.get(&format!("stitch_layers.{layer}.{part}")).expect("it is there").to_kind(Kind::Double)
}

/// Mean squared gap between the final features through a layer and those of its end anchor, over its positions.
fn gap(family: &Family, weights: &Weights, number: usize, images: &Tensor) -> f64 {
    let layer: &Layer = &family.catalog.layers[number];
    let reference = Reference::new(family);
    let front = reference.states(layer.from.index(), images);
    let end = layer.to.index();
    let wanted = reference.features(end, reference.states(end, images).pop().expect("a state"), 0..0);
    let depth = family.catalog.anchors[end].depth();
    let of = |&(after, before): &(u32, u32)| {
        let x = &front[after as usize + 1];
        let entered = x.matmul(&part(weights, number, "weight").tr()) + part(weights, number, "bias");
        let features = reference.features(end, entered, before..depth);
        (features - &wanted).square().mean(Kind::Double).double_value(&[])
    };
    layer.positions.iter().map(of).sum::<f64>() / layer.positions.len() as f64
}

#[test]
fn every_layer_ends_closer_to_its_end_anchors_features_than_least_squares() {
    for space in ["snnet", "twoway"] {
        let family = Family::trained(json!({ "family": { "space": { "kind": space } } }));
        let images = images(96);
        let start = least_squares(&family, &images);
        let end = refined(&family, &start, &images, 120);
        for number in 0..family.catalog.layers.len() {
            let (before, after) = (gap(&family, &start, number, &images), gap(&family, &end, number, &images));
            assert!(after < 0.9 * before, "{space}, layer {number}: {after} after {before}");
        }
    }
}

#[test]
fn no_steps_change_nothing() {
    let family = Family::trained(json!({}));
    let images = images(40);
    let start = least_squares(&family, &images);
    let end = refined(&family, &start, &images, 0);
    assert_eq!(end.iter().count(), start.iter().count());
    for (name, tensor) in start.iter() {
        assert_eq!(end.get(name), Some(tensor), "{name}");
    }
}

#[test]
fn the_same_images_give_the_same_bits_and_leave_anchors_and_start_alone() {
    let family = Family::trained(json!({}));
    let images = images(40);
    let start = least_squares(&family, &images);
    let copies = |weights: &Weights| weights.iter().map(|(n, t)| (n.to_owned(), t.copy())).collect::<Vec<_>>();
    let (anchors, before) = (copies(&family.frozen), copies(&start));
    let (one, two) = (refined(&family, &start, &images, 7), refined(&family, &start, &images, 7));
    for (name, tensor) in one.iter() {
        assert_eq!(two.get(name), Some(tensor), "{name}");
        assert!(!tensor.requires_grad(), "{name} is a plain tensor again");
        assert!(distance(tensor, start.get(name).expect("it was there")) > 0.0, "{name} moved");
    }
    assert_eq!(copies(&family.frozen), anchors);
    assert_eq!(copies(&start), before);
}

#[test]
fn a_batch_is_seen_at_every_position_before_the_next() {
    // Were both to move on at every step, two batches and two positions would show each position one batch for ever.
    let family = Family::trained(json!({ "family": { "space": { "kind": "snnet" } } }));
    let images = images(64);
    let start = least_squares(&family, &images);
    let number = family.catalog.layers.iter().position(|layer| layer.positions.len() > 1).expect("a shared layer");
    let positions = family.catalog.layers[number].positions.len() as u32;
    let first_alone = Tensor::cat(&[images.narrow(0, 0, 32), noise("others", &[32, 1, 8, 8])], 0);
    let after = |images: &Tensor, steps| refined(&family, &start, images, steps);
    // The rate depends on the number of steps alone.
    let off = |steps| {
        let [one, other] = [&images, &first_alone].map(|images| part(&after(images, steps), number, "weight"));
        distance(&one, &other)
    };
    assert_eq!(off(positions), 0.0, "{positions} steps see the first batch alone");
    assert!(off(positions + 1) > 1e-6, "the step after them sees the second");
}

#[test]
fn a_layer_that_is_not_there_is_named() {
    let family = Family::trained(json!({}));
    let images = images(8);
    let error =
        refine_layers(&family.catalog, &family.frozen, &Weights::new("empty"), &images, 1).expect_err("missing");
    assert!(error.to_string().contains("stitch_layers.0.weight"), "{error}");
}
