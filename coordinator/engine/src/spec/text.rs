//! The `data.text` section: how text becomes tokens, and which of them are learned.

use serde::{Deserialize, Serialize};

/// How examples of a text set become token sequences. Its presence makes a job one of language models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TextSpec {
    /// A folder that holds `tokenizer.json` and `tokenizer_config.json`; the first anchor's weights when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<String>,
    /// How an example becomes a prompt and its answer.
    pub template: Template,
    /// Tokens of the longest sequence, prompt and answer together. MACs are counted for this many.
    #[serde(alias = "max_seq_length", alias = "cutoff_len")]
    pub max_length: u32,
    /// Which tokens are learned.
    pub loss_on: LossOn,
    /// What becomes of an example that has more tokens than `max_length`.
    pub over_long: OverLong,
    /// What becomes of a line that is no JSON, an example without an answer, or one that the template refuses.
    pub flawed: Flawed,
    /// Steps of examples of about the same length: a function of (seed, epoch, lengths).
    pub group_by_length: bool,
}

impl Default for TextSpec {
    fn default() -> Self {
        Self {
            tokenizer: None,
            template: Template::default(),
            max_length: 512,
            loss_on: LossOn::default(),
            over_long: OverLong::default(),
            flawed: Flawed::default(),
            group_by_length: true,
        }
    }
}

/// How an example becomes a prompt and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// Stanford Alpaca's two prompts, with and without an input.
    #[default]
    Alpaca,
    /// The tokenizer's own chat template; instruction and input are the user's message.
    Chat,
}

/// Which tokens are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// Those of answers, and the end of each.
    #[default]
    Answers,
    /// All but the first.
    All,
}

/// What becomes of an example that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OverLong {
    /// Its end is cut off; it is left out, and counted, where nothing to learn remains.
    #[default]
    Truncate,
    /// It is left out, and counted.
    Skip,
    /// The job does not start.
    Refuse,
}

/// What becomes of an example that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Flawed {
    /// The job does not start; file and line are named.
    #[default]
    Refuse,
    /// It is left out, and counted.
    Skip,
}
