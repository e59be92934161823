//! Bins of the catalog by cost, in MACs, in parameters or in measured time (LAW; METHOD.md section 3). A user's constraint means *at
//! most*.

use esta_proto::{BudgetId, StitchId};

use crate::catalog::{Catalog, Stitch};
use crate::latency::Latency;
use crate::spec::{BudgetSpec, LatencyBins, ParamBins, SpecError};

/// What budgets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// MACs of one input.
    #[default]
    Macs,
    /// Parameters of the deployed model.
    Params,
    /// Measured time of a forward pass.
    Latency,
}

/// An amount of what budgets count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Price {
    /// MACs of one input.
    Macs(u64),
    /// Parameters of the deployed model.
    Params(u64),
    /// Measured time of a forward pass.
    Latency(Latency),
}

impl Price {
    /// What it counts.
    #[must_use]
    pub fn unit(self) -> Unit {
        match self {
            Self::Macs(_) => Unit::Macs,
            Self::Params(_) => Unit::Params,
            Self::Latency(_) => Unit::Latency,
        }
    }
}

impl Stitch {
    /// Its price in a unit; `None` for a latency that nobody measured.
    #[must_use]
    pub fn price(&self, unit: Unit) -> Option<Price> {
        match unit {
            Unit::Macs => Some(Price::Macs(self.macs)),
            Unit::Params => Some(Price::Params(self.params)),
            Unit::Latency => self.latency.map(Price::Latency),
        }
    }
}

/// Bins in ascending cost, none empty, each listing its stitches in ascending id. Costs are MACs, or parameters, or
/// nanoseconds, as the budgets are.
///
/// # Errors
/// When a stitch costs more than the last edge: it would belong to no budget and could never be drawn.
pub(crate) fn bins(costs: &[(StitchId, u64)], budgets: &BudgetSpec) -> Result<Vec<Vec<StitchId>>, SpecError> {
    let mut ascending = costs.to_vec();
    ascending.sort_by_key(|&(id, cost)| (cost, id));
    let nanos = |latency: &Latency| as_f64(latency.nanos());
    let mut bins = match budgets {
        BudgetSpec::Gap(gap) => by_gap(&ascending, *gap),
        BudgetSpec::Edges(edges) => by_edges(&ascending, edges, Unit::Macs)?,
        BudgetSpec::Params(ParamBins::Gap(gap)) => by_gap(&ascending, *gap),
        BudgetSpec::Params(ParamBins::Edges(edges)) => by_edges(&ascending, edges, Unit::Params)?,
        BudgetSpec::Latency(latency) => match latency.bins()? {
            LatencyBins::Gap(gap) => by_gap(&ascending, nanos(&gap)),
            LatencyBins::Edges(edges) => {
                by_edges(&ascending, &edges.iter().map(nanos).collect::<Vec<_>>(), Unit::Latency)?
            }
        },
    };
    bins.iter_mut().for_each(|bin| bin.sort_unstable());
    Ok(bins)
}

/// Opens a new bin when the cost exceeds the cost of the bin's first by more than `gap`.
fn by_gap(ascending: &[(StitchId, u64)], gap: f64) -> Vec<Vec<StitchId>> {
    let mut bins: Vec<Vec<StitchId>> = Vec::new();
    let mut opened_at = 0;
    for &(id, cost) in ascending {
        match bins.last_mut() {
            Some(bin) if as_f64(cost - opened_at) <= gap => bin.push(id),
            _ => {
                opened_at = cost;
                bins.push(vec![id]);
            }
        }
    }
    bins
}

/// Puts each stitch under the first edge at or above its cost; edges that hold none give no bin.
fn by_edges(ascending: &[(StitchId, u64)], edges: &[f64], unit: Unit) -> Result<Vec<Vec<StitchId>>, SpecError> {
    let mut bins = vec![Vec::new(); edges.len()];
    for &(id, cost) in ascending {
        let Some(bin) = edges.iter().position(|&edge| as_f64(cost) <= edge) else {
            let highest = ascending.last().map_or(cost, |&(_, cost)| cost);
            return Err(beyond(id, cost, highest, unit));
        };
        bins[bin].push(id);
    }
    bins.retain(|bin| !bin.is_empty());
    Ok(bins)
}

fn beyond(id: StitchId, cost: u64, highest: u64, unit: Unit) -> SpecError {
    let time = Latency::from_nanos;
    let (key, flaw) = match unit {
        Unit::Macs => (
            "budgets.edges",
            format!("stitch {id} costs {cost} MACs, above the last edge; the largest costs {highest}"),
        ),
        Unit::Params => (
            "budgets.params.edges",
            format!("stitch {id} has {cost} parameters, above the last edge; the largest has {highest}"),
        ),
        Unit::Latency => (
            "budgets.latency.edges",
            format!("stitch {id} takes {}, above the last edge; the slowest takes {}", time(cost), time(highest)),
        ),
    };
    SpecError::new(key, flaw)
}

/// Exact: [`Catalog`] refuses anchors whose cost reaches 2^53, and a latency is at most a day.
#[allow(clippy::cast_precision_loss)]
fn as_f64(cost: u64) -> f64 {
    cost as f64
}

impl Catalog {
    /// The stitches that a constraint allows, in ascending id; none by latency where it is not known.
    pub fn at_most(&self, most: Price) -> impl Iterator<Item = &Stitch> {
        self.stitches().filter(move |stitch| stitch.price(most.unit()).is_some_and(|price| price <= most))
    }

    /// Least and greatest MACs of a bin; `None` beyond the last bin.
    #[must_use]
    pub fn bin_range(&self, budget: BudgetId) -> Option<(u64, u64)> {
        let costs = || self.bins().get(budget.index()).into_iter().flatten().filter_map(|&id| self.get(id));
        Some((costs().map(|s| s.macs).min()?, costs().map(|s| s.macs).max()?))
    }

    /// The dearest of a bin in the unit of the budgets; `None` beyond the last bin.
    #[must_use]
    pub fn most_of(&self, budget: BudgetId) -> Option<Price> {
        let stitches = self.bins().get(budget.index()).into_iter().flatten().filter_map(|&id| self.get(id));
        stitches.filter_map(|stitch| stitch.price(self.unit())).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(macs: &[u64]) -> Vec<(StitchId, u64)> {
        (0..).map(StitchId).zip(macs.iter().copied()).collect()
    }

    fn ids(bins: Vec<Vec<StitchId>>) -> Vec<Vec<u32>> {
        bins.into_iter().map(|bin| bin.into_iter().map(|id| id.0).collect()).collect()
    }

    #[test]
    fn a_gap_is_measured_from_the_bins_first_and_opens_only_beyond_it() {
        let bins = bins(&costs(&[30, 10, 20, 21, 25, 31]), &BudgetSpec::Gap(10.0)).expect("any cost fits a gap");
        assert_eq!(ids(bins), [vec![1, 2], vec![0, 3, 4, 5]]);
    }

    #[test]
    fn an_edge_includes_its_own_cost_and_an_empty_bin_vanishes() {
        let edges = BudgetSpec::Edges(vec![10.0, 15.0, 25.0]);
        let bins = bins(&costs(&[20, 10, 25, 3]), &edges).expect("all below 25");
        assert_eq!(ids(bins), [vec![1, 3], vec![0, 2]]);
    }

    #[test]
    fn a_stitch_above_the_last_edge_is_refused_with_what_would_suffice() {
        let flaw = bins(&costs(&[20, 50, 90]), &BudgetSpec::Edges(vec![30.0])).expect_err("50 and 90 are above 30");
        assert_eq!(flaw.key, "budgets.edges");
        assert_eq!(flaw.flaw, "stitch 1 costs 50 MACs, above the last edge; the largest costs 90");
    }
}
