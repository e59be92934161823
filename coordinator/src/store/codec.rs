//! Step records as bytes (HANDS): protobuf, so that fields can be added, with every bit of every float.

use esta_engine::{
    run::StepRecord,
    sampler::{Draw, Reason},
    table::Outcome,
};
use esta_proto::{BudgetId, Digest, Step, StitchId};
use prost::Message;

mod snapshot;

pub(super) use snapshot::{decode_snapshot, encode_snapshot};

#[derive(Clone, PartialEq, Message)]
struct StepRow {
    #[prost(uint64, tag = "1")]
    table_version: u64,
    #[prost(message, repeated, tag = "2")]
    slots: Vec<SlotRow>,
    #[prost(bytes = "vec", tag = "3")]
    reduced: Vec<u8>,
}

/// Floats are kept as their bits: protobuf's own doubles lose the sign of zero.
#[derive(Clone, Copy, PartialEq, Message)]
struct SlotRow {
    #[prost(uint32, tag = "1")]
    stitch: u32,
    #[prost(uint32, tag = "2")]
    budget: u32,
    #[prost(fixed64, tag = "3")]
    probability: u64,
    #[prost(enumeration = "ReasonRow", tag = "4")]
    reason: i32,
    #[prost(fixed64, tag = "5")]
    score: u64,
    #[prost(fixed64, tag = "6")]
    loss: u64,
    #[prost(fixed64, tag = "7")]
    grad_norm: u64,
    #[prost(bool, tag = "8")]
    valid: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum ReasonRow {
    Unknown = 0,
    Importance = 1,
    Warm = 2,
    Uniform = 3,
    AnchorFloor = 4,
    Bandit = 5,
}

/// The bytes of a committed step; its number is the key it is stored under.
pub(super) fn encode(record: &StepRecord) -> Vec<u8> {
    let slots = record.draws.iter().zip(&record.outcomes).map(|(draw, outcome)| slot_row(draw, outcome)).collect();
    StepRow { table_version: record.table_version.0, slots, reduced: record.reduced.0.to_vec() }.encode_to_vec()
}

/// The committed step behind a key and its bytes, or what is wrong with them.
pub(super) fn decode(step: Step, bytes: &[u8]) -> Result<StepRecord, String> {
    let row = StepRow::decode(bytes).map_err(|error| format!("step {step}: {error}"))?;
    let reduced = Digest::from_bytes(&row.reduced).ok_or_else(|| format!("step {step}: its digest is cut short"))?;
    let draws = row.slots.iter().map(draw).collect::<Option<_>>();
    Ok(StepRecord {
        step,
        table_version: Step(row.table_version),
        draws: draws.ok_or_else(|| format!("step {step}: a draw has a reason unknown here"))?,
        outcomes: row.slots.iter().map(outcome).collect(),
        reduced,
    })
}

/// A draw alone, as snapshots keep those of plans: what is not said takes no byte.
fn draw_row(draw: &Draw) -> SlotRow {
    let reason = match draw.reason {
        Reason::Importance => ReasonRow::Importance,
        Reason::Warm => ReasonRow::Warm,
        Reason::Uniform => ReasonRow::Uniform,
        Reason::AnchorFloor => ReasonRow::AnchorFloor,
        Reason::Bandit => ReasonRow::Bandit,
    };
    SlotRow {
        stitch: draw.stitch.0,
        budget: draw.budget.0,
        probability: draw.probability.to_bits(),
        reason: reason.into(),
        ..SlotRow::default()
    }
}

fn slot_row(draw: &Draw, outcome: &Outcome) -> SlotRow {
    SlotRow {
        score: outcome.score.to_bits(),
        loss: outcome.loss.to_bits(),
        grad_norm: outcome.grad_norm.to_bits(),
        valid: outcome.valid,
        ..draw_row(draw)
    }
}

fn draw(row: &SlotRow) -> Option<Draw> {
    let reason = match row.reason() {
        ReasonRow::Unknown => return None,
        ReasonRow::Importance => Reason::Importance,
        ReasonRow::Warm => Reason::Warm,
        ReasonRow::Uniform => Reason::Uniform,
        ReasonRow::AnchorFloor => Reason::AnchorFloor,
        ReasonRow::Bandit => Reason::Bandit,
    };
    let (stitch, budget) = (StitchId(row.stitch), BudgetId(row.budget));
    Some(Draw { stitch, budget, probability: f64::from_bits(row.probability), reason })
}

fn outcome(row: &SlotRow) -> Outcome {
    Outcome {
        score: f64::from_bits(row.score),
        loss: f64::from_bits(row.loss),
        grad_norm: f64::from_bits(row.grad_norm),
        valid: row.valid,
    }
}

#[cfg(test)]
mod tests {
    use esta_engine::{run::Snapshot, table::Row};
    use esta_sim::mutate::{Mutator, over_seeds};

    use super::*;

    fn record() -> StepRecord {
        let draw = Draw { stitch: StitchId(4), budget: BudgetId(1), probability: 0.1 + 0.2, reason: Reason::Warm };
        let bad = Outcome { score: f64::NAN, loss: f64::INFINITY, grad_norm: -0.0, valid: false };
        let (draws, outcomes) = (vec![draw], vec![bad]);
        StepRecord { step: Step(9), table_version: Step(8), draws, outcomes, reduced: Digest([3; 32]) }
    }

    #[test]
    fn a_step_survives_storage_to_the_bit() {
        let back = decode(Step(9), &encode(&record())).expect("it was just written");
        assert_eq!(back.draws, record().draws);
        assert!(back.outcomes[0].same_bits(&record().outcomes[0]));
        assert_eq!((back.table_version, back.reduced), (Step(8), Digest([3; 32])));
    }

    #[test]
    fn spoilt_bytes_are_refused_or_read_and_never_more_than_they_are() {
        let snapshot = Snapshot { committed: Step(9), rows: vec![Row::default(); 3], trend: None, plans: Vec::new() };
        let wholes = [encode(&record()), encode_snapshot(&snapshot)];
        over_seeds(2000, |seed| {
            let mut mutator = Mutator::new(seed);
            let whole = mutator.one_of(&wholes).clone();
            let spoilt = mutator.bytes(&whole);
            if let Ok(record) = decode(Step(9), &spoilt) {
                assert_eq!(record.draws.len(), record.outcomes.len());
            }
            decode_snapshot(&spoilt).ok();
        });
    }

    #[test]
    fn a_reason_from_the_future_is_not_guessed() {
        let mut row = StepRow::decode(encode(&record()).as_slice()).expect("just written");
        row.slots[0].reason = 99;
        let flaw = decode(Step(9), &row.encode_to_vec()).expect_err("nobody knows 99");
        assert_eq!(flaw, "step 9: a draw has a reason unknown here");
    }
}
