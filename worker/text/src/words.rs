//! What one record says (HANDS), in words, before any template.

use esta_engine::spec::Layout;
use minijinja::Value;
use minijinja::value::ValueKind;

use crate::error::Flaw;
use crate::message::{Message, describe};

/// The words of one record.
#[derive(Debug, Clone)]
pub(crate) enum Words {
    /// A question in Stanford Alpaca's form and its answer.
    Instruction {
        instruction: String,
        /// Empty when the question needs none.
        input: String,
        output: String,
    },
    /// A conversation, up to and with its last answer: what follows has nothing to teach.
    Conversation(Vec<Message>),
    /// A document.
    Document(String),
}

impl Words {
    /// Reads a record of a text layout.
    pub(crate) fn parse(layout: Layout, record: &Value) -> Result<Self, Flaw> {
        if record.kind() != ValueKind::Map {
            return Err(Flaw::NotAnObject { found: describe(record) });
        }
        match layout {
            Layout::Alpaca => instruction(record),
            Layout::Chat => conversation(record),
            _ => document(record),
        }
    }
}

fn instruction(record: &Value) -> Result<Words, Flaw> {
    let input = field(record, "input");
    let input = if input.is_undefined() || input.is_none() { String::new() } else { text(record, "input")? };
    let output = text(record, "output")?;
    if output.trim().is_empty() {
        return Err(Flaw::NoAnswer("`output` is empty"));
    }
    Ok(Words::Instruction { instruction: text(record, "instruction")?, input, output })
}

fn conversation(record: &Value) -> Result<Words, Flaw> {
    let messages = field(record, "messages");
    if messages.kind() != ValueKind::Seq {
        return Err(Flaw::Field { field: "messages", found: describe(&messages), expected: "a list of messages" });
    }
    let items = messages.try_iter().into_iter().flatten();
    let mut messages = items.map(Message::from_value).collect::<Result<Vec<_>, _>>()?;
    let last = messages.iter().rposition(Message::is_answer).ok_or(Flaw::NoAnswer("no message of the assistant"))?;
    messages.truncate(last + 1);
    if messages.iter().any(|message| message.is_answer() && !message.says_something()) {
        return Err(Flaw::NoAnswer("a message of the assistant is empty"));
    }
    Ok(Words::Conversation(messages))
}

fn document(record: &Value) -> Result<Words, Flaw> {
    let text = text(record, "text")?;
    if text.trim().is_empty() { Err(Flaw::EmptyDocument) } else { Ok(Words::Document(text)) }
}

/// A field of a record that has to be a text.
pub(crate) fn text(record: &Value, name: &'static str) -> Result<String, Flaw> {
    let value = field(record, name);
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Flaw::Field { field: name, found: describe(&value), expected: "a text" }),
    }
}

fn field(record: &Value, name: &str) -> Value {
    record.get_attr(name).unwrap_or_default()
}
