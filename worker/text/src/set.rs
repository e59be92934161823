//! A text set in tokens (HANDS): what training and evaluation take their batches from.

use std::ops::Range;
use std::path::{Path, PathBuf};

use esta_engine::spec::{DatasetSpec, Flawed, Layout, OverLong, TextSpec};

use crate::batch::TokenBatch;
use crate::error::{Flaw, TextError};
use crate::example::{Example, Fitted, fit};
use crate::origin::Origin;
use crate::prompter::{Draft, Prompter, Refusal};
use crate::question::Question;
use crate::records;
use crate::report::{Reason, TextReport};
use crate::select;
use crate::tokenizer::{Special, Tokenizer};
use crate::words::Words;

/// The sequences of a set, never none. Tokens lie end to end.
#[derive(Debug, Clone)]
pub struct TextSet {
    ids: Vec<u32>,
    /// Where each sequence ends in `ids`.
    ends: Vec<usize>,
    learned: Vec<Range<u32>>,
    /// Where each sequence's ranges end in `learned`.
    learned_ends: Vec<usize>,
    /// One per sequence; none at all for a set of documents.
    questions: Vec<Question>,
    /// One per question: how many of its sequence's tokens stand before the last answer.
    prompts: Vec<usize>,
    pad: u32,
    report: TextReport,
}

impl TextSet {
    /// Reads, renders and tokenises a set.
    ///
    /// # Errors
    /// [`TextError`] of a file that cannot be read, of the first example that the specification does not let pass, and
    /// of a set of which nothing remains.
    pub fn open(text: &TextSpec, set: &DatasetSpec, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let path = Path::new(&set.path);
        if !set.layout.is_text() {
            return Err(TextError::Layout { path: path.to_owned(), layout: set.layout });
        }
        if text.max_length < 2 {
            return Err(TextError::MaxLength(text.max_length));
        }
        match set.layout {
            Layout::Text => documents(text, set, tokenizer),
            _ => examples(text, set, tokenizer),
        }
    }

    fn new(tokenizer: &Tokenizer) -> Self {
        Self {
            ids: Vec::new(),
            ends: Vec::new(),
            learned: Vec::new(),
            learned_ends: Vec::new(),
            questions: Vec::new(),
            prompts: Vec::new(),
            pad: tokenizer.pad_id().unwrap_or(0),
            report: TextReport::default(),
        }
    }

    /// Sequences.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a set is never empty")]
    pub fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Tokens of every sequence, in order.
    #[must_use]
    pub fn lengths(&self) -> Vec<u32> {
        (0..self.ends.len()).map(|at| self.range(at).len() as u32).collect()
    }

    /// Learned tokens of every sequence, in order.
    pub fn learned_lengths(&self) -> impl Iterator<Item = u64> {
        (0..self.len()).map(|index| self.row(index).1.iter().map(|range| range.len() as u64).sum())
    }

    /// One sequence.
    ///
    /// # Panics
    /// When the index is not below the set's length.
    #[must_use]
    pub fn example(&self, index: u64) -> Example {
        let (ids, learned) = self.row(index);
        Example { ids: ids.to_vec(), learned: learned.to_vec() }
    }

    /// What one sequence asks, in words; none in a set of documents.
    ///
    /// # Panics
    /// When the index is not below the set's length.
    #[must_use]
    pub fn question(&self, index: u64) -> Option<&Question> {
        (!self.questions.is_empty()).then(|| &self.questions[index as usize])
    }

    /// The questions of all sequences, in order; none in a set of documents.
    #[must_use]
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// The tokens of one sequence before its last answer, exactly as they are trained on, and cut where it was cut; none
    /// in a set of documents.
    ///
    /// # Panics
    /// When the index is not below the set's length.
    #[must_use]
    pub fn prompt_ids(&self, index: u64) -> &[u32] {
        let (ids, _) = self.row(index);
        let prompt = if self.questions.is_empty() { 0 } else { self.prompts[index as usize] };
        &ids[..prompt]
    }

    /// What became of the set's records.
    #[must_use]
    pub fn report(&self) -> &TextReport {
        &self.report
    }

    /// The sequences of these indices, in this order.
    ///
    /// # Panics
    /// When an index is not below the set's length.
    #[must_use]
    pub fn batch(&self, indices: &[u64]) -> TokenBatch {
        let rows: Vec<_> = indices.iter().map(|&index| self.row(index)).collect();
        TokenBatch::pack(&rows, self.pad)
    }

    fn row(&self, index: u64) -> (&[u32], &[Range<u32>]) {
        let at = index as usize;
        let ranges = between(&self.learned_ends, at);
        (&self.ids[self.range(at)], &self.learned[ranges])
    }

    fn range(&self, at: usize) -> Range<usize> {
        between(&self.ends, at)
    }

    fn push(&mut self, example: &Example) {
        let learned: usize = example.learned.iter().map(ExactSizeIterator::len).sum();
        self.report.kept += 1;
        self.report.tokens += example.ids.len() as u64;
        self.report.learned += learned as u64;
        self.ids.extend(&example.ids);
        self.ends.push(self.ids.len());
        self.learned.extend(example.learned.iter().cloned());
        self.learned_ends.push(self.learned.len());
    }

    fn finish(mut self, path: &Path) -> Result<Self, TextError> {
        if self.ends.is_empty() {
            return Err(TextError::Empty { path: path.to_owned(), skipped: self.report.skipped_in_words() });
        }
        self.ids.shrink_to_fit();
        Ok(self)
    }
}

fn between(ends: &[usize], at: usize) -> Range<usize> {
    let start = at.checked_sub(1).map_or(0, |before| ends[before]);
    start..ends[at]
}

/// A set of questions and answers.
fn examples(text: &TextSpec, spec: &DatasetSpec, tokenizer: &Tokenizer) -> Result<TextSet, TextError> {
    let prompter = Prompter::new(tokenizer, text.template)?;
    let mut set = TextSet::new(tokenizer);
    each_sound(text, spec, &mut set, |set, origin, words| {
        let drafts = match prompter.drafts(words) {
            Ok(drafts) => drafts,
            Err(Refusal::Flawed(flaw)) => return flawed(text.flawed, &mut set.report, origin, flaw),
            Err(Refusal::Failed(error)) => return Err(error),
        };
        set.report.divided += u64::from(drafts.len() > 1);
        drafts.into_iter().try_for_each(|draft| keep(text, set, &origin, draft))
    })?;
    set.finish(Path::new(&spec.path))
}

fn keep(text: &TextSpec, set: &mut TextSet, origin: &Origin, draft: Draft) -> Result<(), TextError> {
    let Draft { ids, answers, question } = draft;
    let example = match fit(text, ids, &answers) {
        Fitted::Whole(example) => example,
        Fitted::Cut(example) => {
            set.report.truncated += 1;
            example
        }
        Fitted::TooLong(found) => {
            let error = TextError::OverLong { origin: origin.clone(), found, most: text.max_length };
            if text.over_long == OverLong::Refuse {
                return Err(error);
            }
            set.report.skip(Reason::OverLong, origin.clone(), format!("{found} tokens"));
            return Ok(());
        }
        Fitted::Nothing => {
            let prompt = answers.last().map_or(0, |answer| answer.start);
            set.report.skip(Reason::NothingLearned, origin.clone(), format!("a prompt of {prompt} tokens"));
            return Ok(());
        }
    };
    let prompt = answers.last().map_or(0, |answer| answer.start as usize);
    set.push(&example);
    set.questions.push(question);
    set.prompts.push(prompt.min(example.ids.len()));
    Ok(())
}

/// A set of documents: each ends with the end-of-text token, they follow each other and are cut into sequences of
/// `max_length`; the last may be shorter. Every token but a sequence's first is learned.
fn documents(text: &TextSpec, spec: &DatasetSpec, tokenizer: &Tokenizer) -> Result<TextSet, TextError> {
    let end = tokenizer.end()?;
    let width = text.max_length as usize;
    let mut set = TextSet::new(tokenizer);
    let mut pending = Vec::new();
    each_sound(text, spec, &mut set, |set, _, words| {
        let Words::Document(document) = words else { unreachable!("a record of layout `text` is a document") };
        pending.extend(tokenizer.encode(&document, Special::None)?);
        pending.push(end);
        let whole = pending.len() - pending.len() % width;
        pending[..whole].chunks_exact(width).for_each(|ids| set.push(&learned_throughout(ids)));
        pending.drain(..whole);
        Ok(())
    })?;
    if pending.len() >= 2 {
        set.push(&learned_throughout(&pending));
    }
    set.finish(Path::new(&spec.path))
}

fn learned_throughout(ids: &[u32]) -> Example {
    Example { ids: ids.to_vec(), learned: vec![1..ids.len() as u32] }
}

/// Hands on the words of every record that is sound and, where there is a split, in it. Soundness is judged before the
/// split, so that a split's `count` is met whatever else the files hold.
fn each_sound(
    text: &TextSpec,
    spec: &DatasetSpec,
    set: &mut TextSet,
    mut take: impl FnMut(&mut TextSet, Origin, Words) -> Result<(), TextError>,
) -> Result<(), TextError> {
    let path = PathBuf::from(&spec.path);
    let mut waiting = Vec::new();
    records::each(&path, &mut |origin, record| {
        set.report.read += 1;
        match record.and_then(|record| Words::parse(spec.layout, &record)) {
            Err(flaw) => flawed(text.flawed, &mut set.report, origin, flaw),
            Ok(words) if spec.split.is_none() => take(set, origin, words),
            Ok(words) => {
                waiting.push((origin, words));
                Ok(())
            }
        }
    })?;
    let Some(split) = spec.split else { return Ok(()) };
    for (origin, words) in select::part(&path, split, waiting)? {
        take(set, origin, words)?;
    }
    Ok(())
}

fn flawed(policy: Flawed, report: &mut TextReport, origin: Origin, flaw: Flaw) -> Result<(), TextError> {
    match policy {
        Flawed::Refuse => Err(TextError::Flawed { origin, flaw }),
        Flawed::Skip => {
            report.skip(Reason::of(&flaw), origin, InWords(&flaw));
            Ok(())
        }
    }
}

/// An error with its causes, in one line.
struct InWords<'e>(&'e dyn std::error::Error);

impl std::fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0.source() {
            Some(source) => write!(f, ": {}", InWords(source)),
            None => Ok(()),
        }
    }
}
