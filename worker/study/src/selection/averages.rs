//! Rules that average what a stitch's own slots said (LAW: pure).

use std::collections::BTreeMap;

use esta_engine::{
    catalog::Catalog,
    table::{Outcome, Row, Table},
};
use esta_proto::StitchId;

use super::Values;
use crate::{history::Visit, summary::mean};

/// m of the moving averages: the paper's scores and the product's default.
const MOMENTUM: f64 = 0.9;

/// Fewest visits that a mean or a slope rests on, where a stitch has as many.
const FEWEST: usize = 3;

/// The engine's own table after all visits: the rules `snip`, `loss`, `auto` and `grad-norm` are its rows, so they are
/// what the run would have deployed.
pub fn table(visits: &[Visit], catalog: &Catalog) -> Table {
    let mut table = Table::new(catalog.id_bound(), MOMENTUM);
    for step in visits.chunk_by(|a, b| a.step == b.step) {
        // Steps that the run skipped counted, and nothing else of them.
        while step.first().is_some_and(|visit| table.version().0 < visit.step) {
            table.commit(&[]);
        }
        let slots: Vec<_> = step.iter().map(slot).collect();
        table.commit(&slots);
    }
    table
}

fn slot(visit: &Visit) -> (StitchId, Outcome) {
    (visit.stitch, Outcome { score: visit.score, loss: visit.loss, grad_norm: visit.grad_norm, valid: true })
}

/// A value of every row that has one.
pub fn of_table(table: &Table, value: impl Fn(&Row) -> Option<f64>) -> Values {
    let ids = (0..).map(StitchId);
    ids.zip(table.rows()).filter_map(|(stitch, row)| Some((stitch, value(row)?))).collect()
}

/// `snip-late`, `loss-late`, `loss-last-fifth`: the mean over the steps after `share`/`of` of the run. Averages more
/// slots than the moving average does, and takes the fall of the loss within the window for a property of its stitches.
pub fn since(visits: &[Visit], share: u64, of: u64, value: impl Fn(&Visit) -> f64) -> Values {
    let average = |own: &[&Visit]| mean(own.iter().map(|visit| value(visit)));
    let late = by_stitch(after(visits, share, of));
    late.iter().filter_map(|(stitch, own)| Some((*stitch, average(own)?))).collect()
}

/// `equal-visits`, loss at equal visits: the mean loss of every stitch's last k visits, where k is the fewest visits of
/// any stitch of its bin, at least three. Stitches with fewer visits are averaged over what they have.
pub fn at_equal_visits(visits: &[Visit], catalog: &Catalog) -> Values {
    let own = by_stitch(visits);
    let visits_of = |stitch: &StitchId| own.get(stitch).map_or(&[][..], Vec::as_slice);
    let bin = |stitches: &Vec<StitchId>| {
        let fewest = stitches.iter().map(|stitch| visits_of(stitch).len()).min().unwrap_or(0).max(FEWEST);
        let value = |stitch: &StitchId| {
            let last = visits_of(stitch).iter().rev().take(fewest);
            Some((*stitch, -mean(last.map(|visit| visit.loss))?))
        };
        stitches.iter().filter_map(value).collect::<Vec<_>>()
    };
    catalog.bins().iter().flat_map(bin).collect()
}

/// `improvement`: how much the loss falls from one visit to the next over the last half of a stitch's visits, as the slope
/// of a line through them. What a stitch still learns from being trained, not what it knows.
pub fn improvement(visits: &[Visit]) -> Values {
    let fall = |own: &Vec<&Visit>| {
        let late = &own[own.len() / 2..];
        let losses: Vec<f64> = late.iter().map(|visit| visit.loss).collect();
        (losses.len() >= FEWEST).then(|| -slope(&losses))
    };
    by_stitch(visits).iter().filter_map(|(stitch, own)| Some((*stitch, fall(own)?))).collect()
}

/// The visits of steps after `share`/`of` of the run.
pub fn after(visits: &[Visit], share: u64, of: u64) -> &[Visit] {
    let steps = visits.last().map_or(0, |visit| visit.step + 1);
    &visits[visits.partition_point(|visit| of * visit.step < share * steps)..]
}

/// Visits of each stitch, in order.
pub fn by_stitch(visits: &[Visit]) -> BTreeMap<StitchId, Vec<&Visit>> {
    let mut own: BTreeMap<StitchId, Vec<&Visit>> = BTreeMap::new();
    visits.iter().for_each(|visit| own.entry(visit.stitch).or_default().push(visit));
    own
}

/// Least-squares slope over equally spaced places.
fn slope(values: &[f64]) -> f64 {
    let centre = (values.len() - 1) as f64 / 2.0;
    let places = (0..values.len()).map(|place| place as f64 - centre);
    let (up, across) = places
        .zip(values)
        .fold((0.0, 0.0), |(up, across), (place, value)| (place.mul_add(*value, up), place.mul_add(place, across)));
    up / across
}
