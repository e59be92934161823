//! Bins of the catalog by cost (LAW; METHOD.md section 3). A user's constraint means *at most*.

use esta_proto::{BudgetId, StitchId};

use crate::catalog::{Catalog, Stitch};
use crate::spec::{BudgetSpec, SpecError};

/// Bins in ascending cost, none empty, each listing its stitches in ascending id.
///
/// # Errors
/// When a stitch costs more than the last edge: it would belong to no budget and could never be drawn.
pub(crate) fn bins(costs: &[(StitchId, u64)], budgets: &BudgetSpec) -> Result<Vec<Vec<StitchId>>, SpecError> {
    let mut ascending = costs.to_vec();
    ascending.sort_by_key(|&(id, macs)| (macs, id));
    let mut bins = match budgets {
        BudgetSpec::Gap(gap) => by_gap(&ascending, *gap),
        BudgetSpec::Edges(edges) => by_edges(&ascending, edges)?,
    };
    bins.iter_mut().for_each(|bin| bin.sort_unstable());
    Ok(bins)
}

/// Opens a new bin when the cost exceeds the cost of the bin's first by more than `gap`.
fn by_gap(ascending: &[(StitchId, u64)], gap: f64) -> Vec<Vec<StitchId>> {
    let mut bins: Vec<Vec<StitchId>> = Vec::new();
    let mut opened_at = 0;
    for &(id, macs) in ascending {
        match bins.last_mut() {
            Some(bin) if as_f64(macs - opened_at) <= gap => bin.push(id),
            _ => {
                opened_at = macs;
                bins.push(vec![id]);
            }
        }
    }
    bins
}

/// Puts each stitch under the first edge at or above its cost; edges that hold none give no bin.
fn by_edges(ascending: &[(StitchId, u64)], edges: &[f64]) -> Result<Vec<Vec<StitchId>>, SpecError> {
    let mut bins = vec![Vec::new(); edges.len()];
    for &(id, macs) in ascending {
        let Some(bin) = edges.iter().position(|&edge| as_f64(macs) <= edge) else {
            let highest = ascending.last().map_or(macs, |&(_, macs)| macs);
            let flaw = format!("stitch {id} costs {macs} MACs, above the last edge; the largest costs {highest}");
            return Err(SpecError::new("budgets.edges", flaw));
        };
        bins[bin].push(id);
    }
    bins.retain(|bin| !bin.is_empty());
    Ok(bins)
}

/// Exact: [`Catalog`] refuses anchors whose cost reaches 2^53.
#[allow(clippy::cast_precision_loss)]
fn as_f64(macs: u64) -> f64 {
    macs as f64
}

impl Catalog {
    /// The stitches that a constraint of `macs` MACs allows, in ascending id.
    pub fn at_most(&self, macs: u64) -> impl Iterator<Item = &Stitch> {
        self.stitches().filter(move |stitch| stitch.macs <= macs)
    }

    /// Least and greatest MACs of a bin; `None` beyond the last bin.
    #[must_use]
    pub fn bin_range(&self, budget: BudgetId) -> Option<(u64, u64)> {
        let costs = || self.bins().get(budget.index()).into_iter().flatten().filter_map(|&id| self.get(id));
        Some((costs().map(|s| s.macs).min()?, costs().map(|s| s.macs).max()?))
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
