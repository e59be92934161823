//! The palette (LAW): the stitches chosen for deployment, one per budget, from the table alone (METHOD.md section 3).

use esta_proto::{BudgetId, StitchId};
use serde::{Deserialize, Serialize};

use crate::{
    budget::{Price, Unit},
    catalog::{Catalog, Stitch},
    latency::Latency,
    spec::PaletteRule,
    table::{Row, Table},
};

/// One choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The bin it stands for.
    pub budget: BudgetId,
    /// The stitch.
    pub stitch: StitchId,
    /// MACs of one image.
    pub macs: u64,
    /// Parameters of the merged model.
    pub params: u64,
    /// Measured time of a forward pass, where it is known.
    #[serde(rename = "milliseconds", default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// What the rule compared: importance for `snip`, the negated loss average for `loss`, the negated own part of the
    /// loss for `auto`. Higher is better.
    pub value: f64,
}

/// The choice of a rule for every bin in which any stitch has a value, in ascending cost.
#[must_use]
pub fn palette(catalog: &Catalog, table: &Table, rule: PaletteRule) -> Vec<Choice> {
    let best_of = |bin: &Vec<StitchId>| best(catalog, table, (rule, catalog.unit()), bin.iter().copied());
    catalog.bins().iter().filter_map(best_of).collect()
}

/// The best stitch that costs at most `most`, a user's constraint; none by latency where it is not known.
#[must_use]
pub fn at_most(catalog: &Catalog, table: &Table, rule: PaletteRule, most: Price) -> Option<Choice> {
    best(catalog, table, (rule, most.unit()), catalog.at_most(most).map(|stitch| stitch.id))
}

/// The choices that no cheaper choice equals or beats by `quality` (same order as `choices`): the Pareto front. Cheaper
/// is faster where latencies are known, else of fewer MACs.
#[must_use]
pub fn pareto(choices: &[Choice], quality: &[f64]) -> Vec<Choice> {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    let cost = |i: usize| (choices[i].latency, choices[i].macs);
    order.sort_by(|&a, &b| cost(a).cmp(&cost(b)).then(quality[b].total_cmp(&quality[a])));
    let mut highest = f64::NEG_INFINITY;
    let mut front = Vec::new();
    for i in order {
        if quality[i] > highest {
            highest = quality[i];
            front.push(choices[i].clone());
        }
    }
    front
}

/// What a rule says of a stitch; `None` before it has been visited. Higher is better.
#[must_use]
pub fn value(table: &Table, rule: PaletteRule, stitch: StitchId) -> Option<f64> {
    rule.value(&table.row(stitch))
}

impl PaletteRule {
    /// What the rule reads in a stitch's row; higher is better.
    #[must_use]
    pub fn value(self, row: &Row) -> Option<f64> {
        match self {
            Self::Snip => row.importance,
            Self::Loss => row.loss.map(|loss| -loss),
            Self::Auto => row.effect.map(|effect| -effect),
        }
    }
}

/// The stitch with the highest value; of equals the cheaper in the unit, then the one with the lower id.
fn best(
    catalog: &Catalog,
    table: &Table,
    (rule, unit): (PaletteRule, Unit),
    candidates: impl Iterator<Item = StitchId>,
) -> Option<Choice> {
    let choice = |id: StitchId| {
        let stitch = catalog.get(id)?;
        let value = value(table, rule, id)?;
        let Stitch { budget, macs, params, latency, .. } = *stitch;
        Some(Choice { budget, stitch: id, macs, params, latency, value })
    };
    let cost = |choice: &Choice| (choice.latency.filter(|_| unit == Unit::Latency), choice.macs, choice.stitch);
    candidates.filter_map(choice).min_by(|a, b| b.value.total_cmp(&a.value).then_with(|| cost(a).cmp(&cost(b))))
}

/// What every rule chooses.
#[must_use]
pub fn of_every_rule(catalog: &Catalog, table: &Table) -> Vec<(PaletteRule, Vec<Choice>)> {
    PaletteRule::ALL.map(|rule| (rule, palette(catalog, table, rule))).to_vec()
}

#[cfg(test)]
#[path = "palette_test.rs"]
mod tests;
