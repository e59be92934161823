//! Overrides on the command line (HANDS): `train.learning_rate=3e-4`, `family.anchors[0].weights=x`.

use std::sync::Arc;

use super::{
    ConfigError, Place, keys,
    node::{Entry, Malformed, Node, Value},
};

/// Applies one override of the form `key=value`; the value is YAML, and null takes a key back.
pub(super) fn apply(top: &mut Node, text: &str) -> Result<(), ConfigError> {
    let refuse = |flaw: String| ConfigError::Override { text: text.to_owned(), flaw };
    let (key, value) = text.split_once('=').ok_or_else(|| refuse("is not of the form key=value".into()))?;
    let parts: Vec<&str> = key.split(['.', '[', ']']).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err(refuse("names no key".into()));
    }
    let origin: Arc<str> = format!("--set {text}").into();
    let place = Place { origin: origin.clone(), at: None };
    let node = Node::parse(value, &origin).map_err(|Malformed { flaw, .. }| refuse(flaw))?;
    reach(top, &parts, "", node.replaced(&place)).map_err(refuse)
}

/// Lays `node` over what stands at `parts` below `parent`, whose dotted key is `key`.
fn reach(parent: &mut Node, parts: &[&str], key: &str, mut node: Node) -> Result<(), String> {
    let section = keys::section(key);
    let Some((part, rest)) = parts.split_first() else {
        keys::settle(&mut node, &section).map_err(|twice| twice.unplaced())?;
        parent.overlay(node, &section);
        return Ok(());
    };
    if let Value::List(items) = &mut parent.value {
        let count = items.len();
        let item = part.parse::<usize>().ok().and_then(|i| items.get_mut(i));
        let item = item.ok_or_else(|| format!("{key} has {count} items"))?;
        return reach(item, rest, &format!("{key}[{part}]"), node);
    }
    let part = keys::own_name(&section, part);
    let inner = keys::inside(key, part);
    let place = node.place.clone();
    // A mapping of one key laid over the parent, so that nulls and replacements work as between files.
    let mut below = Node { value: Value::Map(Vec::new()), place: place.clone() };
    match parent.entry(part) {
        Some(entry) if !rest.is_empty() => {
            below = entry.node.clone();
            reach(&mut below, rest, &inner, node)?;
            parent.take(part);
        }
        _ if rest.is_empty() => {
            keys::settle(&mut node, &keys::section(&inner)).map_err(|twice| twice.unplaced())?;
            below = node;
        }
        _ => reach(&mut below, rest, &inner, node)?,
    }
    let entry = Entry { key: part.to_owned(), place: place.clone(), node: below };
    parent.overlay(Node { value: Value::Map(vec![entry]), place }, &section);
    Ok(())
}
