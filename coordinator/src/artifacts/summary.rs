//! `palette.json` and `table.json` (HANDS), and `eval.json` as the worker writes it.

use std::{collections::BTreeMap, fs::File, io, path::Path};

use esta_engine::{
    catalog::{Catalog, Segment, Stitch},
    latency::Latency,
    palette::{self, Choice},
    spec::{JobSpec, PaletteRule},
    table::{Row, Table},
};
use esta_proto::{BudgetId, StitchId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// `palette.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaletteFile {
    /// The rule that the job deploys by.
    pub rule: PaletteRule,
    /// What each rule chose.
    pub palettes: Vec<RulePalette>,
}

/// The palette of one rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RulePalette {
    /// The rule.
    pub rule: PaletteRule,
    /// What the flags `pareto` compare.
    pub pareto_by: ParetoBy,
    /// One entry per budget, in ascending cost.
    pub choices: Vec<PaletteEntry>,
}

/// What decides whether a choice lies on the Pareto front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParetoBy {
    /// Held-out accuracy, from `eval.json`.
    Accuracy,
    /// The rule's own value, where accuracies are not known.
    Value,
}

/// One choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaletteEntry {
    /// The bin it stands for.
    pub budget: BudgetId,
    /// The stitch.
    pub stitch: StitchId,
    /// Its path in words, such as `ti[0-5]>s[6-11]`.
    pub path: String,
    /// Its path in numbers.
    pub segments: Vec<SegmentEntry>,
    /// MACs of one image.
    pub macs: u64,
    /// Parameters of the merged model.
    pub params: u64,
    /// Measured time of a forward pass, where it is known.
    #[serde(rename = "milliseconds", default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// What the rule compared; higher is better.
    pub value: f64,
    /// Whether no cheaper choice is at least as good.
    pub pareto: bool,
    /// Held-out accuracy 0..1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

/// A run of consecutive blocks of one anchor, ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Whose blocks.
    pub anchor: u32,
    /// First block.
    pub first: u32,
    /// Last block.
    pub last: u32,
}

impl From<&Segment> for SegmentEntry {
    fn from(segment: &Segment) -> Self {
        Self { anchor: segment.anchor.0, first: segment.first, last: segment.last }
    }
}

/// `table.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableFile {
    /// Committed steps it holds.
    pub version: u64,
    /// One row per stitch, in ascending id.
    pub rows: Vec<TableEntry>,
}

/// One stitch's row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableEntry {
    /// The stitch.
    pub stitch: StitchId,
    /// Its bin.
    pub budget: BudgetId,
    /// Its averages and counts.
    #[serde(flatten)]
    pub row: Row,
}

/// `eval.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalFile {
    /// Held-out images.
    pub images: u64,
    /// What became of the records of the training texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_texts: Option<TextsEntry>,
    /// What became of those of the held-out texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_texts: Option<TextsEntry>,
    /// One entry per evaluated stitch.
    pub results: Vec<EvalEntry>,
    /// What else was measured of language models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speech: Option<SpeechEntry>,
    /// Folders of standalone models, relative to the run's.
    #[serde(default)]
    pub exports: Vec<ExportEntry>,
    /// What the evaluation took.
    #[serde(default)]
    pub seconds: Option<f64>,
}

/// One evaluated stitch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalEntry {
    /// The stitch.
    pub stitch: StitchId,
    /// Share of the held-out images it classifies rightly.
    pub accuracy: f64,
    /// Mean cross entropy on them.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Images it classifies rightly.
    #[serde(default)]
    pub correct: Option<u64>,
    /// Accuracy on either half of the images, where the worker measured the halves apart.
    #[serde(default)]
    pub halves: Option<[f64; 2]>,
    /// Tokens of held-out texts per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Bytes that the merged model is planned to take with one batch of held-out texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_memory: Option<u64>,
}

/// What became of a text set's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextsEntry {
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

/// What else was measured of language models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeechEntry {
    /// Tokens that losses are means over.
    pub tokens: u64,
    /// Exact match of the most frequent training answer to the same kind of question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority: Option<f64>,
    /// Exact match of the input's line that shares most words with the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<f64>,
    /// The largest anchor ended after each of its blocks.
    #[serde(default)]
    pub exits: Vec<ExitEntry>,
    /// One held-out question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<QuestionEntry>,
    /// What stitches answer to it.
    #[serde(default)]
    pub answers: Vec<AnswerEntry>,
}

/// An anchor ended early.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExitEntry {
    /// Blocks that run.
    pub blocks: u64,
    /// Parameters of what runs.
    pub params: u64,
    /// Mean cross entropy.
    pub loss: f64,
    /// Share of the texts answered exactly.
    pub accuracy: f64,
}

/// A held-out question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionEntry {
    /// What is asked.
    pub instruction: String,
    /// What it is about.
    pub input: String,
    /// The answer of the set.
    pub answer: String,
}

/// A stitch's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerEntry {
    /// The stitch.
    pub stitch: StitchId,
    /// What it said.
    pub text: String,
    /// How fast.
    pub tokens_per_second: f64,
}

/// One exported model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportEntry {
    /// The stitch.
    pub stitch: StitchId,
    /// Its folder.
    pub path: String,
}

/// Reads a JSON file that a run may have; `None` when it has not.
///
/// # Errors
/// When it is there and not what it should be.
pub fn read_optional<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match File::open(path) {
        Ok(file) => Ok(Some(serde_json::from_reader(io::BufReader::new(file))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The final table as its file.
#[must_use]
pub fn table_file(catalog: &Catalog, table: &Table) -> TableFile {
    let entry = |stitch: &Stitch| TableEntry { stitch: stitch.id, budget: stitch.budget, row: table.row(stitch.id) };
    TableFile { version: table.version().0, rows: catalog.stitches().map(entry).collect() }
}

/// One rule's palette as it goes into the file, with the accuracies of `eval.json` if there are any.
#[must_use]
pub fn rule_palette(
    spec: &JobSpec,
    catalog: &Catalog,
    rule: PaletteRule,
    choices: &[Choice],
    eval: Option<&EvalFile>,
) -> RulePalette {
    let accuracy = |stitch: StitchId| {
        eval.and_then(|eval| eval.results.iter().find(|result| result.stitch == stitch)).map(|result| result.accuracy)
    };
    let accuracies: Vec<Option<f64>> = choices.iter().map(|choice| accuracy(choice.stitch)).collect();
    let measured: Option<Vec<f64>> = accuracies.iter().copied().collect();
    let (pareto_by, quality) = match measured {
        Some(measured) if eval.is_some() => (ParetoBy::Accuracy, measured),
        _ => (ParetoBy::Value, choices.iter().map(|choice| choice.value).collect()),
    };
    let front = palette::pareto(choices, &quality);
    let entry = |(choice, accuracy): (&Choice, &Option<f64>)| PaletteEntry {
        budget: choice.budget,
        stitch: choice.stitch,
        path: catalog.get(choice.stitch).map_or_else(String::new, |stitch| stitch.path(&spec.family)),
        segments: catalog.get(choice.stitch).into_iter().flat_map(|stitch| &stitch.segments).map(Into::into).collect(),
        macs: choice.macs,
        params: choice.params,
        latency: choice.latency,
        value: choice.value,
        pareto: front.iter().any(|member| member.stitch == choice.stitch),
        accuracy: *accuracy,
    };
    RulePalette { rule, pareto_by, choices: choices.iter().zip(&accuracies).map(entry).collect() }
}
