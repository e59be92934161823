//! The table as anybody can work it out who holds the record and a pencil: scores in slot order, one step after another,
//! by the formulas of METHOD.md and not by the law's own code.

use esta_engine::{law::Law, run::StepRecord, table::Row};

/// Part of the common trend that stays at every slot.
const TREND: f64 = 0.98;

/// What committed steps make of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Replayed {
    /// By stitch id.
    pub rows: Vec<Row>,
    /// The loss that all stitches share.
    pub trend: Option<f64>,
}

/// Replays the scores of these steps.
#[must_use]
pub fn replay(law: &Law, records: &[StepRecord]) -> Replayed {
    let mut rows = vec![Row::default(); law.catalog.id_bound()];
    let mut trend = None;
    for (record, weight) in records.iter().zip((1_u64..).map(|step| step as f64)) {
        if !record.outcomes.iter().all(|outcome| outcome.valid) {
            continue;
        }
        for (draw, said) in record.draws.iter().zip(&record.outcomes) {
            let row = &mut rows[draw.stitch.index()];
            let m = law.spec.sampling.momentum;
            row.visits += 1;
            row.loss = Some(row.loss.map_or(said.loss, |old| m * old + (1.0 - m) * said.loss));
            row.grad_norm = Some(row.grad_norm.map_or(said.grad_norm, |old| m * old + (1.0 - m) * said.grad_norm));
            // A score of zero to the bit is taken while nothing on the path could have one: it is discarded.
            if said.score.to_bits() << 1 != 0 {
                row.real_visits += 1;
                row.importance = Some(row.importance.map_or(said.score, |old| m * old + (1.0 - m) * said.score));
            }
            let common = trend.unwrap_or(said.loss);
            let effect = row.effect.unwrap_or(0.0);
            row.effect_weight += weight;
            let effect = effect + weight / row.effect_weight * (said.loss - common - effect);
            row.effect = Some(effect);
            trend = Some(common + (1.0 - TREND) * (said.loss - effect - common));
        }
    }
    Replayed { rows, trend }
}

/// Every field of every row as bits, so that the sign of zero and what is no number count too.
#[must_use]
pub fn bits(rows: &[Row], trend: Option<f64>) -> Vec<u64> {
    let float = |value: Option<f64>| [u64::from(value.is_some()), value.map_or(0, f64::to_bits)];
    let row = |row: &Row| {
        let Row { importance, visits, real_visits, loss, grad_norm, effect, effect_weight } = *row;
        let floats = [importance, loss, grad_norm, effect, Some(effect_weight)].map(float);
        floats.into_iter().flatten().chain([visits, real_visits])
    };
    rows.iter().flat_map(row).chain(float(trend)).collect()
}
