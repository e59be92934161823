//! The global importance table (LAW): per stitch, moving averages of what committed steps reported.
//!
//! SC-2: a committed step's scores enter the table exactly once, in slot order; the table equals a serial replay, bit
//! for bit. Only [`Table::commit`] writes, and it takes steps in order.

use esta_proto::{Step, StitchId};
use serde::{Deserialize, Serialize};

/// What one slot of a step reported.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// SNIP saliency of the slot's stitch, from the slot's own gradients (SC-1).
    pub score: f64,
    /// Mean loss over the slot's samples.
    pub loss: f64,
    /// L2 norm of the slot's gradient over everything it touches.
    pub grad_norm: f64,
    /// False when a gradient was not finite or overflowed the fixed-point form.
    pub valid: bool,
}

impl Outcome {
    /// Whether its score says something about its stitch. It is zero to the bit as long as every low-rank B and bias of the path is
    /// zero, and as long as the head is that it ends in: nothing on the path has a weight and a gradient both (METHOD.md section 3).
    #[must_use]
    pub fn is_scored(&self) -> bool {
        self.score != 0.0
    }

    /// Equality of bits: what a re-executed slot must reproduce, NaN included.
    #[must_use]
    pub fn same_bits(&self, other: &Self) -> bool {
        let bits = |o: &Self| [o.score.to_bits(), o.loss.to_bits(), o.grad_norm.to_bits(), u64::from(o.valid)];
        bits(self) == bits(other)
    }
}

/// One stitch's row.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Row {
    /// I <- m I + (1-m) Q over real scores; the first real score sets it.
    pub importance: Option<f64>,
    /// Slots that ran the stitch in committed steps that were not skipped.
    pub visits: u64,
    /// Those of them whose score was real.
    pub real_visits: u64,
    /// Moving average of the loss.
    pub loss: Option<f64>,
    /// Moving average of the gradient norm.
    pub grad_norm: Option<f64>,
    /// The stitch's own part of the loss: what its slots lost beyond the run's common trend at their steps, averaged over
    /// the whole run with weights that grow linearly with the step. Lower is better; it compares stitches that were
    /// drawn at different times and differently often, which a moving average of the loss does not.
    #[serde(default)]
    pub effect: Option<f64>,
    /// Sum of those weights: how much `effect` rests on.
    #[serde(default)]
    pub effect_weight: f64,
}

impl Row {
    /// Parts a loss into the run's trend and the stitch's own effect, each updated in turn; the trend after it.
    pub fn explain(&mut self, trend: Option<f64>, loss: f64, weight: f64) -> f64 {
        let trend = trend.unwrap_or(loss);
        self.effect_weight += weight;
        let before = self.effect.unwrap_or(0.0);
        let effect = before + weight / self.effect_weight * (loss - trend - before);
        self.effect = Some(effect);
        trend + (1.0 - TREND_MOMENTUM) * (loss - effect - trend)
    }
}

/// The table, versioned by the number of committed steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    rows: Vec<Row>,
    momentum: f64,
    committed: Step,
    /// The loss that all stitches share at this time: moving average of losses without the stitches' own effects.
    trend: Option<f64>,
}

/// m of the common trend's moving average, per slot: some fifty slots, in which all sizes of a family appear and the
/// trend itself moves little.
const TREND_MOMENTUM: f64 = 0.98;

impl Table {
    /// An empty table for ids below `id_bound`, with m of the moving averages.
    #[must_use]
    pub fn new(id_bound: usize, momentum: f64) -> Self {
        Self { rows: vec![Row::default(); id_bound], momentum, committed: Step(0), trend: None }
    }

    /// A table as it was: what [`Table::version`], [`Table::rows`] and [`Table::trend`] said of it.
    #[must_use]
    pub fn restore(rows: Vec<Row>, momentum: f64, committed: Step, trend: Option<f64>) -> Self {
        Self { rows, momentum, committed, trend }
    }

    /// The loss that all stitches share at this time.
    #[must_use]
    pub fn trend(&self) -> Option<f64> {
        self.trend
    }

    /// The number of committed steps: V(t) has version t.
    #[must_use]
    pub fn version(&self) -> Step {
        self.committed
    }

    /// The row of a stitch; an empty one for a number beyond the catalog.
    #[must_use]
    pub fn row(&self, stitch: StitchId) -> Row {
        self.rows.get(stitch.index()).copied().unwrap_or_default()
    }

    /// Mean of what is known of these stitches; none where nothing is.
    #[must_use]
    pub fn mean(&self, stitches: &[StitchId], of: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        let known: Vec<f64> = stitches.iter().filter_map(|stitch| of(&self.row(*stitch))).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// All rows by stitch id, holes included.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Enters the outcomes of the next step in slot order. A step with an invalid slot is skipped: the version
    /// advances, nothing else.
    pub fn commit(&mut self, slots: &[(StitchId, Outcome)]) {
        let weight = self.committed.next().0 as f64;
        self.committed = self.committed.next();
        if slots.iter().any(|(_, outcome)| !outcome.valid) {
            return;
        }
        for (stitch, outcome) in slots {
            let momentum = self.momentum;
            let average =
                |old: Option<f64>, new: f64| Some(old.map_or(new, |old| momentum * old + (1.0 - momentum) * new));
            let row = &mut self.rows[stitch.index()];
            row.visits += 1;
            row.loss = average(row.loss, outcome.loss);
            row.grad_norm = average(row.grad_norm, outcome.grad_norm);
            if outcome.is_scored() {
                row.real_visits += 1;
                row.importance = average(row.importance, outcome.score);
            }
            self.trend = Some(row.explain(self.trend, outcome.loss, weight));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(score: f64) -> Outcome {
        Outcome { score, loss: 2.0 * score, grad_norm: 1.0, valid: true }
    }

    #[test]
    fn the_average_meets_its_closed_form() {
        let (m, scores) = (0.9, [3.0, 1.0, 4.0, 1.0, 5.0]);
        let mut table = Table::new(1, m);
        for score in scores {
            table.commit(&[(StitchId(0), outcome(score))]);
        }
        // I_n = m^(n-1) Q_1 + (1-m) sum_{k>=2} m^(n-k) Q_k
        let n = scores.len() as i32;
        let closed = scores.iter().enumerate().map(|(i, q)| {
            let weight = if i == 0 { m.powi(n - 1) } else { (1.0 - m) * m.powi(n - 1 - i as i32) };
            weight * q
        });
        let importance = table.row(StitchId(0)).importance.expect("visited");
        assert!((importance - closed.sum::<f64>()).abs() < 1e-12);
    }

    #[test]
    fn blank_scores_are_discarded_and_the_first_real_one_sets_the_importance() {
        let mut table = Table::new(1, 0.9);
        table.commit(&[(StitchId(0), outcome(0.0))]);
        assert_eq!(table.row(StitchId(0)).importance, None);
        assert_eq!((table.row(StitchId(0)).visits, table.row(StitchId(0)).real_visits), (1, 0));
        table.commit(&[(StitchId(0), outcome(7.0))]);
        assert_eq!(table.row(StitchId(0)).importance, Some(7.0));
    }

    #[test]
    fn sc_2_a_stitch_drawn_twice_in_a_step_enters_twice_in_slot_order() {
        let mut table = Table::new(1, 0.5);
        table.commit(&[(StitchId(0), outcome(1.0)), (StitchId(0), outcome(3.0))]);
        assert_eq!(table.row(StitchId(0)).importance, Some(2.0));
        assert_eq!(table.row(StitchId(0)).visits, 2);
    }

    #[test]
    fn effects_compare_stitches_that_were_drawn_at_different_times() {
        // The common loss falls from 3 to 1; stitch 1 is 0.2 worse than stitch 0 and drawn mostly at the end, where even
        // it loses less than stitch 0 did at the start.
        let mut table = Table::new(2, 0.9);
        for step in 0..2000_u32 {
            let common = 3.0 - 2.0 * f64::from(step) / 2000.0;
            let late = step > 1000;
            let stitch = u32::from(step % if late { 2 } else { 10 } == 1);
            let said = Outcome { loss: common + 0.2 * f64::from(stitch), ..outcome(1.0) };
            table.commit(&[(StitchId(stitch), said)]);
        }
        let effect = |id| table.row(StitchId(id)).effect.expect("visited");
        let gap = effect(1) - effect(0);
        assert!((gap - 0.2).abs() < 0.03, "an effect of 0.2 was found as {gap}");
    }

    #[test]
    fn a_step_with_a_bad_slot_advances_the_version_and_nothing_else() {
        let mut table = Table::new(2, 0.9);
        let bad = Outcome { valid: false, score: f64::NAN, ..outcome(1.0) };
        table.commit(&[(StitchId(0), outcome(1.0)), (StitchId(1), bad)]);
        assert_eq!(table.version(), Step(1));
        assert_eq!(table.rows(), [Row::default(); 2]);
    }
}
