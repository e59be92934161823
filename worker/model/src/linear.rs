//! Linear maps and the adaptation they carry (TENSOR): h = W x + scale B A x + b + `b_stitch` (METHOD.md section 2).
//!
//! Shapes: M rows, I inputs, O outputs of one part, P parts of a fused projection (q, k, v: 3; otherwise 1), T adapted
//! parts, r rank.

use std::ops::Range;

use esta_engine::spec::Precision;
use tch::{Device, Kind, Tensor};

use crate::weights::Weights;

/// Whether random regularisation acts. Nothing else differs between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// LoRA dropout acts.
    Train,
    /// Nothing random happens.
    Eval,
}

/// `x [.., I] -> [.., P O]`, frozen or trained, with or without adaptation.
#[derive(Debug)]
pub(crate) struct Linear {
    /// [P O, I]
    pub weight: Tensor,
    /// [P O]
    pub bias: Option<Tensor>,
    /// P
    pub parts: i64,
    pub adaptation: Adaptation,
    pub precision: Precision,
}

/// What is added to a linear map; nothing by default.
#[derive(Debug, Default)]
pub(crate) struct Adaptation {
    pub targets: Targets,
    pub lora: Option<Lora>,
    /// The stitch's own bias [T, O], or [O] where P is 1.
    pub bias: Option<Tensor>,
}

/// Which of the P parts are adapted, ascending; T of them.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    numbers: Vec<i64>,
    /// The same [T] where the parts are, so that no pass brings them there; none where all parts are adapted.
    index: Option<Tensor>,
}

impl Targets {
    pub fn of(numbers: Vec<i64>, parts: i64, device: Device) -> Self {
        let index = (numbers.len() as i64) < parts;
        Self { index: index.then(|| Tensor::from_slice(&numbers).to_device(device)), numbers }
    }

    fn len(&self) -> i64 {
        self.numbers.len() as i64
    }

    /// Where the targets among the parts of `range` begin, and how many they are.
    fn within(&self, range: &Range<i64>) -> (i64, i64) {
        let before = |end: i64| self.numbers.partition_point(|target| *target < end) as i64;
        (before(range.start), before(range.end) - before(range.start))
    }

    /// `rows [n, ..]` with `own [count, ..]` added to those of its parts that are targets: of the P parts those from `start` on,
    /// of the T targets those from `first` on.
    fn add(&self, rows: &Tensor, own: &Tensor, (start, first): (i64, i64)) -> Tensor {
        match &self.index {
            None => rows + own,
            Some(index) => rows.index_add(0, &(index.narrow(0, first, own.size()[0]) - start), own),
        }
    }
}

/// A low-rank pair per adapted part.
#[derive(Debug)]
pub(crate) struct Lora {
    /// [T, r, I], or [r, I] where P is 1.
    pub a: Tensor,
    /// [T, O, r], or [O, r] where P is 1.
    pub b: Tensor,
    pub scale: f64,
    pub dropout: f64,
}

impl Linear {
    /// `x [.., I] -> [.., O]` of a map of one part, in single precision.
    pub fn forward(&self, x: &Tensor, phase: Phase) -> Tensor {
        self.product(x, phase).to_kind(Kind::Float)
    }

    /// The same in the kind in which matrices are multiplied.
    pub fn product(&self, x: &Tensor, phase: Phase) -> Tensor {
        let mut shape = x.size();
        let x = self.precision.cast(&x.reshape([-1, shape[shape.len() - 1]]));
        let mut y = self.base(&x, &(0..1));
        if let Some(lora) = &self.adaptation.lora {
            let z = lora.dropped(&x, phase).matmul(&self.precision.cast(&lora.a).tr());
            // In place on the matrix product's own result: no further pass over the activations.
            y = y.addmm_(&scaled(z, lora.scale), &self.precision.cast(&lora.b).tr());
        }
        *shape.last_mut().expect("activations have a last dimension") = y.size()[1];
        y.view(shape.as_slice())
    }

    /// `x [B, N, I] -> [n, B, N, O]`: the n parts of `range`.
    pub fn forward_parts(&self, x: &Tensor, range: &Range<i64>, phase: Phase) -> Tensor {
        let (b, n, i) = x.size3().expect("activations are [B, N, I]");
        let x = self.precision.cast(&x.reshape([b * n, i]));
        let wanted = range.end - range.start;
        let y = self.base(&x, range).view([b * n, wanted, -1]).transpose(0, 1);
        let y = match &self.adaptation.lora {
            Some(lora) => self.add_pairs(lora, &x, y, (range, phase)),
            None => y,
        };
        y.reshape([wanted, b, n, -1]).to_kind(Kind::Float)
    }

    /// W x + b + `b_stitch` for the parts of `range`: [M, n O].
    fn base(&self, x: &Tensor, range: &Range<i64>) -> Tensor {
        let rows = |tensor: &Tensor| match range.end - range.start == self.parts {
            true => tensor.shallow_clone(),
            false => {
                let outputs = tensor.size()[0] / self.parts;
                tensor.narrow(0, range.start * outputs, (range.end - range.start) * outputs)
            }
        };
        let weight = self.precision.cast(&rows(&self.weight));
        match self.total_bias() {
            Some(bias) => self.precision.cast(&rows(&bias)).addmm(x, &weight.tr()),
            None => x.mm(&weight.tr()),
        }
    }

    /// b + `b_stitch` [P O]: added once here instead of to every activation. None where there is neither.
    fn total_bias(&self) -> Option<Tensor> {
        match (&self.bias, &self.adaptation.bias) {
            (None, None) => None,
            (Some(bias), None) => Some(bias.shallow_clone()),
            (None, Some(own)) => Some(own.view(-1)),
            (Some(bias), Some(own)) if own.numel() == bias.numel() => Some(bias + own.view(-1)),
            (Some(bias), Some(own)) => {
                Some(self.adaptation.targets.add(&bias.view([self.parts, -1]), own, (0, 0)).view(-1))
            }
        }
    }

    /// Adds the pairs of the parts of `range` to `y [n, M, O]`.
    fn add_pairs(&self, lora: &Lora, x: &Tensor, y: Tensor, (range, phase): (&Range<i64>, Phase)) -> Tensor {
        let targets = &self.adaptation.targets;
        let (first, count) = targets.within(range);
        if count == 0 {
            return y;
        }
        let pairs = |tensor: &Tensor| match count == targets.len() {
            true => self.precision.cast(tensor),
            false => self.precision.cast(&tensor.narrow(0, first, count)),
        };
        // One product for all A: [M, T r], then one small product per part.
        let a = pairs(&lora.a);
        let z = lora.dropped(x, phase).matmul(&a.reshape([-1, a.size()[2]]).tr());
        let z = z.view([x.size()[0], count, -1]).transpose(0, 1);
        let b = pairs(&lora.b).transpose(1, 2);
        if count == range.end - range.start {
            return y.baddbmm(&z, &b, 1.0, lora.scale);
        }
        targets.add(&y, &scaled(z.bmm(&b), lora.scale), (range.start, first))
    }

    /// The same map with its adaptation folded in: the sum is made in single precision and kept in the weight's kind.
    pub fn merged(&self) -> Self {
        let weight = match &self.adaptation.lora {
            Some(lora) => self.merged_weight(lora),
            None => self.weight.detach(),
        };
        let bias = self.total_bias().map(|bias| bias.detach());
        Self { weight, bias, parts: self.parts, adaptation: Adaptation::default(), precision: self.precision }
    }

    pub fn export(&self, prefix: &str, weights: &mut Weights) {
        weights.insert(format!("{prefix}weight"), self.weight.detach());
        if let Some(bias) = &self.bias {
            weights.insert(format!("{prefix}bias"), bias.detach());
        }
    }

    fn merged_weight(&self, lora: &Lora) -> Tensor {
        let delta = lora.b.detach().matmul(&lora.a.detach()) * lora.scale;
        let weight = self.weight.detach().to_kind(Kind::Float);
        if self.parts == 1 {
            return (weight + delta).to_kind(self.weight.kind());
        }
        let [rows, inputs] = self.weight.size()[..] else { unreachable!("weights are matrices") };
        let weight = weight.view([self.parts, rows / self.parts, inputs]);
        self.adaptation.targets.add(&weight, &delta, (0, 0)).view([rows, inputs]).to_kind(self.weight.kind())
    }
}

impl Lora {
    fn dropped(&self, x: &Tensor, phase: Phase) -> Tensor {
        match phase == Phase::Train && self.dropout > 0.0 {
            true => x.dropout(self.dropout, true),
            false => x.shallow_clone(),
        }
    }
}

/// The explicit casts of mixed precision: matrix products in bfloat16, everything between them in single precision.
pub(crate) trait Cast {
    fn cast(&self, tensor: &Tensor) -> Tensor;
}

impl Cast for Precision {
    fn cast(&self, tensor: &Tensor) -> Tensor {
        match self {
            Self::F32 => tensor.shallow_clone(),
            Self::Bf16 => tensor.to_kind(Kind::BFloat16),
        }
    }
}

fn scaled(tensor: Tensor, scale: f64) -> Tensor {
    #[expect(clippy::float_cmp, reason = "a factor of exactly one needs no pass")]
    match scale == 1.0 {
        true => tensor,
        false => tensor * scale,
    }
}
