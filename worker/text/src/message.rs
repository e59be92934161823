//! One message of a conversation (HANDS), as a chat template sees it: every field it came with, in its order.

use minijinja::Value;
use serde::de::{Deserialize, Deserializer, Error};

use crate::error::Flaw;

/// A message: a role, a content and whatever else its file gave it (`tool_calls`, `name`, `reasoning_content`).
#[derive(Debug, Clone)]
pub struct Message(Value);

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Message {
    /// A message of plain words.
    #[must_use]
    pub fn new(role: &str, content: &str) -> Self {
        Self(Value::from_pairs([("role", role), ("content", content)]))
    }

    /// The message that this value is.
    pub(crate) fn from_value(value: Value) -> Result<Self, Flaw> {
        let role = value.get_attr("role").unwrap_or_default();
        if role.as_str().is_none() {
            return Err(Flaw::Field { field: "messages", found: describe(&value), expected: "objects with a `role`" });
        }
        Ok(Self(value))
    }

    /// Who speaks: `system`, `user`, `assistant`, `tool`.
    #[must_use]
    pub fn role(&self) -> String {
        self.0.get_attr("role").ok().and_then(|role| role.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Its words; those of its text parts when the content is a list of parts.
    #[must_use]
    pub fn content(&self) -> String {
        let content = self.0.get_attr("content").unwrap_or_default();
        if let Some(text) = content.as_str() {
            return text.to_owned();
        }
        let parts = content.try_iter().into_iter().flatten();
        parts.filter_map(|part| part.get_attr("text").ok()?.as_str().map(str::to_owned)).collect()
    }

    pub(crate) fn is_answer(&self) -> bool {
        self.role() == "assistant"
    }

    /// Whether it says anything: words, or calls of tools.
    pub(crate) fn says_something(&self) -> bool {
        let calls = self.0.get_attr("tool_calls").unwrap_or_default();
        !self.content().trim().is_empty() || calls.is_true()
    }

    pub(crate) fn value(&self) -> Value {
        self.0.clone()
    }
}

/// A value in a few words, for errors.
pub(crate) fn describe(value: &Value) -> String {
    if value.is_undefined() {
        return "missing".to_owned();
    }
    if value.is_none() {
        return "null".to_owned();
    }
    let shown = excerpt(&value.to_string());
    format!("a {} ({shown})", value.kind())
}

/// The beginning of a text, for errors.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}
