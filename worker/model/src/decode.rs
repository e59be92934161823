//! Text, token by token (TENSOR): a network that keeps the keys and values of what it has seen.
//!
//! Shapes: V vocabulary.

use tch::{Kind, Tensor};

use crate::input::{Input, Texts};
use crate::linear::Phase;
use crate::network::{Front, Network, Past};

/// One text on its way through a language model.
pub struct Decoder<'a> {
    network: &'a Network,
    /// By executed block: a block that runs at two places of a path has two pasts.
    pasts: Vec<Past>,
    seen: i64,
}

impl<'a> Decoder<'a> {
    /// A text of no token yet; `None` for a network that does not speak.
    #[must_use]
    pub fn new(network: &'a Network) -> Option<Self> {
        let pasts = (0..network.depth()).map(|_| Past::default()).collect();
        matches!(network.front, Front::Tokens(_)).then_some(Self { network, pasts, seen: 0 })
    }

    /// Tokens the network has seen.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.unsigned_abs()
    }

    /// Tokens that the network can see at most: its shortest rotary table.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.network.positions().unsigned_abs()
    }

    /// Lets it read further tokens, at least one, and answers the logits `[V]` of the one that follows them, in single
    /// precision on the CPU; those of tokens that it cannot read are left out.
    ///
    /// # Panics
    /// When they are none, or more than there is room for.
    pub fn read(&mut self, tokens: &[i64]) -> Tensor {
        tch::no_grad(|| {
            let device = self.network.device();
            let ids = Tensor::from_slice(tokens).view([1, -1]).to_device(device);
            let count = tokens.len() as i64;
            let reads = Tensor::from_slice(&[count - 1]).to_device(device);
            let input = Input::Texts(Texts { ids, reads, counts: vec![1], lengths: vec![count] });
            let embedded = self.network.front.forward(&input);
            let stages = self.network.stages().zip(&mut self.pasts);
            let x = stages.fold(embedded, |x, (stage, past)| stage.forward_after(past, &x));
            self.seen += count;
            let logits = self.network.tail.forward(&x, &input, Phase::Eval);
            // What it could not read itself it does not say: a head may have more rows than another anchor's embedding.
            let sayable = self.network.sayable().min(logits.size()[1]);
            logits.select(0, 0).narrow(0, 0, sayable).to_kind(Kind::Float).to_device(tch::Device::Cpu)
        })
    }
}
