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
    let mut way = Way::new(network, input, leaves.to_vec(), seed);
    for _ in 0..network.depth() {
        way.forward();
    }
    let loss = way.turn(input, learn);
    for _ in 0..network.depth() {
        way.back();
    }
    (loss, way.gradients())
}

/// A pass through a network and back, one block at a time: every block forward, the turn, every block back.
pub(crate) struct Way<'a> {
    network: &'a Network,
    stages: Vec<Stage<'a>>,
    seed: i64,
    /// [B, N, D] in front of the blocks.
    embedded: Tensor,
    /// [B, N, D]: what entered each block that has not been gone back through; until the turn also what left the last.
    entered: Vec<Tensor>,
    /// [B, N, D]: of what left the block before, from the turn on.
    gradient: Option<Tensor>,
    sums: Sums<'a>,
}

impl<'a> Way<'a> {
    pub fn new(network: &'a Network, input: &Input, leaves: Vec<&'a Tensor>, seed: i64) -> Self {
        // What trains in front of the blocks needs its own gradient; elsewhere this graph is empty.
        let embedded = network.front.forward(input);
        let entered = vec![embedded.detach()];
        let stages = network.stages().collect();
        Self { network, stages, seed, embedded, entered, gradient: None, sums: Sums::new(leaves) }
    }

    /// Through the next block.
    pub fn forward(&mut self) {
        let number = self.entered.len() - 1;
        let y = tch::no_grad(|| self.run(number, &self.entered[number]));
        self.entered.push(y);
    }

    /// From the last activations to the loss, which is answered, and back to them.
    pub fn turn(&mut self, input: &Input, learn: impl FnOnce(&Tensor) -> (Tensor, Tensor)) -> Tensor {
        let behind = self.entered.pop().expect("the embedding's output is always there");
        let behind = behind.detach().set_requires_grad(true);
        let (loss, target) = learn(&self.network.tail.forward(&behind, input, Phase::Train));
        self.gradient = self.sums.take(&target, Some(&behind));
        loss
    }

    /// Back through the block before.
    pub fn back(&mut self) {
        let x = self.entered.pop().expect("as many blocks back as forward");
        let x = x.detach().set_requires_grad(true);
        let y = self.run(self.entered.len(), &x);
        let gradient = self.gradient.take().expect("the loss depends on the activations");
        self.gradient = self.sums.take(&(y * gradient).sum(tch::Kind::Float), Some(&x));
    }

    /// The gradients of the leaves.
    pub fn gradients(mut self) -> Vec<Tensor> {
        if let Some(gradient) = self.gradient.take_if(|_| self.embedded.requires_grad()) {
            self.sums.take(&(self.embedded * gradient).sum(tch::Kind::Float), None);
        }
        self.sums.grads
    }

    fn run(&self, number: usize, x: &Tensor) -> Tensor {
        tch::manual_seed(self.seed.wrapping_add(number as i64));
        self.stages[number].forward(x, Phase::Train)
    }
}

/// Gradients of leaves over several backward passes.
struct Sums<'a> {
    leaves: Vec<&'a Tensor>,
    grads: Vec<Tensor>,
}

impl<'a> Sums<'a> {
    fn new(leaves: Vec<&'a Tensor>) -> Self {
        Self { grads: leaves.iter().map(|_| Tensor::new()).collect(), leaves }
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
