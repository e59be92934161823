//! A stitch as a model of its own (TENSOR): LoRA pairs and biases folded into plain weights under timm's or Hugging
//! Face's names. A lone anchor is an ordinary state; a stitched path is the same with its stitching layers.

use esta_engine::arch::Arch;
use esta_engine::catalog::Catalog;
use esta_engine::spec::Precision;
use esta_proto::{AnchorId, StitchId};

use crate::network::{Front, Network};
use crate::stitched::{StitchError, StitchedNet};
use crate::weights::Weights;

/// A merged stitch: what deploys.
#[derive(Debug)]
pub struct MergedState {
    /// Timm's or Hugging Face's names. Embedding tensors are the first segment's anchor's, `norm` and `head` the last one's; `blocks.{i}`
    /// are numbered in order of execution over all segments; `stitch_layers.{j}.weight` `[E, F]` and `.bias` `[E]` lead from
    /// segment j to segment j + 1.
    pub weights: Weights,
    /// The path, in order of execution.
    pub segments: Vec<MergedSegment>,
}

/// Consecutive blocks of one anchor.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedSegment {
    /// Whose blocks.
    pub anchor: AnchorId,
    /// Its shape; `depth` is the whole anchor's.
    pub arch: Arch,
    /// First block, inclusive, in the anchor's numbering.
    pub first: u32,
    /// Last block, inclusive.
    pub last: u32,
}

impl StitchedNet {
    /// The stitch as a network without adaptation.
    ///
    /// # Errors
    /// [`StitchError::Unknown`], or [`StitchError::Precision`] for a network of rounded weights.
    pub fn merged(&self, stitch: StitchId) -> Result<Network, StitchError> {
        Ok(self.mergeable(stitch)?.merged())
    }

    fn mergeable(&self, stitch: StitchId) -> Result<&Network, StitchError> {
        let network = self.network(stitch)?;
        match (self.precision(), &network.front) {
            // A vision transformer's weights were rounded for speed alone; a language model's come that way.
            (Precision::Bf16, Front::Patches(_)) => Err(StitchError::Precision),
            (Precision::F32, _) | (Precision::Bf16, Front::Tokens(_)) => Ok(network),
        }
    }

    /// The stitch's merged state.
    ///
    /// # Errors
    /// As [`Self::merged`].
    pub fn merged_state(&self, catalog: &Catalog, stitch: StitchId) -> Result<MergedState, StitchError> {
        let path = catalog.get(stitch).ok_or(StitchError::Unknown(stitch))?;
        let segments = path.segments.iter().map(|segment| MergedSegment {
            anchor: segment.anchor,
            arch: catalog.anchors[segment.anchor.index()].clone(),
            first: segment.first,
            last: segment.last,
        });
        let weights = self.mergeable(stitch)?.merged_weights(format!("stitch {stitch}"));
        Ok(MergedState { weights, segments: segments.collect() })
    }
}
