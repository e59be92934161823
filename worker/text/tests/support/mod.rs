//! Small tokenizers and files of examples.

#![allow(dead_code, clippy::unwrap_used, reason = "not every test takes everything")]

use std::fs;
use std::path::{Path, PathBuf};

use esta_engine::spec::{DatasetSpec, TextSpec};
use esta_text::{TextError, TextSet, Tokenizer, train_tokenizer};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder that lives as long as the test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The JSON of a file, changed.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let path = self.path().join(name);
        let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut json);
        fs::write(path, json.to_string()).unwrap();
    }

    pub fn tokenizer(&self) -> Tokenizer {
        Tokenizer::open(self.path()).unwrap()
    }
}

/// A folder with a byte-level tokenizer of some hundred tokens.
pub fn trained() -> Folder {
    let folder = Folder::new();
    let texts = ["### Instruction:", "### Response:", "Which header declares open?", "the answer is the answer"];
    train_tokenizer(texts.iter().map(|text| format!("{text} {text}")), 320, folder.path()).unwrap();
    folder
}

/// The same with a `<s>` that it puts in front of every text.
pub fn with_bos() -> Folder {
    let folder = trained();
    folder.edit("tokenizer.json", |json| {
        let id = json["model"]["vocab"].as_object().unwrap().len();
        let tokens = json["added_tokens"].as_array_mut().unwrap();
        let mut bos = tokens[0].clone();
        (bos["id"], bos["content"]) = (json!(id), json!("<s>"));
        tokens.push(bos);
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                "<s>": {"id": "<s>", "ids": [id], "tokens": ["<s>"]},
                "<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]},
            },
        });
    });
    folder.edit("tokenizer_config.json", |json| json["bos_token"] = json!({"content": "<s>"}));
    folder
}

/// The same folder with further special tokens.
pub fn with_special(folder: Folder, names: &[&str]) -> Folder {
    folder.edit("tokenizer.json", |json| {
        let known = json["model"]["vocab"].as_object().unwrap().len();
        let tokens = json["added_tokens"].as_array_mut().unwrap();
        // The first one is in the vocabulary as well.
        for (id, name) in (known + tokens.len() - 1..).zip(names) {
            let mut token = tokens[0].clone();
            (token["id"], token["content"]) = (json!(id), json!(name));
            tokens.push(token);
        }
    });
    folder
}

/// A `data.text` section.
pub fn text(json: Value) -> TextSpec {
    serde_json::from_value(json).unwrap()
}

/// One set.
pub fn set(layout: &str, path: &Path, split: Value) -> DatasetSpec {
    serde_json::from_value(json!({"layout": layout, "path": path, "split": split})).unwrap()
}

pub fn open(tokenizer: &Tokenizer, layout: &str, path: &Path, spec: Value) -> Result<TextSet, TextError> {
    TextSet::open(&text(spec), &set(layout, path, Value::Null), tokenizer)
}

/// JSON lines.
pub fn lines(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// One record of layout `alpaca`.
pub fn alpaca(instruction: &str, input: &str, output: &str) -> Value {
    json!({"instruction": instruction, "input": input, "output": output})
}

/// One record of layout `chat`: the user and the assistant in turn.
pub fn chat(contents: &[&str]) -> Value {
    let roles = ["user", "assistant"].iter().cycle();
    let messages: Vec<Value> =
        roles.zip(contents).map(|(role, content)| json!({"role": role, "content": content})).collect();
    json!({"messages": messages})
}

/// An error with its causes, in one line.
pub fn in_words(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", in_words(source)),
        None => error.to_string(),
    }
}
