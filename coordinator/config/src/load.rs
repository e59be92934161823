//! Files and the files they extend (HANDS): `base: other.yaml` at the top, found beside the file that names it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    ConfigError, Place, keys,
    node::{Malformed, Node, Value},
};

/// A file laid over its base, over that one's base, and so on.
pub(super) fn merged(path: &Path) -> Result<Node, ConfigError> {
    let mut seen = Vec::new();
    read_over_base(path, &mut seen)
}

fn read_over_base(path: &Path, seen: &mut Vec<PathBuf>) -> Result<Node, ConfigError> {
    let mut node = read(path)?;
    keys::settle(&mut node, "")?;
    seen.push(canonical(path));
    let Some(entry) = node.take("base") else { return Ok(node) };
    let Value::Text(base) = &entry.node.value else {
        let flaw = format!("{}, expected the name of a YAML file", entry.node.value);
        return Err(ConfigError::Key { place: entry.node.place, key: "base".into(), flaw });
    };
    let base = path.parent().unwrap_or(Path::new("")).join(base);
    if seen.contains(&canonical(&base)) {
        return Err(ConfigError::Cycle { place: entry.node.place, path: base });
    }
    let mut merged = read_over_base(&base, seen).map_err(|error| asked_for(error, &base, &entry.node.place))?;
    let place = node.place.clone();
    merged.overlay(node, "");
    // What is missing is missing in the file that was asked for.
    merged.place = place;
    Ok(merged)
}

/// A base that cannot be read is named where it is asked for.
fn asked_for(error: ConfigError, base: &Path, place: &Place) -> ConfigError {
    match error {
        ConfigError::Read { path, source } if path == base => {
            let flaw = format!("cannot read {}: {source}", path.display());
            ConfigError::Key { place: place.clone(), key: "base".into(), flaw }
        }
        other => other,
    }
}

fn read(path: &Path) -> Result<Node, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let origin: Arc<str> = path.display().to_string().into();
    let node = Node::parse(&text, &origin).map_err(|Malformed { place, flaw }| ConfigError::Yaml { place, flaw })?;
    match node.value {
        Value::Map(_) => Ok(node),
        _ => {
            let place = Place { origin, at: node.place.at.or(Some((1, 1))) };
            Err(ConfigError::Yaml { place, flaw: "a job is a mapping of keys to values".into() })
        }
    }
}

/// One name per file; a file that is missing fails when it is read.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
