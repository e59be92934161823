//! All stitches of a run, numbered once, in a fixed order, each with exact MACs and parameters (LAW).
//!
//! Numbers: the anchors in family order, then the space's paths in the order in which its rule enumerates them.

mod build;

use std::{collections::BTreeMap, fmt};

use esta_proto::{AnchorId, BudgetId, LayerId, StitchId};
use serde::Serialize;

use crate::{arch::Arch, budget::Unit, cost::Task, latency::Latency, spec::FamilySpec};

/// A run of consecutive blocks of one anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Segment {
    /// Whose blocks.
    pub anchor: AnchorId,
    /// First block, inclusive.
    pub first: u32,
    /// Last block, inclusive.
    pub last: u32,
}

/// A path through the family: segments joined by stitching layers. An anchor alone is a stitch of one segment.
///
/// Serialises as an item of `catalog --format json`: `id`, `segments`, `macs`, `params`, `milliseconds` where they are
/// known, `bin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stitch {
    /// Number in the catalog.
    pub id: StitchId,
    /// Blocks in order of execution; the first starts at block 0, the last ends at its anchor's last block.
    pub segments: Vec<Segment>,
    /// The stitching layer between each segment and the next: one fewer than segments.
    #[serde(skip)]
    pub layers: Vec<LayerId>,
    /// MACs of one image, or of one text of the longest length (METHOD.md section 1: LayerNorm 5 per element, softmax,
    /// GELU and additions 0).
    pub macs: u64,
    /// Parameters of the merged model that would be deployed.
    pub params: u64,
    /// Measured time of a forward pass, where the job or a profile tells it.
    #[serde(rename = "milliseconds", skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// The bin it belongs to.
    #[serde(rename = "bin")]
    pub budget: BudgetId,
}

/// A stitching layer: a linear map from one anchor's width to another's, with bias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Number in the run.
    pub id: LayerId,
    /// Whose activations enter.
    pub from: AnchorId,
    /// Whose blocks follow.
    pub to: AnchorId,
    /// The (front block, end block) pairs that share it: activations *after* the front block map to those *before*
    /// the end block. In the order in which the space enumerates them.
    pub positions: Vec<(u32, u32)>,
}

/// The catalog of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// The anchors in family order.
    pub anchors: Vec<Arch>,
    /// What the networks are to do.
    pub task: Task,
    /// By stitch id; `None` where the space leaves a hole.
    pub(crate) stitches: Vec<Option<Stitch>>,
    /// By layer id.
    pub layers: Vec<Layer>,
    /// Stitches of each bin in ascending id.
    pub(crate) bins: Vec<Vec<StitchId>>,
    /// What the budgets count.
    pub(crate) unit: Unit,
}

impl Stitch {
    /// The anchor whose head answers.
    ///
    /// # Panics
    /// Never for a stitch of a catalog: it has at least one segment.
    #[must_use]
    pub fn end_anchor(&self) -> AnchorId {
        self.segments.last().expect("a stitch has a segment").anchor
    }

    /// Whether it is an anchor alone.
    #[must_use]
    pub fn is_anchor(&self) -> bool {
        self.layers.is_empty()
    }

    /// Its blocks in words, by the names of the family's anchors: `ti[0-5]>s[6-11]`; an anchor alone is its name.
    #[must_use]
    pub fn path(&self, family: &FamilySpec) -> String {
        let name = |anchor: AnchorId| family.anchors.get(anchor.index()).map_or("?", |anchor| anchor.name.as_str());
        let blocks = |segment: &Segment| match (name(segment.anchor), segment.first, segment.last) {
            (name, first, last) if first == last => format!("{name}[{first}]"),
            (name, first, last) => format!("{name}[{first}-{last}]"),
        };
        match self.segments.as_slice() {
            [alone] => name(alone.anchor).to_owned(),
            segments => segments.iter().map(blocks).collect::<Vec<_>>().join(">"),
        }
    }
}

impl Catalog {
    /// The stitch of this number; `None` for a hole or a number beyond the catalog.
    #[must_use]
    pub fn get(&self, id: StitchId) -> Option<&Stitch> {
        self.stitches.get(id.index())?.as_ref()
    }

    /// All stitches in ascending id.
    pub fn stitches(&self) -> impl Iterator<Item = &Stitch> {
        self.stitches.iter().flatten()
    }

    /// Numbers given out, holes included: ids are below this.
    #[must_use]
    pub fn id_bound(&self) -> usize {
        self.stitches.len()
    }

    /// The bins in ascending cost; each lists its stitches in ascending id and none is empty.
    #[must_use]
    pub fn bins(&self) -> &[Vec<StitchId>] {
        &self.bins
    }

    /// What the budgets count: bins ascend in it.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Whether the latency of every stitch is known.
    #[must_use]
    pub fn knows_latencies(&self) -> bool {
        self.stitches().all(|stitch| stitch.latency.is_some())
    }

    /// The same catalog, bins included, with other latencies.
    #[must_use]
    pub fn with_latencies(&self, latencies: &BTreeMap<StitchId, Latency>) -> Self {
        let mut catalog = self.clone();
        for stitch in catalog.stitches.iter_mut().flatten() {
            stitch.latency = latencies.get(&stitch.id).copied();
        }
        catalog
    }

    /// What is allowed but probably not meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<CatalogWarning> {
        let stitched = !self.layers.is_empty();
        let bins = self.bins.len();
        if stitched && bins < 3 { vec![CatalogWarning::FewBins { bins, unit: self.unit }] } else { Vec::new() }
    }
}

/// Something about a catalog that is allowed but probably not meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogWarning {
    /// Fewer than three budgets: the palette hardly offers a choice.
    FewBins {
        /// Bins there are.
        bins: usize,
        /// What the budgets count.
        unit: Unit,
    },
}

impl fmt::Display for CatalogWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewBins { bins, unit } => {
                let key = match unit {
                    Unit::Macs => "budgets.gap",
                    Unit::Params => "budgets.params.gap",
                    Unit::Latency => "budgets.latency.gap",
                };
                write!(
                    f,
                    "budgets make only {bins} bin(s) of this catalog; a smaller {key}, or more edges, offer more choice"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_anchors_and_blocks() {
        let anchor = |name: &str| serde_json::json!({"name": name, "weights": "-"});
        let family = serde_json::json!({"anchors": [anchor("ti"), anchor("s")]});
        let family: FamilySpec = serde_json::from_value(family).expect("a family");
        let path = |segments: &[(u32, u32, u32)]| {
            let segment = |&(anchor, first, last): &(u32, u32, u32)| Segment { anchor: AnchorId(anchor), first, last };
            let segments = segments.iter().map(segment).collect();
            let (id, budget) = (StitchId(7), BudgetId(0));
            Stitch { id, segments, layers: Vec::new(), macs: 1, params: 1, latency: None, budget }.path(&family)
        };
        assert_eq!(path(&[(1, 0, 11)]), "s");
        assert_eq!(path(&[(0, 0, 5), (1, 6, 11)]), "ti[0-5]>s[6-11]");
        assert_eq!(path(&[(0, 0, 0), (1, 1, 9), (0, 10, 10)]), "ti[0]>s[1-9]>ti[10]");
    }
}
