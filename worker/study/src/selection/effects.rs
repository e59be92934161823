//! A stitch's own part of the loss, beyond the trend that all stitches share (LAW: pure).
//!
//! A run's loss falls while it trains, and stitches are drawn at different times: their plain means compare times as
//! much as stitches. These rules part the two. `auto` is the engine's own way, in one pass; here are two others.

use std::collections::BTreeMap;

use esta_engine::table::Row;
use esta_proto::StitchId;

use super::{Values, averages::after};
use crate::history::Visit;

/// Windows of equal length over which the trend may differ.
const WINDOWS: usize = 10;

/// Turns of backfitting: effects of stitches drawn throughout the run settle in a few.
const TURNS: usize = 30;

/// `effect-flat`: `auto`'s recurrence with the same weight for every step, so that what a stitch lost at the start, when
/// nothing was trained, counts as much as what it lost at the end.
pub fn flat(visits: &[Visit]) -> Values {
    let mut rows: BTreeMap<StitchId, Row> = BTreeMap::new();
    let mut trend = None;
    for visit in visits {
        trend = Some(rows.entry(visit.stitch).or_default().explain(trend, visit.loss, 1.0));
    }
    rows.into_iter().filter_map(|(stitch, row)| Some((stitch, -row.effect?))).collect()
}

/// Least squares of loss = trend of its window + effect of its stitch.
#[derive(Debug, Clone, PartialEq)]
pub struct Effects {
    /// By stitch: its effect, lower is better, and the visits it rests on.
    pub stitches: BTreeMap<StitchId, (f64, u64)>,
    /// Variance of what neither explains, of one slot.
    pub noise: f64,
}

impl Effects {
    /// `effect-late`.
    pub fn values(&self) -> Values {
        self.stitches.iter().map(|(stitch, (effect, _))| (*stitch, -effect)).collect()
    }
}

/// Effects over the last half of the steps, by backfitting: trend and effects are fitted in turn to what the other leaves.
/// Where two stitches were never drawn in the same window nothing tells them from the trend but the windows between.
pub fn late(visits: &[Visit]) -> Effects {
    let visits = after(visits, 1, 2);
    let first = visits.first().map_or(0, |visit| visit.step);
    let steps = visits.last().map_or(1, |visit| visit.step + 1 - first);
    let window = |visit: &Visit| ((visit.step - first) * WINDOWS as u64 / steps) as usize;
    let mut effects: BTreeMap<StitchId, f64> = BTreeMap::new();
    let mut trend = [0.0; WINDOWS];
    for _ in 0..TURNS {
        let of_trend = means(visits, window, |visit| visit.loss - effects.get(&visit.stitch).copied().unwrap_or(0.0));
        of_trend.into_iter().for_each(|(window, mean)| trend[window] = mean);
        effects = means(visits, |visit| visit.stitch, |visit| visit.loss - trend[window(visit)]);
    }
    let left = |visit: &Visit| visit.loss - trend[window(visit)] - effects[&visit.stitch];
    let noise = means(visits, |_| (), |visit| left(visit).powi(2)).get(&()).copied().unwrap_or(0.0);
    let count = |stitch: StitchId| visits.iter().filter(|visit| visit.stitch == stitch).count() as u64;
    let stitches = effects.iter().map(|(stitch, effect)| (*stitch, (*effect, count(*stitch)))).collect();
    Effects { stitches, noise }
}

/// Means of a value over the visits of each key.
fn means<K: Ord>(visits: &[Visit], key: impl Fn(&Visit) -> K, value: impl Fn(&Visit) -> f64) -> BTreeMap<K, f64> {
    let mut sums: BTreeMap<K, (f64, f64)> = BTreeMap::new();
    for visit in visits {
        let (sum, count) = sums.entry(key(visit)).or_default();
        *sum += value(visit);
        *count += 1.0;
    }
    sums.into_iter().map(|(key, (sum, count))| (key, sum / count)).collect()
}
