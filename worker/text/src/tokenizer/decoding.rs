//! Ids to text as they come (HANDS), in pieces of whole characters.

use super::Tokenizer;

/// What a character's missing bytes decode to.
const UNFINISHED: char = '\u{fffd}';

/// Decodes one id after another. The pieces, joined, are the text of all ids.
#[derive(Debug, Clone)]
pub struct Decoding<'t> {
    tokenizer: &'t Tokenizer,
    /// The ids from the piece before the last one given onwards: a decoder treats a text's first token differently.
    ids: Vec<u32>,
    /// How many of them have been given.
    given: usize,
}

impl<'t> Decoding<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), given: 0 }
    }

    /// Takes one id; gives what has become whole by it, often nothing or a word.
    #[must_use]
    pub fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let whole = self.tokenizer.decode(&self.ids);
        if whole.ends_with(UNFINISHED) { String::new() } else { self.give(&whole) }
    }

    /// What remains, whole or not.
    #[must_use]
    pub fn finish(mut self) -> String {
        let whole = self.tokenizer.decode(&self.ids);
        self.give(&whole)
    }

    fn give(&mut self, whole: &str) -> String {
        let before = self.tokenizer.decode(&self.ids[..self.given]);
        let piece = whole.strip_prefix(before.as_str()).unwrap_or_default().to_owned();
        if !piece.is_empty() {
            self.ids.drain(..self.given);
            self.given = self.ids.len();
        }
        piece
    }
}
