//! Stitching layers fitted on what the head will read (TENSOR): after the least-squares start, each layer is moved by
//! gradients so that a path through it ends in the features of its end anchor alone, without labels.
//!
//! Least squares match the activations in front of the end block, where directions that later blocks ignore weigh as
//! much as those they read. Our choice, off by default (`family.stitch_init.refine_steps`).
//!
//! Shapes: B images, N tokens, D width.

use esta_engine::catalog::{Catalog, Layer};
use esta_proto::AnchorId;
use tch::{Kind, Tensor};

use crate::input::Input;
use crate::params::signed;
use crate::trunk::Trunk;
use crate::weights::{Weights, WeightsError};

/// Images of one step.
const BATCH: i64 = 32;
/// Peak learning rate, going down to zero in a line.
const LEARNING_RATE: f64 = 1e-3;
const BETAS: (f64, f64) = (0.9, 0.99);
const EPSILON: f64 = 1e-8;

/// Moves every layer of `layers` (`stitch_layers.{l}.weight` and `.bias`) by `steps` steps over `images [n, C, H, W]`: the
/// images in turn, each batch at every position of the layer before the next. Everything but the layers stays as it is.
///
/// # Errors
/// [`WeightsError`] when an anchor's weights are not all in `frozen`, or a layer's not in `layers`.
pub fn refine_layers(
    catalog: &Catalog,
    frozen: &Weights,
    layers: &Weights,
    images: &Tensor,
    steps: u32,
) -> Result<Weights, WeightsError> {
    let anchors = (0..).map(AnchorId).take(catalog.anchors.len());
    let trunks: Vec<Trunk> = anchors.map(|anchor| Trunk::new(catalog, frozen, anchor)).collect::<Result<_, _>>()?;
    let mut refined = Weights::new("fit on final features");
    for layer in &catalog.layers {
        let name = format!("stitch_layers.{}", layer.id);
        let shape = |anchor: AnchorId| signed(catalog.anchors[anchor.index()].width());
        let (to, from) = (shape(layer.to), shape(layer.from));
        let weight = layers.expect(&format!("{name}.weight"), &[to, from])?;
        let bias = layers.expect(&format!("{name}.bias"), &[to])?;
        let path = Path { layer, front: &trunks[layer.from.index()], end: &trunks[layer.to.index()] };
        let (weight, bias) = path.refine(weight, bias, images, steps);
        refined.insert(format!("{name}.weight"), weight);
        refined.insert(format!("{name}.bias"), bias);
    }
    Ok(refined)
}

/// The one-layer paths through a stitching layer.
struct Path<'a> {
    layer: &'a Layer,
    front: &'a Trunk,
    end: &'a Trunk,
}

impl Path<'_> {
    fn refine(&self, weight: &Tensor, bias: &Tensor, images: &Tensor, steps: u32) -> (Tensor, Tensor) {
        let positions = &self.layer.positions;
        let mut leaves = [weight, bias].map(Moved::new);
        for step in 0..steps {
            // Were both to move on at every step, numbers with a common factor would keep some images from a position.
            let (round, turn) = (step / positions.len() as u32, step as usize % positions.len());
            let (batch, (after, before)) = (Input::Images(nth_batch(images, round)), positions[turn]);
            let x = self.front.state_after(&batch, after);
            let wanted = self.end.features(&batch);
            let entered = x.linear(&leaves[0].leaf, Some(&leaves[1].leaf));
            let gap = self.end.features_from(&entered, before) - wanted;
            let loss = gap.square().mean(Kind::Float);
            let grads = Tensor::run_backward(&[loss], &[&leaves[0].leaf, &leaves[1].leaf], false, false);
            let rate = LEARNING_RATE * (1.0 - f64::from(step) / f64::from(steps));
            for (leaf, grad) in leaves.iter_mut().zip(&grads) {
                leaf.step(grad, rate);
            }
        }
        let [weight, bias] = leaves.map(|moved| moved.leaf.detach());
        (weight, bias)
    }
}

/// The images of a round, in turn, beginning again at the end.
fn nth_batch(images: &Tensor, round: u32) -> Tensor {
    let total = images.size()[0];
    let size = BATCH.min(total);
    let first = i64::from(round) * size % total;
    let head = images.narrow(0, first, size.min(total - first));
    match size - head.size()[0] {
        0 => head,
        rest => Tensor::cat(&[head, images.narrow(0, 0, rest)], 0),
    }
}

/// A tensor under Adam.
struct Moved {
    leaf: Tensor,
    mean: Tensor,
    square: Tensor,
    steps: i32,
}

impl Moved {
    fn new(start: &Tensor) -> Self {
        let leaf = start.detach().copy().set_requires_grad(true);
        Self { mean: start.zeros_like(), square: start.zeros_like(), leaf, steps: 0 }
    }

    fn step(&mut self, grad: &Tensor, rate: f64) {
        tch::no_grad(|| {
            self.steps += 1;
            let correction = |beta: f64| 1.0 - beta.powi(self.steps);
            self.mean = &self.mean * BETAS.0 + grad * (1.0 - BETAS.0);
            self.square = &self.square * BETAS.1 + grad.square() * (1.0 - BETAS.1);
            let size = (&self.square / correction(BETAS.1)).sqrt() + EPSILON;
            self.leaf -= &self.mean / size * (rate / correction(BETAS.0));
        });
    }
}
