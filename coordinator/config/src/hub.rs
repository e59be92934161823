//! Models by name (HANDS): a folder, a place in object storage, or a hub name that is looked for in the Hugging Face cache, and what the `config.json` found
//! there says of a language model's shape.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use esta_engine::{
    arch::{HubConfig, HubConfigFlaw, LlamaArch},
    spec::{AnchorSpec, JobSpec},
};
use esta_objects::{ObjectsError, Place, cache};

use super::{ConfigError, node::Node, typed};

/// The folder of a model: the path itself if it is one, else the snapshot of a hub name such as `Qwen/Qwen3-0.6B` in the
/// Hugging Face cache that `main` stands for, or the only one there is. What lies in object storage is where it was brought to.
#[must_use]
pub fn locate(model: &str) -> Option<PathBuf> {
    if Place::is_meant(model) {
        return cache::located(&model.parse().ok()?);
    }
    let path = PathBuf::from(model);
    if path.exists() {
        return Some(path);
    }
    snapshot(&cache()?, model)
}

/// Whether it is a hub's `owner/name` by its form.
#[must_use]
pub fn is_name(model: &str) -> bool {
    let sound = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
    };
    matches!(model.split('/').collect::<Vec<_>>()[..], [owner, name] if sound(owner) && sound(name))
}

/// Where Hugging Face's libraries keep what they have fetched.
#[must_use]
pub fn cache() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("huggingface"));
    set("HF_HUB_CACHE").or_else(|| Some(set("HF_HOME").or_else(home)?.join("hub")))
}

/// The snapshot that `main` stands for, or the only one there is.
fn snapshot(cache: &Path, model: &str) -> Option<PathBuf> {
    let folder = cache.join(format!("models--{}", model.replace('/', "--")));
    let snapshots = folder.join("snapshots");
    // Empty while somebody writes it.
    let commit = fs::read_to_string(folder.join("refs/main")).ok().filter(|commit| !commit.trim().is_empty());
    let main = commit.map(|commit| snapshots.join(commit.trim()));
    if let Some(main) = main.filter(|main| main.is_dir()) {
        return Some(main);
    }
    let mut found: Vec<PathBuf> = fs::read_dir(&snapshots).ok()?.flatten().map(|entry| entry.path()).collect();
    found.sort();
    match found.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    }
}

/// Puts the shape that an anchor's `config.json` says into a job that gives none: the job that is recorded and served holds
/// the numbers themselves.
pub(super) fn inline(spec: &mut JobSpec, top: &Node) -> Result<(), ConfigError> {
    let named: Vec<bool> = spec.family.anchors.iter().map(|anchor| is_named(spec, anchor)).collect();
    let anchors = spec.family.anchors.iter_mut().enumerate();
    for (i, anchor) in anchors.filter(|(_, anchor)| is_unshaped(anchor)) {
        let key = format!("family.anchors[{i}].weights");
        let flawed = |flaw: String| ConfigError::Key { place: top.nearest(&key).clone(), key: key.clone(), flaw };
        match config_file(anchor, named[i]).map_err(flawed)? {
            Some(file) => anchor.config = read(&file).map_err(flawed)?,
            None if !named[i] && may_be_on_a_hub(&anchor.weights) => return Err(flawed(shapeless(&anchor.weights))),
            None => {}
        }
    }
    Ok(())
}

/// Neither there, nor a file of weights that is not.
fn may_be_on_a_hub(weights: &str) -> bool {
    is_name(weights) && !weights.ends_with(".safetensors") && !Path::new(weights).exists()
}

/// What to do about a hub name that nothing here says the shape of: a job is read where no hub need be in reach.
fn shapeless(model: &str) -> String {
    format!(
        "nothing here says the shape of {model}: there is no such folder, the Hugging Face cache has no config.json of it, \
         and no preset is called so. Fetch that file first, `hf download {model} config.json`, or give preset, arch or config"
    )
}

/// The `config.json` of an anchor's folder, if it has one. Of object storage only that file is brought, and only where no name says
/// the shape.
fn config_file(anchor: &AnchorSpec, is_named: bool) -> Result<Option<PathBuf>, String> {
    let said = |error: ObjectsError| {
        let causes = std::iter::successors(std::error::Error::source(&error), |&cause| cause.source());
        causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
    };
    match Place::of(&anchor.weights).map_err(|error| error.to_string())? {
        Some(_) if is_named => Ok(None),
        Some(place) => cache::bring_file(&place, "config.json").map_err(said),
        None => {
            let file = locate(&anchor.weights).map(|folder| folder.join("config.json"));
            Ok(file.filter(|file| file.is_file()))
        }
    }
}

/// Whether the name of an anchor's weights alone says its shape.
fn is_named(spec: &JobSpec, anchor: &AnchorSpec) -> bool {
    let mut alone = spec.clone();
    alone.family.anchors = vec![anchor.clone()];
    alone.architectures().is_ok()
}

fn is_unshaped(anchor: &AnchorSpec) -> bool {
    anchor.arch.is_none() && anchor.config.is_none() && anchor.preset.is_none()
}

/// The language model that a `config.json` describes; none where it describes no network by `model_type`, as timm's do not.
fn read(path: &Path) -> Result<Option<LlamaArch>, String> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(failed)?;
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let origin = path.display().to_string().into();
    // JSON is YAML, and this reader knows lines and keys.
    let node = Node::parse(&text, &origin).map_err(|malformed| format!("{}: {}", malformed.place, malformed.flaw))?;
    let config: HubConfig = typed::read(&node).map_err(|error| error.to_string())?;
    match LlamaArch::try_from(config) {
        Ok(arch) => Ok(Some(arch)),
        Err(HubConfigFlaw::Missing("model_type")) => Ok(None),
        Err(flaw) => Err(named(&flaw)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::{load, to_yaml};

    fn config(model_type: &str, width: u32) -> String {
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": model_type, "vocab_size": 64, "hidden_size": width,
            "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
            "torch_dtype": "float32",
        })
        .to_string()
    }

    /// A job over two model folders.
    fn job(folder: &TempDir, types: [&str; 2]) -> PathBuf {
        let anchor = |(name, model_type, width): (&str, &str, u32)| {
            let model = folder.path().join(name);
            fs::create_dir_all(&model).expect("made");
            fs::write(model.join("config.json"), config(model_type, width)).expect("written");
            format!("{{name: {name}, weights: {}}}", model.display())
        };
        let [a, b] = [("a", types[0], 8), ("b", types[1], 16)].map(anchor);
        let path = folder.path().join("job.yaml");
        let text = format!(
            "name: speak\nfamily:\n  anchors:\n    - {a}\n    - {b}\nbudgets: {{params: {{gap: 100}}}}\ntrain: \
             {{max_steps: 1}}\ndata:\n  text: {{}}\n  train: {{layout: alpaca, path: t.json}}\n"
        );
        fs::write(&path, text).expect("written");
        path
    }

    #[test]
    fn a_folder_says_its_own_shape_and_the_served_job_holds_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let law = load(&job(&folder, ["llama", "qwen2"]), &[]).expect("a job");
        let widths: Vec<u64> = law.catalog.anchors.iter().map(|arch| arch.width()).collect();
        assert_eq!(widths, [8, 16]);
        let served = folder.path().join("served.yaml");
        fs::write(&served, to_yaml(&law.spec).expect("writable")).expect("written");
        fs::remove_dir_all(folder.path().join("a")).expect("gone");
        fs::remove_dir_all(folder.path().join("b")).expect("gone");
        assert_eq!(load(&served, &[]).expect("needs no folder").spec, law.spec);
    }

    #[test]
    fn another_architecture_is_refused_at_the_anchor_that_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = load(&job(&folder, ["llama", "gpt2"]), &[]).expect_err("gpt2").to_string();
        assert!(error.contains("job.yaml:5:") && error.contains("family.anchors[1].weights"), "{error}");
        assert!(error.contains("model_type \"gpt2\" is not supported"), "{error}");
    }

    #[test]
    fn a_path_is_no_hub_name() {
        assert!(is_name("Qwen/Qwen3-0.6B") && is_name("meta-llama/Llama-3.2-1B"));
        for path in ["weights", "./a/b", "a/b/c", "/a", "a/", ".cache/anchors", "a/b c"] {
            assert!(!is_name(path), "{path}");
        }
    }

    #[test]
    fn a_hub_name_without_a_shape_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = job(&folder, ["llama", "llama"]);
        let text = fs::read_to_string(&path).expect("readable");
        let weights = format!("weights: {}", folder.path().join("a").display());
        let with = |model: &str| {
            fs::write(&path, text.replace(&weights, &format!("weights: {model}"))).expect("written");
            load(&path, &[])
        };
        let error = with("nobody/nothing-9b").expect_err("it has no shape").to_string();
        assert!(error.contains("family.anchors[0].weights"), "{error}");
        assert!(error.contains("`hf download nobody/nothing-9b config.json`"), "{error}");
        let error = with("/nowhere").expect_err("it has no shape").to_string();
        assert!(error.contains("give preset, arch, or config"), "{error}");
    }

    #[test]
    fn a_hub_name_is_found_in_the_cache() {
        let cache = tempfile::tempdir().expect("a folder");
        let model = cache.path().join("models--Qwen--Qwen3-0.6B");
        assert_eq!(snapshot(cache.path(), "Qwen/Qwen3-0.6B"), None);
        for commit in ["0a1b", "2c3d"] {
            fs::create_dir_all(model.join("snapshots").join(commit)).expect("made");
        }
        assert_eq!(snapshot(cache.path(), "Qwen/Qwen3-0.6B"), None, "nobody says which of two");
        fs::create_dir_all(model.join("refs")).expect("made");
        fs::write(model.join("refs/main"), "0a1b\n").expect("written");
        assert_eq!(snapshot(cache.path(), "Qwen/Qwen3-0.6B"), Some(model.join("snapshots/0a1b")));
        fs::write(model.join("refs/main"), "").expect("written");
        assert_eq!(snapshot(cache.path(), "Qwen/Qwen3-0.6B"), None, "half a word of it");
    }
}
