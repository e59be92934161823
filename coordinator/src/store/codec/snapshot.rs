//! Snapshots as bytes (HANDS): a table of ten thousand stitches is some hundred kilobytes.

use esta_engine::{run::Snapshot, table::Row};
use esta_proto::Step;
use prost::Message;

use super::{SlotRow, draw, draw_row};

#[derive(Clone, PartialEq, Message)]
struct SnapshotRow {
    #[prost(uint64, tag = "1")]
    committed: u64,
    #[prost(message, repeated, tag = "2")]
    stitches: Vec<StitchRow>,
    #[prost(fixed64, optional, tag = "3")]
    trend: Option<u64>,
    #[prost(message, repeated, tag = "5")]
    plans: Vec<PlanRow>,
}

/// A row of the table; floats are kept as their bits.
#[derive(Clone, PartialEq, Message)]
struct StitchRow {
    #[prost(fixed64, optional, tag = "1")]
    importance: Option<u64>,
    #[prost(uint64, tag = "2")]
    visits: u64,
    #[prost(uint64, tag = "3")]
    real_visits: u64,
    #[prost(fixed64, optional, tag = "4")]
    loss: Option<u64>,
    #[prost(fixed64, optional, tag = "5")]
    grad_norm: Option<u64>,
    #[prost(fixed64, optional, tag = "6")]
    effect: Option<u64>,
    #[prost(fixed64, tag = "7")]
    effect_weight: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PlanRow {
    #[prost(uint64, tag = "1")]
    step: u64,
    #[prost(uint64, tag = "2")]
    table_version: u64,
    #[prost(message, repeated, tag = "3")]
    draws: Vec<SlotRow>,
}

/// The bytes of a snapshot.
pub fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
    let bits = |value: Option<f64>| value.map(f64::to_bits);
    let stitch = |row: &Row| StitchRow {
        importance: bits(row.importance),
        visits: row.visits,
        real_visits: row.real_visits,
        loss: bits(row.loss),
        grad_norm: bits(row.grad_norm),
        effect: bits(row.effect),
        effect_weight: row.effect_weight.to_bits(),
    };
    let plans = snapshot.plans.iter().map(|(step, table_version, draws)| PlanRow {
        step: step.0,
        table_version: table_version.0,
        draws: draws.iter().map(draw_row).collect(),
    });
    SnapshotRow {
        committed: snapshot.committed.0,
        stitches: snapshot.rows.iter().map(stitch).collect(),
        trend: bits(snapshot.trend),
        plans: plans.collect(),
    }
    .encode_to_vec()
}

/// The snapshot behind its bytes, or what is wrong with them.
pub fn decode_snapshot(bytes: &[u8]) -> Result<Snapshot, String> {
    let row = SnapshotRow::decode(bytes).map_err(|error| format!("the snapshot: {error}"))?;
    let float = |bits: Option<u64>| bits.map(f64::from_bits);
    let stitch = |row: &StitchRow| Row {
        importance: float(row.importance),
        visits: row.visits,
        real_visits: row.real_visits,
        loss: float(row.loss),
        grad_norm: float(row.grad_norm),
        effect: float(row.effect),
        effect_weight: f64::from_bits(row.effect_weight),
    };
    let plan = |plan: &PlanRow| {
        let draws: Option<Vec<_>> = plan.draws.iter().map(draw).collect();
        let draws =
            draws.ok_or_else(|| format!("the snapshot: step {} has a draw for a reason unknown here", plan.step));
        Ok::<_, String>((Step(plan.step), Step(plan.table_version), draws?))
    };
    Ok(Snapshot {
        committed: Step(row.committed),
        rows: row.stitches.iter().map(stitch).collect(),
        trend: float(row.trend),
        plans: row.plans.iter().map(plan).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use esta_engine::sampler::{Draw, Reason};
    use esta_proto::{BudgetId, StitchId};

    use super::*;

    #[test]
    fn a_snapshot_survives_storage_to_the_bit() {
        let row =
            Row { importance: Some(-0.0), visits: 3, loss: Some(0.1 + 0.2), effect_weight: 1e-300, ..Row::default() };
        let draw = Draw { stitch: StitchId(4), budget: BudgetId(1), probability: 0.1 + 0.2, reason: Reason::Bandit };
        let snapshot = Snapshot {
            committed: Step(9),
            rows: vec![row, Row::default()],
            trend: Some(f64::MIN_POSITIVE),
            plans: vec![(Step(9), Step(8), vec![draw])],
        };
        let back = decode_snapshot(&encode_snapshot(&snapshot)).expect("it was just written");
        assert_eq!(back, snapshot);
        assert!(back.rows[0].importance.is_some_and(f64::is_sign_negative), "the sign of zero is a bit too");
    }

    #[test]
    fn bytes_that_are_no_snapshot_are_refused() {
        assert!(decode_snapshot(b"\xff\xff\xff").expect_err("no message").starts_with("the snapshot: "));
    }
}
