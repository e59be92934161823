//! The sum of a step (TENSOR): each slot's gradient is quantised once to fixed point and *summed as integers*, on the rank
//! and in the all-reduce, so the sum does not depend on order, grouping or the number of ranks (RD-4).
//!
//! Buffer of a step: the touched groups in layout order (RD-1; a group without contributor is not there, RD-2), then per
//! slot the words of score, loss and gradient norm, and a flag. A slot's words come from the one rank that ran it; the
//! others add zeros, so the bits of the doubles survive the sum. The flag is 1 for a slot whose numbers are unusable.
//!
//! In floating point (`reduce.kind: f32`) the same layout holds f32, and a double travels as four 16-bit pieces, each of
//! which f32 holds exactly.

use esta_engine::spec::{Divisor, ReduceSpec, Reduction};
use esta_proto::{GroupId, SlotId};
use tch::{Kind, Tensor};

use crate::params::{ParamStore, Run};
use crate::slot::SlotResult;

/// Sums of fixed-point numbers stay below 2^62 in magnitude.
const HEADROOM_BITS: i32 = 62;

/// The sum of this rank's slots: not yet reduced, so no optimizer takes it.
#[derive(Debug)]
pub struct StepBuffer {
    contents: Contents,
    sum: Tensor,
}

/// The sum of all ranks' slots: the same bits on every rank (RD-3).
#[derive(Debug)]
pub struct Reduced {
    contents: Contents,
    sum: Tensor,
    grads: Tensor,
    outcomes: Vec<SlotOutcome>,
}

/// What a step says of one slot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlotOutcome {
    /// SNIP score.
    pub score: f64,
    /// Mean loss.
    pub loss: f64,
    /// Norm over all the slot's gradients.
    pub grad_norm: f64,
    /// Whether exactly one rank ran the slot (ST-1) and its numbers were finite and within the fixed point's range.
    pub valid: bool,
}

/// Which numbers a buffer holds.
#[derive(Debug, Clone)]
struct Contents {
    /// Groups and how many slots touch them, ascending (RD-1, RD-2).
    touched: Vec<(GroupId, u32)>,
    slots: u32,
    spec: ReduceSpec,
    /// Elements of gradients; the slots' words follow.
    numel: i64,
}

impl StepBuffer {
    /// An empty sum on the store's device; a rank without slots reduces it as it is. `touched` is the plan's: the groups
    /// of the step, ascending, and by how many of its `slots` each is touched.
    #[must_use]
    pub fn new(store: &ParamStore, touched: &[(GroupId, u32)], slots: u32, spec: &ReduceSpec) -> Self {
        let numel = touched.iter().map(|&(id, _)| store.group(id).numel()).sum();
        let contents = Contents { touched: touched.to_vec(), slots, spec: spec.clone(), numel };
        let sum =
            Tensor::zeros([numel + i64::from(slots) * contents.words()], (contents.kind(), store.values.device()));
        Self { contents, sum }
    }

    /// Adds a slot that ran on this rank. One that is not finite, or too large for the fixed point to hold with all
    /// slots of the step, leaves its words only.
    ///
    /// # Panics
    /// When the slot is not the step's, or its stitch touches a group that the step does not.
    pub fn add_slot(&mut self, store: &ParamStore, slot: SlotId, result: &SlotResult) {
        assert!(slot.0 < self.contents.slots, "slot {slot} of a step of {}", self.contents.slots);
        let grads = self.contents.quantise(result);
        let words = self.contents.encode(result, if grads.is_some() { Flag::Good } else { Flag::Bad });
        let start = self.contents.numel + i64::from(slot.0) * self.contents.words();
        self.sum.narrow(0, start, self.contents.words()).copy_(&words);
        let Some(grads) = grads else { return };
        for run in self.contents.places(store, result) {
            let mut place = self.sum.narrow(0, run.store, run.len);
            place += grads.narrow(0, run.flat, run.len);
        }
    }

    /// The same sum in memory of its own.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { contents: self.contents.clone(), sum: self.sum.copy() }
    }

    /// The buffer itself, for the all-reduce (sum) in place: i64, or f32 where `reduce.kind` says so.
    pub fn tensor(&self) -> Tensor {
        self.sum.shallow_clone()
    }

    /// Bytes that the all-reduce moves.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sum.numel() * self.sum.kind().elt_size_in_bytes()
    }

    /// Says that [`Self::tensor`] holds the sum over all ranks of the step, and divides (RD-2).
    #[must_use]
    pub fn into_reduced(self, store: &ParamStore) -> Reduced {
        let grads = self.contents.dequantise(store, &self.sum);
        let outcomes = self.contents.decode(&self.sum);
        Reduced { contents: self.contents, sum: self.sum, grads, outcomes }
    }
}

impl Reduced {
    /// f32 gradients of the touched groups in layout order, divided.
    pub fn gradient(&self) -> &Tensor {
        &self.grads
    }

    /// The touched groups, ascending.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> {
        self.contents.touched.iter().map(|&(id, _)| id)
    }

    /// What became of each slot, in slot order.
    #[must_use]
    pub fn outcomes(&self) -> &[SlotOutcome] {
        &self.outcomes
    }

    /// Whether every slot is usable: only then may the step be applied.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.valid)
    }

    /// The reduced buffer as little-endian bytes, for the step's digest (RD-3).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.sum.numel() * self.sum.kind().elt_size_in_bytes()];
        self.sum.copy_data_u8(&mut bytes, self.sum.numel());
        bytes
    }
}

/// What a slot's flag word says; a slot that no rank ran has 0, one that two ranks ran at least 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    Good = 1,
    Bad = 2,
}

impl Contents {
    fn kind(&self) -> Kind {
        match self.spec.kind {
            Reduction::Int64 => Kind::Int64,
            Reduction::F32 => Kind::Float,
        }
    }

    /// Elements of the buffer per slot.
    fn words(&self) -> i64 {
        match self.spec.kind {
            Reduction::Int64 => 4,
            Reduction::F32 => 13,
        }
    }

    fn fraction_bits(&self) -> i32 {
        i32::try_from(self.spec.fraction_bits).expect("the specification bounds the fraction")
    }

    /// The slot's gradients in the buffer's representation; `None` where they have none. Scaling by a power of two is
    /// exact in f32, so the rounding to an integer is the only one.
    fn quantise(&self, result: &SlotResult) -> Option<Tensor> {
        let grads = &result.grads;
        match self.spec.kind {
            _ if !result.finite => None,
            Reduction::F32 => Some(grads.shallow_clone()),
            Reduction::Int64 if !self.fits(result) => None,
            Reduction::Int64 => Some((grads * 2f64.powi(self.fraction_bits())).round_().to_kind(Kind::Int64)),
        }
    }

    /// Whether the slot's largest gradient, times the number of slots, stays in range. The norm bounds the largest, so
    /// the second look is rare.
    fn fits(&self, result: &SlotResult) -> bool {
        let limit = 2f64.powi(HEADROOM_BITS - self.fraction_bits()) / f64::from(self.slots);
        result.grad_norm < limit || result.grads.abs().max().double_value(&[]) < limit
    }

    /// Where the slot's groups lie: `store` is the place in the buffer, `flat` that in the slot's gradients.
    fn places(&self, store: &ParamStore, result: &SlotResult) -> Vec<Run> {
        let mut step = self.touched.iter();
        let mut runs: Vec<Run> = Vec::new();
        let (mut place, mut flat) = (0, 0);
        for &id in store.layout().touched(result.stitch) {
            let len = store.group(id).numel();
            let before = step.by_ref().map(|&(other, _)| other).take_while(|&other| other != id);
            place += before.map(|other| store.group(other).numel()).sum::<i64>();
            assert!(place + len <= self.numel, "stitch {} touches group {id}, the step does not", result.stitch);
            let run = Run { store: place, flat, len };
            (place, flat) = (place + len, flat + len);
            if !runs.last_mut().is_some_and(|last| last.extend(run)) {
                runs.push(run);
            }
        }
        runs
    }

    fn encode(&self, result: &SlotResult, flag: Flag) -> Tensor {
        let bits = [result.score, result.loss, result.grad_norm].map(f64::to_bits);
        match self.spec.kind {
            Reduction::Int64 => {
                let [score, loss, grad_norm] = bits.map(u64::cast_signed);
                Tensor::from_slice(&[score, loss, grad_norm, flag as i64])
            }
            Reduction::F32 => {
                let pieces = bits.into_iter().flat_map(|bits| bits.to_le_bytes().as_chunks::<2>().0.to_vec());
                let pieces = pieces.map(|piece| f32::from(u16::from_le_bytes(piece)));
                Tensor::from_slice(&pieces.chain([f32::from(flag as u8)]).collect::<Vec<_>>())
            }
        }
    }

    fn decode(&self, sum: &Tensor) -> Vec<SlotOutcome> {
        let words = sum.narrow(0, self.numel, i64::from(self.slots) * self.words()).to_kind(Kind::Int64);
        let words = Vec::<i64>::try_from(&words).expect("integers become integers");
        words.chunks(usize::try_from(self.words()).expect("a small number")).map(|words| self.outcome(words)).collect()
    }

    fn outcome(&self, words: &[i64]) -> SlotOutcome {
        let (flag, bits) = words.split_last().expect("a slot has words");
        let bits: Vec<u64> = match self.spec.kind {
            Reduction::Int64 => bits.iter().map(|word| word.cast_unsigned()).collect(),
            Reduction::F32 => bits
                .chunks(4)
                .map(|four| four.iter().rev().fold(0, |all, piece| all << 16 | piece.cast_unsigned()))
                .collect(),
        };
        let [score, loss, grad_norm] = bits[..] else { unreachable!("three doubles and a flag were encoded") };
        let [score, loss, grad_norm] = [score, loss, grad_norm].map(f64::from_bits);
        SlotOutcome { score, loss, grad_norm, valid: *flag == Flag::Good as i64 }
    }

    /// Sum to f32 gradient: the division is the only rounding before the last one to f32.
    fn dequantise(&self, store: &ParamStore, sum: &Tensor) -> Tensor {
        let grads = sum.narrow(0, 0, self.numel);
        let (grads, unit) = match self.spec.kind {
            Reduction::Int64 => (grads.to_kind(Kind::Double), 2f64.powi(self.fraction_bits())),
            Reduction::F32 => (grads.copy(), 1.0),
        };
        let mut start = 0;
        for equal in self.touched.chunk_by(|one, other| self.divisor(one.1) == self.divisor(other.1)) {
            let len = equal.iter().map(|&(id, _)| store.group(id).numel()).sum();
            let mut part = grads.narrow(0, start, len);
            part /= f64::from(self.divisor(equal[0].1)) * unit;
            start += len;
        }
        grads.to_kind(Kind::Float)
    }

    fn divisor(&self, count: u32) -> u32 {
        match self.spec.divisor {
            Divisor::Contributors => count,
            Divisor::Slots => self.slots,
        }
    }
}
