//! Chat templates (HANDS): the Jinja that a tokenizer ships, in the environment that Hugging Face gives it.
//!
//! Blocks are trimmed on both sides, `break` and `continue` work, Python's methods of strings and maps exist, and so do
//! `raise_exception` and a `tojson` that writes as Python does. `strftime_now` is not defined: a prompt that depends on
//! the day would not be the prompt trained on. Templates that ask whether it is defined fall back to their own date.

mod json;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, context};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::error::{TemplateError, TextError};
use crate::message::Message;

const NAME: &str = "chat_template";

/// A chat template, ready to render.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    path: PathBuf,
    environment: Environment<'static>,
    /// `bos_token`, `eos_token` and the like, as the template names them.
    tokens: Value,
}

/// What a rendering ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The opening of an answer that is to be written: `add_generation_prompt`.
    Prompt,
    /// The last message.
    Message,
}

impl ChatTemplate {
    /// Parses a template that lies at `path`. `tokens` are the special tokens' texts by name.
    ///
    /// # Errors
    /// [`TextError::ChatTemplate`] with the line that does not parse.
    pub fn parse(path: &Path, source: &str, tokens: &BTreeMap<String, String>) -> Result<Self, TextError> {
        let mut environment = environment();
        let failed = |error| TextError::ChatTemplate { path: path.to_owned(), source: template_error(&error) };
        // Jinja reads every line end as one character.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        environment.add_template_owned(NAME, without_generation_marks(&source)).map_err(failed)?;
        let tokens = Value::from_pairs(tokens.iter().map(|(name, text)| (name.clone(), text.clone())));
        Ok(Self { path: path.to_owned(), environment, tokens })
    }

    /// The prompt that asks for the next message of the assistant.
    ///
    /// # Errors
    /// [`TextError::ChatTemplate`] when the template refuses the conversation.
    pub fn prompt(&self, messages: &[Message]) -> Result<String, TextError> {
        self.ending(messages, Ending::Prompt).map_err(|source| self.refused(source))
    }

    /// The conversation as it is.
    ///
    /// # Errors
    /// [`TextError::ChatTemplate`] when the template refuses the conversation.
    pub fn render(&self, messages: &[Message]) -> Result<String, TextError> {
        self.ending(messages, Ending::Message).map_err(|source| self.refused(source))
    }

    pub(crate) fn ending(&self, messages: &[Message], ending: Ending) -> Result<String, TemplateError> {
        let own = context! {
            messages => messages.iter().map(Message::value).collect::<Vec<_>>(),
            add_generation_prompt => ending == Ending::Prompt,
            tools => (),
            documents => (),
        };
        let template = self.environment.get_template(NAME).map_err(|error| template_error(&error))?;
        template.render(context! { ..own, ..self.tokens.clone() }).map_err(|error| template_error(&error))
    }

    fn refused(&self, source: TemplateError) -> TextError {
        TextError::ChatTemplate { path: self.path.clone(), source }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual delimiters are distinct"));
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_filter("tojson", json::tojson);
    environment.add_function("raise_exception", raise_exception);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment
}

/// Python can walk a text and an undefined value, but not None: templates ask this of `tools`.
fn is_iterable(value: &Value) -> bool {
    is_sequence(value) || value.kind() == ValueKind::Iterable
}

/// Python finds a length and items in maps and texts too.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn template_error(error: &Error) -> TemplateError {
    let reason = match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    TemplateError { line: error.line().unwrap_or(1), reason }
}

/// The template with `generation` blocks, which mark what a mask of answers covers and print nothing themselves, turned
/// into blocks that every Jinja knows. Lines stay where they are.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (before, tag) = (&rest[..start], &rest[start..start + length]);
        out.push_str(before);
        match tag.trim_start_matches("{%").trim_matches(['-', '+']).trim() {
            "generation" => out.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    out.push_str(rest);
    out
}
