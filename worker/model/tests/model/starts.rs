//! Stitching layers by least squares, heads by ridge regression.

use esta_engine::spec::{FitMethod, StitchInit};
use esta_model::{Input, Phase, Slot, SlotOptions, StitchedNet, Weights, fit_heads, fit_layers, run_slot};
use esta_proto::StitchId;
use serde_json::json;
use tch::{Kind, Tensor};

use crate::fixture::{CLASSES, Family, distance, noise};

fn images(count: i64) -> Tensor {
    noise("fit", &[count, 1, 8, 8])
}

fn init(method: FitMethod, ridge: f64) -> StitchInit {
    StitchInit { method, samples: 0, ridge, refine_steps: 0 }
}

/// The activations that a layer's position joins, by the public network alone: a stitch's logits tell nothing of them, so
/// they are rebuilt from the reference's formulas.
fn rows(family: &Family, anchor: usize, place: usize, images: &Tensor) -> Tensor {
    crate::reference::Reference::new(family).states(anchor, images)[place].flatten(0, 1)
}

/// The least-squares solution [F+1, E] by QR of the rows themselves.
pub fn by_qr(x: &Tensor, y: &Tensor) -> Tensor {
    solved(&with_ones(x), y)
}

/// The same where every weight, but no bias, costs its square times `ridge` of the mean square sum of an input: by rows that ask
/// each weight to be nothing.
fn by_qr_with_ridge(x: &Tensor, y: &Tensor, ridge: f64) -> Tensor {
    let mean = x.square().sum_dim_intlist(0, false, Kind::Double).mean(Kind::Double).double_value(&[]);
    let (inputs, outputs) = (x.size()[1], y.size()[1]);
    let options = (Kind::Double, x.device());
    let asked = Tensor::eye(inputs, options) * (ridge * mean).sqrt();
    let asked = Tensor::cat(&[asked, Tensor::zeros([inputs, 1], options)], 1);
    let nothing = Tensor::zeros([inputs, outputs], options);
    solved(&Tensor::cat(&[with_ones(x), asked], 0), &Tensor::cat(&[y, &nothing], 0))
}

fn with_ones(x: &Tensor) -> Tensor {
    Tensor::cat(&[x, &Tensor::ones([x.size()[0], 1], (Kind::Double, x.device()))], 1)
}

fn solved(x: &Tensor, y: &Tensor) -> Tensor {
    let (q, r) = Tensor::linalg_qr(x, "reduced");
    r.linalg_solve_triangular(&q.tr().matmul(y), true, true, false)
}

/// [F+1, E]
pub fn fitted(weights: &Weights, layer: usize) -> Tensor {
    let get = |part: &str| weights.get(&format!("stitch_layers.{layer}.{part}")).expect("fitted").to_kind(Kind::Double);
    Tensor::cat(&[get("weight").tr(), get("bias").unsqueeze(0)], 0)
}

#[test]
fn layers_start_at_the_least_squares_solution_joint_and_mean() {
    let family = Family::trained(json!({ "family": { "space": { "kind": "snnet" } } }));
    let images = images(40);
    let joint = fit_layers(&family.catalog, &family.frozen, &Input::from(&images), &init(FitMethod::Joint, 0.0))
        .expect("solvable");
    let mean = fit_layers(&family.catalog, &family.frozen, &Input::from(&images), &init(FitMethod::Mean, 0.0))
        .expect("solvable");
    for (number, layer) in family.catalog.layers.iter().enumerate() {
        let pairs: Vec<(Tensor, Tensor)> = layer
            .positions
            .iter()
            .map(|&(front, end)| {
                let x = rows(&family, layer.from.index(), front as usize + 1, &images);
                (x, rows(&family, layer.to.index(), end as usize, &images))
            })
            .collect();
        let stack =
            |pick: fn(&(Tensor, Tensor)) -> &Tensor| Tensor::cat(&pairs.iter().map(pick).collect::<Vec<_>>(), 0);
        let expected = by_qr(&stack(|pair| &pair.0), &stack(|pair| &pair.1));
        let off = distance(&fitted(&joint, number), &expected);
        assert!(off < 1e-4, "joint, layer {number}: off by {off:e}");
        let solutions: Vec<Tensor> = pairs.iter().map(|pair| by_qr(&pair.0, &pair.1)).collect();
        let off = distance(&fitted(&mean, number), &Tensor::stack(&solutions, 0).mean_dim(0, false, Kind::Double));
        assert!(off < 1e-4, "mean, layer {number}: off by {off:e}");
    }
    assert!(family.catalog.layers.iter().any(|layer| layer.positions.len() > 1), "some layer is shared");
}

#[test]
fn a_ridge_pulls_weights_towards_nothing_and_no_bias() {
    let family = Family::trained(json!({ "family": { "space": { "kind": "snnet" } } }));
    let images = images(40);
    let input = Input::from(&images);
    let fit =
        |ridge| fit_layers(&family.catalog, &family.frozen, &input, &init(FitMethod::Joint, ridge)).expect("solvable");
    let (plain, ridged) = (fit(0.0), fit(0.3));
    for (number, layer) in family.catalog.layers.iter().enumerate() {
        let of = |pick: fn(&(u32, u32)) -> u32, anchor: usize| {
            let places: Vec<Tensor> = layer
                .positions
                .iter()
                .map(|position| rows(&family, anchor, pick(position) as usize, &images))
                .collect();
            Tensor::cat(&places, 0)
        };
        let x = of(|(front, _)| front + 1, layer.from.index());
        let y = of(|(_, end)| *end, layer.to.index());
        let off = distance(&fitted(&ridged, number), &by_qr_with_ridge(&x, &y, 0.3));
        assert!(off < 1e-4, "layer {number}: off by {off:e}");
        let moved = distance(&fitted(&ridged, number), &fitted(&plain, number));
        assert!(moved > 1e-2, "layer {number}: a ridge of 0.3 moves it by {moved:e}");
    }
}

#[test]
fn a_fit_without_enough_rows_needs_a_ridge_and_says_so() {
    let family = Family::trained(json!({}));
    let one = images(1);
    let error = fit_layers(&family.catalog, &family.frozen, &Input::from(&one), &init(FitMethod::Joint, 0.0))
        .expect_err("5 rows");
    assert!(error.to_string().contains("larger ridge"), "{error}");
    fit_layers(&family.catalog, &family.frozen, &Input::from(&one), &init(FitMethod::Joint, 1e-6))
        .expect("the ridge decides");
    assert!(
        fit_layers(&family.catalog, &family.frozen, &Input::from(&images(0)), &init(FitMethod::Joint, 1.0)).is_err()
    );
}

#[test]
fn fitted_stitches_are_closer_to_their_end_anchor_than_arbitrary_ones() {
    let mut family = Family::trained(json!({ "family": { "space": { "kind": "esta" } }, "pst": { "bias": "none" } }));
    let _zero = family.store.state()[0].fill_(0.0);
    let heads = family.store.get("anchors.1.head.weight").expect("trained").detach();
    heads.shallow_clone().copy_(&noise("head", &heads.size()));
    let images = images(64);
    let off = |family: &Family| {
        let logits = |id| family.net.forward(StitchId(id), &Input::from(&images), Phase::Eval).expect("in the catalog");
        let stitched = family.catalog.stitches().filter(|stitch| !stitch.is_anchor());
        stitched
            .map(|stitch| (logits(stitch.id.0) - logits(1)).square().mean(Kind::Double).double_value(&[]))
            .sum::<f64>()
    };
    let arbitrary = off(&family);
    let fit =
        fit_layers(&family.catalog, &family.frozen, &Input::from(&images), &StitchInit::default()).expect("solvable");
    family.frozen.absorb("", fit);
    family.net = StitchedNet::new(&family.catalog, &family.store, &family.frozen, &family.spec.pst, Default::default())
        .expect("complete");
    assert!(off(&family) < 0.7 * arbitrary, "{} against {arbitrary}", off(&family));
}

#[test]
fn ridge_heads_find_classes_that_are_linear_in_the_features() {
    let family = Family::fresh(json!({}));
    let images = images(200);
    let head = |part: &str| family.store.get(&format!("anchors.1.head.{part}")).expect("trained").detach();
    head("weight").copy_(&noise("truth", &head("weight").size()));
    let classify = || {
        family.net.forward(StitchId(1), &Input::from(&images), Phase::Eval).expect("in the catalog").argmax(1, false)
    };
    let labels = classify();
    let fitted = fit_heads(&family.catalog, &family.frozen, &images, &labels).expect("anchors are complete");
    for part in ["weight", "bias"] {
        head(part).copy_(fitted.get(&format!("anchors.1.head.{part}")).expect("fitted"));
    }
    let hits = classify().eq_tensor(&labels).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    assert!(hits > 0.85, "{hits} of the images");
    let slot = Slot { stitch: StitchId(1), input: &Input::from(&images), labels: &labels, dropout_seed: 0 };
    let run = run_slot(&family.net, &family.store, &slot, &SlotOptions::default()).expect("it runs");
    assert!(run.loss < 0.5 * f64::from(CLASSES).ln(), "scaled for a softmax: {}", run.loss);
}
