//! What is known of keys beyond their types (HANDS): other names for them, and which of them stand for one another. A layer
//! is settled by this before it meets another, or one value would be taken for two.

use super::{
    ConfigError, Place,
    node::{Entry, Node, Value},
};

/// Section, another name, the key's own name. Those that serde knows are here too.
const ALIASES: [(&str, &str, &str); 7] = [
    ("family.anchors[].arch", "img_size", "image_size"),
    ("pst", "r", "lora_r"),
    ("pst", "target_modules", "targets"),
    ("train", "lr", "learning_rate"),
    ("train", "train_batch_size", "batch_size"),
    ("data.text", "max_seq_length", "max_length"),
    ("data.text", "cutoff_len", "max_length"),
];

/// Keys that Hugging Face's libraries have and jobs do not, and what says it here.
const ELSEWHERE: [(&str, &str); 9] = [
    ("bf16", "`bf16: true` is `train.precision: bf16` here"),
    ("fp16", "there is no float16 here; `train.precision: bf16` is what to train in"),
    (
        "per_device_train_batch_size",
        "`train.batch_size` is what a whole step takes, and `train.gradient_accumulation_steps` splits a slot to save memory",
    ),
    ("per_device_eval_batch_size", "it is `eval.batch_size` here"),
    ("dataloader_num_workers", "it is `data.loader_threads` here"),
    ("warmup_steps", "it is `train.warmup_ratio` here, a share of all steps"),
    ("optim", "every job trains with AdamW: leave it out"),
    ("group_by_length", "it is `data.text.group_by_length` here"),
    ("model_name_or_path", "it is `family.anchors[].weights` here, one for each anchor"),
];

/// Sections in which one of some keys stands for all of them.
const ALTERNATIVES: [(&str, &[&str]); 4] = [
    ("budgets", &["gap", "edges", "params", "latency"]),
    ("budgets.params", &["gap", "edges"]),
    ("budgets.latency", &["gap", "edges"]),
    ("family.anchors[]", &["preset", "arch", "config"]),
];

/// Two names of one key in one section.
#[derive(Debug)]
pub(super) struct Twice {
    place: Place,
    section: String,
    flaw: String,
}

impl Twice {
    /// The flaw behind its section, for whoever knows the place.
    pub fn unplaced(&self) -> String {
        format!("{}: {}", self.section, self.flaw)
    }
}

impl From<Twice> for ConfigError {
    fn from(twice: Twice) -> Self {
        Self::Key { place: twice.place, key: twice.section, flaw: twice.flaw }
    }
}

/// The section of a dotted key as the tables write it: `family.anchors[].arch` of `family.anchors[1].arch`.
pub(super) fn section(key: &str) -> String {
    let parts: Vec<&str> = key.split('[').map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit())).collect();
    parts.join("[")
}

/// What stands below a key of a section.
pub(super) fn inside(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// A key of a section by its own name.
pub(super) fn own_name<'a>(section: &str, key: &'a str) -> &'a str {
    let alias = ALIASES.iter().find(|(within, alias, _)| (*within, *alias) == (section, key));
    alias.map_or(key, |(_, _, own)| own)
}

/// What to write instead of a key that another program has.
pub(super) fn elsewhere(key: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(theirs, _)| *theirs == key).map(|(_, ours)| *ours)
}

/// Brings all keys of a layer to their own names, and drops the nulls beside an alternative that is chosen: it takes back
/// what it stands for.
pub(super) fn settle(layer: &mut Node, section: &str) -> Result<(), Twice> {
    match &mut layer.value {
        Value::List(items) => items.iter_mut().try_for_each(|item| settle(item, &format!("{section}[]"))),
        Value::Map(entries) => {
            (0..entries.len()).try_for_each(|i| rename(entries, i, section))?;
            if let Some(alternatives) = alternatives(section).filter(|keys| chooses(entries, keys)) {
                entries.retain(|entry| !is_null(entry) || !alternatives.contains(&entry.key.as_str()));
            }
            entries.iter_mut().try_for_each(|entry| settle(&mut entry.node, &inside(section, &entry.key)))
        }
        _ => Ok(()),
    }
}

fn rename(entries: &mut [Entry], i: usize, section: &str) -> Result<(), Twice> {
    let own = own_name(section, &entries[i].key).to_owned();
    let Entry { key, place, .. } = &entries[i];
    if own != *key && entries.iter().any(|entry| entry.key == own) {
        let flaw = format!("{key:?} is another name of {own:?}, which is given too");
        return Err(Twice { place: place.clone(), section: section.to_owned(), flaw });
    }
    entries[i].key = own;
    Ok(())
}

/// Takes out of a section what the layer above stands for instead.
pub(super) fn make_way(below: &mut Vec<Entry>, above: &[Entry], section: &str) {
    let Some(alternatives) = alternatives(section).filter(|keys| chooses(above, keys)) else { return };
    below.retain(|old| !alternatives.contains(&old.key.as_str()) || above.iter().any(|entry| entry.key == old.key));
}

fn alternatives(section: &str) -> Option<&'static [&'static str]> {
    ALTERNATIVES.iter().find(|(within, _)| *within == section).map(|(_, keys)| *keys)
}

fn chooses(entries: &[Entry], alternatives: &[&str]) -> bool {
    entries.iter().any(|entry| !is_null(entry) && alternatives.contains(&entry.key.as_str()))
}

fn is_null(entry: &Entry) -> bool {
    matches!(entry.node.value, Value::Null)
}

#[cfg(test)]
#[path = "keys_test.rs"]
mod tests;
