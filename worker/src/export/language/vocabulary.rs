//! The tokens that a family of language models speaks in (HANDS), copied into each of its exports.

use std::path::PathBuf;

use esta_data::Intake;
use esta_text::{Tokenizer, ends_of};
use serde_json::{Map, Value, json};

use super::{
    super::{ExportError, folder::Files},
    template,
};
use crate::trainer::{Family, tokenizer_folder};

/// What a tokenizer consists of on disk; those that are there are copied.
const TOKENIZER_FILES: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
];

/// The tokens that a family speaks in.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    /// Where the tokenizer's files lie.
    pub folder: PathBuf,
    /// Ids that end what a model says.
    pub eos: Vec<u32>,
    /// Id that begins one.
    pub bos: Option<u32>,
    /// Id that fills a batch.
    pub pad: Option<u32>,
}

impl Vocabulary {
    /// That of a family of language models; the end mark of the chat template that it was asked by ends what it says.
    #[must_use]
    pub fn of(family: &Family) -> Option<Self> {
        let Intake::Texts(tokenizer) = &family.intake else { return None };
        let eos = ends_of(tokenizer, template(&family.law));
        Some(Self { eos, ..Self::new(tokenizer, tokenizer_folder(&family.law.spec)) })
    }

    /// That of a tokenizer and its folder.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, folder: PathBuf) -> Self {
        Self { folder, eos: tokenizer.eos_ids().to_vec(), bos: tokenizer.bos_id(), pad: tokenizer.pad_id() }
    }

    /// As `config.json` and `generation_config.json` name them: one id bare, several in a list.
    pub(super) fn ids(&self) -> Map<String, Value> {
        let eos = match self.eos.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        };
        let pad = self.pad.or(self.eos.first().copied());
        [("bos_token_id", json!(self.bos)), ("eos_token_id", eos), ("pad_token_id", json!(pad))]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    pub(super) fn write(&self, files: &Files) -> Result<(), ExportError> {
        for name in TOKENIZER_FILES {
            let source = self.folder.join(name);
            if source.is_file() {
                files.copy(name, &source)?;
            }
        }
        let mut generation = self.ids();
        generation.retain(|_, value| !value.is_null());
        files.json("generation_config.json", &generation)
    }
}
