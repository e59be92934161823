//! The section on how the anchors lie in memory.

use serde::{Deserialize, Serialize};

/// How the anchors lie in memory.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ModelSpec {
    /// Where the frozen weights of the anchors' blocks are.
    pub shard: Shard,
}

/// Where the frozen weights of the anchors' blocks are. It reaches no number of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Shard {
    /// All of them on every rank.
    #[default]
    None,
    /// Spread over the ranks of a node: each keeps some blocks and broadcasts them ahead of use, and what a pass keeps for its
    /// way back is only what enters each block. For language models that one GPU cannot hold.
    Node,
}

impl ModelSpec {
    /// Whether every value is the default's: such a section is not written out.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
