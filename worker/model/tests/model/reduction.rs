//! RD-2 and RD-4: sums of quantised gradients do not know who summed them.

use esta_engine::spec::{Divisor, ReduceSpec, Reduction};
use esta_model::{Reduced, SlotOptions, SlotResult, StepBuffer};
use esta_proto::{GroupId, SlotId, StitchId};
use serde_json::json;
use tch::{Kind, Tensor};

use crate::fixture::{Family, distance};

/// A step of some stitches, and its slots' results.
struct Step {
    family: Family,
    results: Vec<SlotResult>,
    touched: Vec<(GroupId, u32)>,
}

impl Step {
    /// Slots whose stitches overlap in some groups and not in others, one of them twice.
    fn new() -> Self {
        let family = Family::trained(json!({}));
        let stitches = [family.longest(), StitchId(0), StitchId(2), StitchId(1), family.longest(), StitchId(3)];
        let results: Vec<_> = stitches.iter().map(|&stitch| family.run(stitch, &SlotOptions::default())).collect();
        let touched = touched(&family, &stitches);
        Self { family, results, touched }
    }

    fn buffer(&self, spec: &ReduceSpec) -> StepBuffer {
        StepBuffer::new(&self.family.store, &self.touched, self.results.len() as u32, spec)
    }

    /// The step on so many ranks, `ranks[slot]` being each slot's.
    fn reduce(&self, ranks: &[usize], spec: &ReduceSpec) -> Reduced {
        let world = ranks.iter().max().expect("there are slots") + 1;
        let mut buffers: Vec<StepBuffer> = (0..world).map(|_| self.buffer(spec)).collect();
        for (slot, &rank) in ranks.iter().enumerate() {
            buffers[rank].add_slot(&self.family.store, SlotId(slot as u32), &self.results[slot]);
        }
        all_reduce(buffers, &self.family)
    }
}

fn touched(family: &Family, stitches: &[StitchId]) -> Vec<(GroupId, u32)> {
    let count = |id: GroupId| stitches.iter().filter(|s| family.layout.touched(**s).contains(&id)).count() as u32;
    let all = family.layout.groups.iter().map(|group| (group.id, count(group.id)));
    all.filter(|(_, count)| *count > 0).collect()
}

fn all_reduce(mut buffers: Vec<StepBuffer>, family: &Family) -> Reduced {
    let mine = buffers.remove(0);
    let mut sum = mine.tensor();
    for buffer in &buffers {
        sum += buffer.tensor();
    }
    mine.into_reduced(&family.store)
}

#[test]
fn rd_4_any_grouping_of_slots_over_ranks_gives_the_same_bits() {
    let step = Step::new();
    let spec = ReduceSpec::default();
    let alone = step.reduce(&[0; 6], &spec);
    for ranks in [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [1, 0, 1, 0, 1, 0], [2, 2, 2, 0, 0, 1], [7, 7, 3, 3, 0, 0]] {
        let spread = step.reduce(&ranks, &spec);
        assert_eq!(alone.to_bytes(), spread.to_bytes(), "{ranks:?}");
        assert_eq!(alone.outcomes(), spread.outcomes());
        assert_eq!(alone.gradient(), spread.gradient());
    }
}

#[test]
fn the_sum_is_the_mean_over_contributors_to_the_last_fixed_bit() {
    let step = Step::new();
    let reduced = step.reduce(&[0, 1, 0, 1, 0, 1], &ReduceSpec::default());
    for divisor in [Divisor::Contributors, Divisor::Slots] {
        let spec = ReduceSpec { divisor, ..ReduceSpec::default() };
        let reduced = step.reduce(&[0, 1, 0, 1, 0, 1], &spec);
        let mut place = 0;
        for &(id, count) in &step.touched {
            let numel = step.family.store.group(id).numel();
            let sum = sum_of(&step, id, numel);
            let by = if divisor == Divisor::Contributors { count } else { 6 };
            let found = reduced.gradient().narrow(0, place, numel);
            let off = distance(&found, &(sum / f64::from(by)).to_kind(Kind::Float));
            assert!(off <= 2f64.powi(-24), "group {id}: off by {off:e}");
            place += numel;
        }
        assert_eq!(place, reduced.gradient().numel() as i64, "RD-2: nothing else is in the buffer");
    }
    for (outcome, result) in reduced.outcomes().iter().zip(&step.results) {
        assert_eq!((outcome.score, outcome.loss), (result.score, result.loss), "doubles keep every bit");
        assert_eq!(outcome.grad_norm, result.grad_norm);
        assert!(outcome.valid);
    }
}

/// The slots' gradients of one group, added in double precision.
fn sum_of(step: &Step, id: GroupId, numel: i64) -> Tensor {
    let mut sum = Tensor::zeros([numel], (Kind::Double, tch::Device::Cpu));
    for result in &step.results {
        let touched = step.family.layout.touched(result.stitch);
        let Some(index) = touched.iter().position(|other| *other == id) else { continue };
        let offset: i64 = touched[..index].iter().map(|&before| step.family.store.group(before).numel()).sum();
        sum += result.grads.narrow(0, offset, numel).to_kind(Kind::Double);
    }
    sum
}

#[test]
fn floating_point_reduction_keeps_scores_exact_and_halves_the_bytes() {
    let step = Step::new();
    let spec = ReduceSpec { kind: Reduction::F32, ..ReduceSpec::default() };
    let exact = step.reduce(&[0, 1, 2, 0, 1, 2], &ReduceSpec::default());
    let floating = step.reduce(&[0, 1, 2, 0, 1, 2], &spec);
    assert_eq!(exact.outcomes(), floating.outcomes());
    assert!(distance(exact.gradient(), floating.gradient()) < 1e-6);
    assert!(step.buffer(&spec).bytes() * 2 < step.buffer(&ReduceSpec::default()).bytes() + 500);
}

#[test]
fn a_bad_slot_raises_its_flag_and_adds_nothing() {
    let step = Step::new();
    let spoil = |value: f64| {
        let mut results = Step::new().results;
        let _spoilt = results[2].grads.narrow(0, 3, 1).fill_(value);
        results[2].grad_norm = f64::max(results[2].grad_norm, value.abs());
        results[2].finite = value.is_finite();
        results
    };
    // 2^(62-40) over six slots is 699,050: the first value is out of range, the second is not a number.
    for value in [700_000.0, f64::NAN] {
        for kind in [Reduction::Int64, Reduction::F32] {
            let spec = ReduceSpec { kind, ..ReduceSpec::default() };
            let spoilt =
                Step { family: Family::trained(json!({})), results: spoil(value), touched: step.touched.clone() };
            let reduced = spoilt.reduce(&[0, 1, 0, 1, 0, 1], &spec);
            let expected = value.is_finite() && kind == Reduction::F32;
            let valid: Vec<bool> = reduced.outcomes().iter().map(|outcome| outcome.valid).collect();
            assert_eq!(valid, [true, true, expected, true, true, true], "{value} in {kind:?}");
            assert_eq!(reduced.is_valid(), expected);
            assert!(reduced.gradient().isfinite().all().int64_value(&[]) == 1);
        }
    }
    assert!(step.reduce(&[0; 6], &ReduceSpec::default()).is_valid());
}

#[test]
fn st_1_a_slot_that_nobody_or_two_ranks_ran_is_not_valid() {
    let step = Step::new();
    let spec = ReduceSpec::default();
    let mut buffers = vec![step.buffer(&spec), step.buffer(&spec)];
    for slot in [0, 1, 2, 4, 5] {
        buffers[0].add_slot(&step.family.store, SlotId(slot), &step.results[slot as usize]);
    }
    buffers[1].add_slot(&step.family.store, SlotId(0), &step.results[0]);
    let reduced = all_reduce(buffers, &step.family);
    let valid: Vec<bool> = reduced.outcomes().iter().map(|outcome| outcome.valid).collect();
    assert_eq!(valid, [false, true, true, false, true, true]);
}
