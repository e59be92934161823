//! Models by name (HANDS): what is not in the Hugging Face cache is fetched into it, where a hub can be reached; what lies in object
//! storage is brought into ESTA's own.
//!
//! `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` mean what they mean to Hugging Face's libraries.

use std::{
    env,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use esta_config::hub;
use esta_objects::ObjectsError;
use hf_hub::api::sync::{ApiBuilder, ApiError};
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
        what: &'static str,
    },
}

fn forbidden(offline: bool) -> &'static str {
    if offline { "; HF_HUB_OFFLINE forbids to fetch it" } else { "" }
}

/// The folder of a model: where it lies, or where its files have been fetched to.
///
/// # Errors
/// [`FetchError`].
pub fn bring(model: &str) -> Result<PathBuf, FetchError> {
    let brought = places::bring(model).map_err(|source| FetchError::Objects { model: model.to_owned(), source })?;
    if let Some(path) = brought {
        return Ok(path.into());
    }
    if let Some(folder) = hub::locate(model) {
        return Ok(folder);
    }
    let offline = env::var_os("HF_HUB_OFFLINE").is_some_and(|value| value != "0" && !value.is_empty());
    if offline || !is_hub_name(model) {
        return Err(FetchError::Nowhere { model: model.to_owned(), offline: offline && is_hub_name(model) });
    }
    fetch(model)
}

/// Whether it is `owner/name`, not a path.
fn is_hub_name(model: &str) -> bool {
    let sound = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
    };
    matches!(model.split('/').collect::<Vec<_>>()[..], [owner, name] if sound(owner) && sound(name))
}

fn fetch(model: &str) -> Result<PathBuf, FetchError> {
    let failed = |source: ApiError| FetchError::Hub { model: model.to_owned(), source: Box::new(source) };
    let mut builder = ApiBuilder::from_env().with_progress(io::stderr().is_terminal());
    if let Some(cache) = hub::cache() {
        builder = builder.with_cache_dir(cache);
    }
    let repo = builder.build().map_err(failed)?.model(model.to_owned());
    let files = repo.info().map_err(failed)?.siblings.into_iter().map(|file| file.rfilename);
    let files: Vec<String> = files.filter(|file| is_wanted(file)).collect();
    for (what, ending) in [("config.json", "config.json"), ("safetensors", ".safetensors")] {
        if !files.iter().any(|file| file.ends_with(ending)) {
            return Err(FetchError::Without { model: model.to_owned(), what });
        }
    }
    let mut folder = None;
    for file in &files {
        tracing::info!(model, file, "fetching");
        folder = repo.get(file).map_err(failed)?.parent().map(Path::to_owned);
    }
    folder.ok_or(FetchError::Without { model: model.to_owned(), what: "file" })
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
    fn a_path_is_no_hub_name() {
        assert!(is_hub_name("Qwen/Qwen3-0.6B") && is_hub_name("meta-llama/Llama-3.2-1B"));
        for path in ["weights", "./a/b", "a/b/c", "/a", "a/", ".cache/anchors", "a/b c"] {
            assert!(!is_hub_name(path), "{path}");
        }
    }

    #[test]
    fn weights_configuration_and_tokenizer_are_fetched_and_nothing_else() {
        let wanted = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "chat_template.jinja"];
        assert!(wanted.iter().all(|file| is_wanted(file)));
        let others = ["README.md", "pytorch_model.bin", "original/consolidated.safetensors", ".gitattributes"];
        assert!(!others.iter().any(|file| is_wanted(file)));
    }
}
