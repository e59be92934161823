//! Models by name (HANDS): what is not in the Hugging Face cache is fetched into it, where a hub can be reached; what lies in object
//! storage is brought into ESTA's own.
//!
//! `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` mean what they mean to Hugging Face's libraries.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File, TryLockError},
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use esta_config::hub;
use esta_objects::ObjectsError;
use hf_hub::{
    Cache,
    api::sync::{ApiBuilder, ApiError},
};
use serde::Deserialize;
use thiserror::Error;

use crate::places;

/// A model is nowhere.
#[derive(Debug, Error)]
pub enum FetchError {
    /// A path that leads nowhere, or a hub name while the hub is out of bounds.
    #[error("there is no folder {model}, and no such model in the Hugging Face cache{}", forbidden(*offline))]
    Nowhere {
        /// What was asked for.
        model: String,
        /// Whether fetching was forbidden.
        offline: bool,
    },
    /// A part of a model, while the hub is out of bounds.
    #[error("{model} lies in the Hugging Face cache without {file}{}", forbidden(*offline))]
    Partial {
        /// What was asked for.
        model: String,
        /// The first file that is missing.
        file: String,
        /// Whether fetching was forbidden.
        offline: bool,
    },
    /// The cache cannot be written.
    #[error("cannot write into the Hugging Face cache at {}", cache.display())]
    Cache {
        /// Where it is.
        cache: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The hub.
    #[error("there is no folder {model}, no such model in the Hugging Face cache, and the hub gives none")]
    Hub {
        /// What was asked for.
        model: String,
        /// Why.
        source: Box<ApiError>,
    },
    /// Object storage.
    #[error("{model} does not come from object storage")]
    Objects {
        /// What was asked for.
        model: String,
        /// Why.
        source: ObjectsError,
    },
    /// A model in another form.
    #[error("{model} has no {what} on the hub")]
    Without {
        /// What was asked for.
        model: String,
        /// What is missing.
        what: String,
    },
}

fn forbidden(offline: bool) -> &'static str {
    if offline { "; HF_HUB_OFFLINE forbids to fetch it" } else { "" }
}

/// The folder of a model: where it lies, or where its files have been fetched to. Of one that the Hugging Face cache has a part of,
/// the rest is fetched. Processes that share the cache take turns.
///
/// # Errors
/// [`FetchError`].
pub fn bring(model: &str) -> Result<PathBuf, FetchError> {
    let brought = places::bring(model).map_err(|source| FetchError::Objects { model: model.to_owned(), source })?;
    if let Some(path) = brought {
        return Ok(path.into());
    }
    if Path::new(model).exists() {
        return Ok(model.into());
    }
    let cached = match Cached::find(model) {
        Cached::Whole(folder) => return Ok(folder),
        cached => cached,
    };
    let offline = env::var_os("HF_HUB_OFFLINE").is_some_and(|value| value != "0" && !value.is_empty());
    let fetched = match hub::cache().filter(|_| hub::is_name(model) && !offline) {
        Some(cache) => fetch_in_turn(model, &cache),
        None => Err(cached.absence(model, offline && hub::is_name(model))),
    };
    match (fetched, cached) {
        // The job may name another tokenizer.
        (Err(error), Cached::Mute(folder)) => {
            tracing::warn!(
                model,
                error = &error as &dyn std::error::Error,
                "its tokenizer.json is not in the cache and could not be fetched; going on without"
            );
            Ok(folder)
        }
        (fetched, _) => fetched,
    }
}

const TOKENIZER: &str = "tokenizer.json";

/// What the Hugging Face cache has of a model.
enum Cached {
    Nothing,
    /// It lacks this file.
    Part(String),
    /// It lacks nothing but a tokenizer.
    Mute(PathBuf),
    Whole(PathBuf),
}

impl Cached {
    fn find(model: &str) -> Self {
        let Some(folder) = hub::locate(model) else { return Self::Nothing };
        match first_missing(&folder) {
            Some(file) => Self::Part(file),
            None if folder.join(TOKENIZER).is_file() => Self::Whole(folder),
            None => Self::Mute(folder),
        }
    }

    /// Why there is no model where nothing may be fetched.
    fn absence(&self, model: &str, offline: bool) -> FetchError {
        let model = model.to_owned();
        match self {
            Self::Part(file) => FetchError::Partial { model, file: file.clone(), offline },
            Self::Mute(_) => FetchError::Partial { model, file: TOKENIZER.to_owned(), offline },
            Self::Nothing | Self::Whole(_) => FetchError::Nowhere { model, offline },
        }
    }
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The first file that a snapshot lacks of a model's configuration and weights. Weights are fetched last: whoever has them has
/// all that the hub has.
fn first_missing(folder: &Path) -> Option<String> {
    let lacks = |file: &String| !folder.join(file).is_file();
    let index = fs::read(folder.join("model.safetensors.index.json")).ok();
    let weights = match index.map(|index| serde_json::from_slice::<Index>(&index)) {
        Some(Ok(index)) => index.weight_map.into_values().collect(),
        // Who reads the weights says better what is wrong with their index.
        Some(Err(_)) => Vec::new(),
        None => vec!["model.safetensors".to_owned()],
    };
    std::iter::once("config.json".to_owned()).chain(weights).find(lacks)
}

/// Fetches a model unless somebody else has done so meanwhile.
fn fetch_in_turn(model: &str, cache: &Path) -> Result<PathBuf, FetchError> {
    let _turn = turn(model, cache).map_err(|source| FetchError::Cache { cache: cache.to_owned(), source })?;
    match Cached::find(model) {
        Cached::Whole(folder) => Ok(folder),
        Cached::Nothing | Cached::Part(_) | Cached::Mute(_) => fetch(model, cache),
    }
}

/// Waits until nobody else on this machine fetches the model. The lock lies where Hugging Face's libraries keep theirs.
fn turn(model: &str, cache: &Path) -> io::Result<File> {
    let locks = cache.join(".locks");
    fs::create_dir_all(&locks)?;
    let file = File::create(locks.join(format!("models--{}.esta.lock", model.replace('/', "--"))))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            tracing::info!(model, "another process fetches it");
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error),
    }
    Ok(file)
}

fn fetch(model: &str, cache: &Path) -> Result<PathBuf, FetchError> {
    let failed = |source: ApiError| FetchError::Hub { model: model.to_owned(), source: Box::new(source) };
    let without = |what: &str| FetchError::Without { model: model.to_owned(), what: what.to_owned() };
    let api = ApiBuilder::from_env().with_progress(io::stderr().is_terminal()).with_cache_dir(cache.to_owned());
    let repo = api.build().map_err(failed)?.model(model.to_owned());
    let info = repo.info().map_err(failed)?;
    let files = wanted(info.siblings.into_iter().map(|file| file.rfilename));
    for (what, ending) in [("config.json", "config.json"), ("safetensors", ".safetensors")] {
        if !files.iter().any(|file| file.ends_with(ending)) {
            return Err(without(what));
        }
    }
    let cached = Cache::new(cache.to_owned()).model(model.to_owned());
    let snapshot = cached.pointer_path(&info.sha);
    for file in files.iter().filter(|file| !snapshot.join(file).exists()) {
        tracing::info!(model, file, "fetching");
        repo.download(file).map_err(failed)?;
    }
    cached.create_ref(&info.sha).map_err(|source| FetchError::Cache { cache: cache.to_owned(), source })?;
    match first_missing(&snapshot) {
        Some(file) => Err(without(&file)),
        None => Ok(snapshot),
    }
}

/// What is fetched of a repository, in this order.
fn wanted(files: impl Iterator<Item = String>) -> Vec<String> {
    let mut files: Vec<String> = files.filter(|file| is_wanted(file)).collect();
    files.sort_by_key(|file| file.ends_with(".safetensors"));
    files
}

/// What a language model consists of: weights, configuration, tokenizer; nothing in folders of the repository.
fn is_wanted(file: &str) -> bool {
    let ending = |ending: &str| file.ends_with(ending);
    !file.contains('/') && (ending(".safetensors") || ending(".json") || ending(".jinja") || file == "tokenizer.model")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_configuration_and_tokenizer_are_fetched_and_nothing_else() {
        let model = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "chat_template.jinja"];
        assert!(model.iter().all(|file| is_wanted(file)));
        let others = ["README.md", "pytorch_model.bin", "original/consolidated.safetensors", ".gitattributes"];
        assert!(!others.iter().any(|file| is_wanted(file)));
        let files = ["a.safetensors", "README.md", "config.json", "b.safetensors", "tokenizer.json"].map(str::to_owned);
        let order = ["config.json", "tokenizer.json", "a.safetensors", "b.safetensors"];
        assert_eq!(wanted(files.into_iter()), order, "weights are the last");
    }

    #[test]
    fn a_snapshot_is_whole_once_every_file_of_its_index_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let lacks = |file: &str, content: &str| {
            fs::write(folder.path().join(file), content).expect("written");
            first_missing(folder.path())
        };
        assert_eq!(lacks("tokenizer.json", "{}").as_deref(), Some("config.json"));
        assert_eq!(lacks("config.json", "{}").as_deref(), Some("model.safetensors"));
        let index = r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#;
        assert_eq!(lacks("model.safetensors.index.json", index).as_deref(), Some("a.safetensors"));
        assert_eq!(lacks("a.safetensors", "").as_deref(), Some("b.safetensors"));
        assert_eq!(lacks("b.safetensors", ""), None);
    }
}
