//! What of a tokenizer decides ids (HANDS), in a form that two tokenizers share exactly when they give the same ids by
//! the same rules.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::message::excerpt;

/// Parts of a tokenizer as the crate itself writes them: older files' spellings and absent defaults are levelled.
pub(super) struct Content {
    /// Every token, added ones included, in order of the vocabulary's spelling.
    tokens: BTreeMap<String, u32>,
    /// Merges in order of their rank; empty for models without.
    merges: Vec<Value>,
    /// The rest, by name.
    parts: Vec<(&'static str, Value)>,
}

impl Content {
    pub(super) fn of(inner: &tokenizers::Tokenizer) -> Self {
        let mut json = serde_json::to_value(inner).expect("a tokenizer that was read can be written");
        let mut model = json["model"].take();
        let mut merges = Vec::new();
        if let Some(fields) = model.as_object_mut() {
            if let Some(Value::Array(list)) = fields.remove("merges") {
                merges = list;
            }
            // The tokens below hold a map's entries; a list of scored pieces stays where it is.
            if fields.get("vocab").is_some_and(Value::is_object) {
                fields.remove("vocab");
            }
        }
        let mut added = json["added_tokens"].take();
        if let Some(added) = added.as_array_mut() {
            added.sort_by_key(|token| token["id"].as_u64());
        }
        let parts = vec![
            ("added tokens", added),
            ("normalizer", json["normalizer"].take()),
            ("pre-tokenizer", json["pre_tokenizer"].take()),
            ("post-processor", json["post_processor"].take()),
            ("model", model),
        ];
        Self { tokens: inner.get_vocab(true).into_iter().collect(), merges, parts }
    }

    pub(super) fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (token, id) in &self.tokens {
            hash_text(&mut hasher, token);
            hasher.update(&id.to_le_bytes());
        }
        for part in self.merges.iter().chain(self.parts.iter().map(|(_, part)| part)) {
            hash_text(&mut hasher, &canonical(part));
        }
        hasher.finalize()
    }

    /// The first difference in one line: `self` is here, `other` there.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        self.token_difference(other).or_else(|| self.merge_difference(other)).or_else(|| self.part_difference(other))
    }

    fn token_difference(&self, other: &Self) -> Option<String> {
        // By id, so that one shifted token is named itself and not what it shifted.
        let mut here: Vec<(u32, &String)> = self.tokens.iter().map(|(token, &id)| (id, token)).collect();
        here.sort_unstable();
        for (id, token) in here {
            match other.tokens.get(token) {
                Some(&there) if there == id => {}
                Some(there) => return Some(format!("token {token:?} is {id} here and {there} there")),
                None => return Some(format!("token {token:?} is {id} here and absent there")),
            }
        }
        let absent = other.tokens.iter().filter(|(token, _)| !self.tokens.contains_key(*token));
        let (token, id) = absent.min_by_key(|(_, id)| **id)?;
        Some(format!("token {token:?} is absent here and {id} there"))
    }

    fn merge_difference(&self, other: &Self) -> Option<String> {
        if let Some(rank) = self.merges.iter().zip(&other.merges).position(|(here, there)| here != there) {
            let (here, there) = (&self.merges[rank], &other.merges[rank]);
            return Some(format!("merge {rank} is {here} here and {there} there"));
        }
        let (here, there) = (self.merges.len(), other.merges.len());
        (here != there).then(|| format!("{here} merges here and {there} there"))
    }

    fn part_difference(&self, other: &Self) -> Option<String> {
        let mut pairs = self.parts.iter().zip(&other.parts);
        let ((name, here), (_, there)) = pairs.find(|((_, here), (_, there))| here != there)?;
        let (path, here, there) = innermost(here, there);
        let (here, there) = (excerpt(&here), excerpt(&there));
        Some(format!("{name}{path} is {here} here and {there} there"))
    }
}

/// The first place at which two values differ, as a path, and what stands there.
fn innermost(here: &Value, there: &Value) -> (String, String, String) {
    let shown = |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), canonical);
    let differing: Option<(String, Option<&Value>, Option<&Value>)> = match (here, there) {
        (Value::Object(a), Value::Object(b)) => {
            let key = sorted(a).into_iter().chain(sorted(b)).find(|key| a.get(*key) != b.get(*key));
            key.map(|key| (format!(".{key}"), a.get(key), b.get(key)))
        }
        (Value::Array(a), Value::Array(b)) => {
            let at = (0..a.len().max(b.len())).find(|&at| a.get(at) != b.get(at));
            at.map(|at| (format!("[{at}]"), a.get(at), b.get(at)))
        }
        _ => None,
    };
    match differing {
        Some((step, Some(here), Some(there))) => {
            let (path, here, there) = innermost(here, there);
            (step + &path, here, there)
        }
        Some((step, here, there)) => (step, shown(here), shown(there)),
        None => (String::new(), canonical(here), canonical(there)),
    }
}

fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

fn sorted(map: &Map<String, Value>) -> Vec<&String> {
    let mut keys: Vec<&String> = map.keys().collect();
    keys.sort();
    keys
}

/// A value as JSON with its keys in byte order, whatever map serde_json was built with.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let one = |key: &String| format!("{}:{}", Value::from(key.as_str()), canonical(&map[key]));
            format!("{{{}}}", sorted(map).into_iter().map(one).collect::<Vec<_>>().join(","))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(canonical).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}
