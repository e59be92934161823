//! What can be wrong with texts, tokenizers and templates (HANDS): every error names the file, the place in it and the
//! values found.

use std::path::PathBuf;

use thiserror::Error;

use crate::origin::Origin;

/// Why a tokenizer, a template or a text set cannot be had.
#[derive(Debug, Error)]
pub enum TextError {
    /// A file or folder is missing or unreadable.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder that cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file of settings that is no JSON.
    #[error("{}: not readable as JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the reader said, with line and column.
        #[source]
        source: serde_json::Error,
    },
    /// A JSON list of examples that is not well formed: nothing of it can be trusted, so nothing of it is skipped.
    #[error("{}, line {line}: not a JSON list of examples", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// The line at fault.
        line: u64,
        /// What the reader said.
        #[source]
        flaw: Flaw,
    },
    /// A `tokenizer.json` that the tokenizers crate does not take.
    #[error("{}: not usable as a tokenizer", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the crate said.
        #[source]
        source: tokenizers::Error,
    },
    /// A text that the tokenizer does not take.
    #[error("cannot tokenize {excerpt:?}")]
    Encode {
        /// The text's beginning.
        excerpt: String,
        /// What the tokenizer said.
        #[source]
        source: tokenizers::Error,
    },
    /// A tokenizer without anything that ends an answer.
    #[error(
        "{}: no end-of-text token: name `eos_token` in tokenizer_config.json or `eos_token_id` in generation_config.json or config.json",
        path.display()
    )]
    NoEnd {
        /// The tokenizer's folder or file.
        path: PathBuf,
    },
    /// A chat template was asked for and the tokenizer has none.
    #[error("{}: no chat template, neither chat_template.jinja nor `chat_template` in tokenizer_config.json", path.display())]
    NoChatTemplate {
        /// The tokenizer's folder or file.
        path: PathBuf,
    },
    /// A chat template that does not parse, or that refuses a conversation outside a data set.
    #[error("{}: the chat template fails", path.display())]
    ChatTemplate {
        /// Where the template lies.
        path: PathBuf,
        /// Its line and the reason.
        #[source]
        source: TemplateError,
    },
    /// Messages were given to a template that knows instructions only.
    #[error("template `alpaca` has no form for conversations: set `template: chat`")]
    Conversation,
    /// A layout that holds images.
    #[error("{}: layout {layout:?} holds no texts", path.display())]
    Layout {
        /// The set.
        path: PathBuf,
        /// The layout.
        layout: esta_engine::spec::Layout,
    },
    /// A folder without files of examples.
    #[error("{}: no .json or .jsonl file, plain or .gz", path.display())]
    NoFiles {
        /// The folder.
        path: PathBuf,
    },
    /// An example that cannot be used, in a set whose `flawed` is `refuse`.
    #[error("{origin}: not usable as an example")]
    Flawed {
        /// Where it stands.
        origin: Origin,
        /// What is wrong with it.
        #[source]
        flaw: Flaw,
    },
    /// An example longer than `max_length`, in a set whose `over_long` is `refuse`.
    #[error("{origin}: {found} tokens, more than max_length = {most}")]
    OverLong {
        /// Where it stands.
        origin: Origin,
        /// Tokens it has.
        found: usize,
        /// Tokens allowed.
        most: u32,
    },
    /// A limit that leaves nothing to predict.
    #[error("max_length = {0}: a sequence needs 2 tokens at least")]
    MaxLength(u32),
    /// A split that asks for more examples than there are.
    #[error("{}: split skips {skip} and takes {count} of {found} examples", path.display())]
    Split {
        /// The set.
        path: PathBuf,
        /// Examples skipped.
        skip: u64,
        /// Examples to take.
        count: u64,
        /// Examples there are.
        found: u64,
    },
    /// A set of which no example remains.
    #[error("{}: no examples{}", path.display(), if skipped.is_empty() { String::new() } else { format!(" ({skipped})") })]
    Empty {
        /// The set.
        path: PathBuf,
        /// What was skipped and why; empty when nothing was.
        skipped: String,
    },
    /// A vocabulary too small for the bytes and the special tokens.
    #[error("a byte-level vocabulary needs {least} tokens at least, not {asked}")]
    Vocabulary {
        /// Tokens asked for.
        asked: usize,
        /// The fewest possible.
        least: usize,
    },
}

/// Why an example cannot be used.
#[derive(Debug, Error)]
pub enum Flaw {
    /// A line that is no JSON.
    #[error("malformed JSON at column {column}: {reason}")]
    Malformed {
        /// The column, from 1; 0 when the line is at fault as a whole.
        column: usize,
        /// What the reader said.
        reason: String,
    },
    /// JSON, but not an object.
    #[error("{found}, expected an object")]
    NotAnObject {
        /// What stands there.
        found: String,
    },
    /// A field of another kind than the layout needs.
    #[error("`{field}` is {found}, expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What is needed.
        expected: &'static str,
    },
    /// A question without an answer.
    #[error("no answer: {0}")]
    NoAnswer(&'static str),
    /// A document without text.
    #[error("the document is empty")]
    EmptyDocument,
    /// The chat template refuses the conversation.
    #[error("the chat template refuses it")]
    Template(#[source] TemplateError),
    /// The rendering of an answer does not begin with the prompt that asks for it: what the model would be trained on is
    /// not what it is asked.
    #[error("answer {turn}: the chat template does not continue its own generation prompt")]
    Unsteady {
        /// The answer, from 1.
        turn: usize,
    },
}

/// Where a chat template fails, and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {reason}")]
pub struct TemplateError {
    /// The template's line, from 1.
    pub line: usize,
    /// The reason: the template's own words where it raised the error itself.
    pub reason: String,
}
