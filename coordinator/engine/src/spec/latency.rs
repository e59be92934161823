//! Budgets by measured latency: where the bins end, and how long every stitch takes.

use std::collections::BTreeMap;

use esta_proto::StitchId;
use serde::{Deserialize, Serialize};

use super::SpecError;
use crate::latency::{Latency, by_stitch};

/// Bins of the catalog by latency. Times are `12ms`, `0.8s`, or numbers of milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LatencyBudgetSpec {
    /// What `esta-worker profile` wrote; relative to the working directory, as every path of a job. Whoever loads the job
    /// puts the file's medians in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// A new bin when the latency exceeds the bin's first by more than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<Latency>,
    /// Upper edges, ascending; a stitch belongs to the first edge at or above its latency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edges: Option<Vec<Latency>>,
    /// Latency of every stitch of the catalog in milliseconds, by its number.
    #[serde(deserialize_with = "by_stitch", skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, Latency>"))]
    pub milliseconds: BTreeMap<StitchId, Latency>,
}

/// Where bins by latency end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatencyBins<'a> {
    /// Opened greedily.
    Gap(Latency),
    /// Given.
    Edges(&'a [Latency]),
}

impl LatencyBudgetSpec {
    /// Where the bins end.
    ///
    /// # Errors
    /// [`SpecError`] unless exactly one of `gap` and ascending `edges` is given.
    pub fn bins(&self) -> Result<LatencyBins<'_>, SpecError> {
        let flaw = |key: &str, flaw: &str| Err(SpecError::new(format!("budgets.latency{key}"), flaw));
        match (self.gap, &self.edges) {
            (Some(gap), None) => Ok(LatencyBins::Gap(gap)),
            (None, Some(edges)) if edges.is_empty() => flaw(".edges", "is empty"),
            (None, Some(edges)) if edges.windows(2).any(|pair| pair[0] >= pair[1]) => flaw(".edges", "does not ascend"),
            (None, Some(edges)) => Ok(LatencyBins::Edges(edges)),
            (Some(_), Some(_)) => flaw("", "give either gap or edges, not both"),
            (None, None) => flaw("", "give gap, such as 2ms, or edges, such as [5ms, 12ms, 30ms]"),
        }
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        match &self.profile {
            Some(profile) => Err(SpecError::new("budgets.latency.profile", format!("{profile:?} was not read"))),
            None => self.bins().map(|_| ()),
        }
    }
}
