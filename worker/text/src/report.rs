//! What became of a set's records (HANDS).

use std::collections::BTreeMap;
use std::fmt;

use crate::error::Flaw;
use crate::origin::Origin;

/// Why an example was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Its line is no JSON, or its fields are not the layout's.
    Malformed,
    /// It has no answer, or an empty one; a document without text.
    Empty,
    /// The chat template refuses it, or does not continue its own prompt.
    Template,
    /// It has more than `max_length` tokens.
    OverLong,
    /// Its prompt alone fills `max_length`: nothing to learn remains.
    NothingLearned,
}

impl Reason {
    pub(crate) fn of(flaw: &Flaw) -> Self {
        match flaw {
            Flaw::Malformed { .. } | Flaw::NotAnObject { .. } | Flaw::Field { .. } => Self::Malformed,
            Flaw::NoAnswer(_) | Flaw::EmptyDocument => Self::Empty,
            Flaw::Template(_) | Flaw::Unsteady { .. } => Self::Template,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::Empty => "empty",
            Self::Template => "refused by the chat template",
            Self::OverLong => "over-long",
            Self::NothingLearned => "without a learned token in max_length",
        })
    }
}

/// Examples left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// How many.
    pub count: u64,
    /// Where the first stands.
    pub first: Origin,
    /// What was wrong with the first.
    pub what: String,
}

/// What became of a set's records; its `Display` is one line, and a second one where examples were left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextReport {
    /// Records that the files hold.
    pub read: u64,
    /// Sequences kept.
    pub kept: u64,
    /// Records left out, by reason.
    pub skipped: BTreeMap<Reason, Skipped>,
    /// Sequences whose end was cut off.
    pub truncated: u64,
    /// Conversations that became one sequence per answer because their template rewrites earlier turns.
    pub divided: u64,
    /// Tokens of all sequences.
    pub tokens: u64,
    /// Learned tokens of all sequences.
    pub learned: u64,
}

impl TextReport {
    pub(crate) fn skip(&mut self, reason: Reason, origin: Origin, what: impl fmt::Display) {
        let entry =
            self.skipped.entry(reason).or_insert_with(|| Skipped { count: 0, first: origin, what: what.to_string() });
        entry.count += 1;
    }

    /// The skipped examples in words; empty when there are none.
    #[must_use]
    pub fn skipped_in_words(&self) -> String {
        let one = |(reason, skipped): (&Reason, &Skipped)| {
            format!("{} {reason} (first: {}: {})", skipped.count, skipped.first, skipped.what)
        };
        self.skipped.iter().map(one).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for TextReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { read, kept, truncated, divided, tokens, learned, .. } = self;
        write!(f, "{kept} sequences of {read} records, {tokens} tokens, {learned} learned")?;
        if *truncated > 0 {
            write!(f, ", {truncated} truncated")?;
        }
        if *divided > 0 {
            write!(f, ", {divided} conversations divided by answer")?;
        }
        if !self.skipped.is_empty() {
            write!(f, "\nleft out: {}", self.skipped_in_words())?;
        }
        Ok(())
    }
}
