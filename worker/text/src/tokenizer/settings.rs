//! What the files beside `tokenizer.json` say (HANDS).

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::TextError;

const TOKENS: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What the tokens are for.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    /// Texts of special tokens, by name.
    pub(super) tokens: BTreeMap<String, String>,
    /// Ids that end a text, as the model's files name them.
    pub(super) eos_ids: Vec<u32>,
    /// The id that begins a text, where the tokenizer's files are silent.
    pub(super) bos_id: Option<u32>,
    /// The id that fills rows, where the tokenizer's files are silent.
    pub(super) pad_id: Option<u32>,
    /// The chat template and the file it lies in.
    pub(super) chat: Option<(PathBuf, String)>,
}

impl Settings {
    pub(super) fn read(folder: &Path) -> Result<Self, TextError> {
        let config = json(&folder.join("tokenizer_config.json"))?;
        let map = json(&folder.join("special_tokens_map.json"))?;
        let models = [json(&folder.join("generation_config.json"))?, json(&folder.join("config.json"))?];
        let named = TOKENS.iter().filter_map(|&name| Some((name.to_owned(), token(&config, &map, name)?)));
        // A tokenizer's file that names no such token, but has a place for it, says that there is none.
        let silent = |name: &str| config.get(name).is_none() && map.get(name).is_none();
        let first = |name: &str| models.iter().flat_map(|model| ids(model, name)).next();
        Ok(Self {
            tokens: named.collect(),
            eos_ids: models.iter().flat_map(|model| ids(model, "eos_token_id")).collect(),
            bos_id: first("bos_token_id").filter(|_| silent("bos_token")),
            pad_id: first("pad_token_id").filter(|_| silent("pad_token")),
            chat: chat(folder, &config)?,
        })
    }
}

/// A file's JSON; null when there is no such file.
fn json(path: &Path) -> Result<Value, TextError> {
    let Some(text) = text(path)? else { return Ok(Value::Null) };
    serde_json::from_str(&text).map_err(|source| TextError::Json { path: path.to_owned(), source })
}

fn text(path: &Path) -> Result<Option<String>, TextError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TextError::Read { path: path.to_owned(), source }),
    }
}

/// A token's text: a string, or an object with `content`.
fn token(config: &Value, map: &Value, name: &str) -> Option<String> {
    let spelt = |file: &Value| {
        let token = file.get(name)?;
        token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
    };
    spelt(config).or_else(|| spelt(map))
}

/// Ids under a name: one number, or a list.
fn ids(model: &Value, name: &str) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match model.get(name) {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The template of `chat_template.jinja`, else the one of the configuration: a text, or the list's `default`.
fn chat(folder: &Path, config: &Value) -> Result<Option<(PathBuf, String)>, TextError> {
    let file = folder.join("chat_template.jinja");
    if let Some(template) = text(&file)? {
        return Ok(Some((file, template)));
    }
    let default = |list: &Vec<Value>| {
        let entry = list.iter().find(|entry| entry.get("name").and_then(Value::as_str) == Some("default"))?;
        entry.get("template")?.as_str().map(str::to_owned)
    };
    let template = match config.get("chat_template") {
        Some(Value::String(template)) => Some(template.clone()),
        Some(Value::Array(list)) => default(list),
        _ => None,
    };
    Ok(template.map(|template| (folder.join("tokenizer_config.json"), template)))
}
