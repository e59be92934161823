//! What became of a text set's records (HANDS), as `eval.json` says it.

use std::collections::BTreeMap;

use esta_text::TextReport;
use serde::{Deserialize, Serialize};

/// Records and tokens of a set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextCounts {
    /// Records that the files hold.
    pub read: u64,
    /// Sequences taken.
    pub kept: u64,
    /// Sequences whose end was cut off.
    pub truncated: u64,
    /// Tokens of all sequences.
    pub tokens: u64,
    /// Those that are learned, or judged.
    pub learned: u64,
    /// Records left out, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
}

impl From<&TextReport> for TextCounts {
    fn from(report: &TextReport) -> Self {
        let TextReport { read, kept, truncated, tokens, learned, skipped, .. } = report;
        let left_out = skipped.iter().map(|(reason, skipped)| (reason.to_string(), skipped.count)).collect();
        Self { read: *read, kept: *kept, truncated: *truncated, tokens: *tokens, learned: *learned, left_out }
    }
}
