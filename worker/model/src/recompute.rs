//! Backward without keeping a forward pass (TENSOR): activation checkpointing block by block (Chen et al. 2016). Only what
//! enters each block is kept; on the way back a block runs again, and its vector-Jacobian product is taken as the gradient
//! of `(y * g).sum()`, which is exactly g's.
//!
//! Shapes: B images or texts, N tokens, D width.

use tch::Tensor;

use crate::input::Input;
use crate::linear::Phase;
use crate::network::{Network, Stage};

/// What `learn` makes of the logits, the loss and what is minimised: answers the loss, and the gradients of `leaves`, undefined
/// where what is minimised does not depend on them. Dropout draws the same both times, block by block from `seed` on.
pub(crate) fn backward(
    network: &Network,
    input: &Input,
    leaves: &[&Tensor],
    seed: i64,
    learn: impl FnOnce(&Tensor) -> (Tensor, Tensor),
) -> (Tensor, Vec<Tensor>) {
    let mut sums = Sums::new(leaves);
    let stages: Vec<Stage<'_>> = network.stages().collect();
    // What trains in front of the blocks needs its own gradient; elsewhere this graph is empty.
    let embedded = network.front.forward(input);
    let entered = kept(&embedded, &stages, seed);
    let (behind, stages_left) = entered.split_last().expect("the embedding's output is always there");
    let behind = behind.detach().set_requires_grad(true);
    let (loss, target) = learn(&network.tail.forward(&behind, input, Phase::Train));
    let mut gradient = sums.take(&target, Some(&behind)).expect("the loss depends on the last activations");
    for ((number, stage), x) in (0..).zip(&stages).zip(stages_left).collect::<Vec<_>>().into_iter().rev() {
        let x = x.detach().set_requires_grad(true);
        tch::manual_seed(seed.wrapping_add(number));
        let y = stage.forward(&x, Phase::Train);
        let product = (y * gradient).sum(tch::Kind::Float);
        gradient = sums.take(&product, Some(&x)).expect("a residual block depends on what enters it");
    }
    if embedded.requires_grad() {
        sums.take(&(embedded * gradient).sum(tch::Kind::Float), None);
    }
    (loss, sums.grads)
}

/// What enters each block, and what leaves the last.
fn kept(embedded: &Tensor, stages: &[Stage<'_>], seed: i64) -> Vec<Tensor> {
    tch::no_grad(|| {
        let mut kept = vec![embedded.detach()];
        for (number, stage) in (0..).zip(stages) {
            tch::manual_seed(seed.wrapping_add(number));
            kept.push(stage.forward(&kept[kept.len() - 1], Phase::Train));
        }
        kept
    })
}

/// Gradients of leaves over several backward passes.
struct Sums<'a> {
    leaves: &'a [&'a Tensor],
    grads: Vec<Tensor>,
}

impl<'a> Sums<'a> {
    fn new(leaves: &'a [&'a Tensor]) -> Self {
        Self { leaves, grads: leaves.iter().map(|_| Tensor::new()).collect() }
    }

    /// Adds the gradients of `target`, and answers that of `x`.
    fn take(&mut self, target: &Tensor, x: Option<&Tensor>) -> Option<Tensor> {
        let inputs: Vec<&Tensor> = self.leaves.iter().copied().chain(x).collect();
        let mut grads = Tensor::run_backward(&[target], &inputs, false, false);
        let of_x = x.and_then(|_| grads.pop());
        for (sum, grad) in self.grads.iter_mut().zip(grads) {
            match (sum.defined(), grad.defined()) {
                (_, false) => {}
                (false, true) => *sum = grad,
                (true, true) => *sum += grad,
            }
        }
        of_x
    }
}
