//! Whether two resolved specifications describe one run (HANDS): compared key by key, so that a refusal can name them.

use serde_json::Value;

/// Keys that no draw, gradient or recorded number depends on: they may change between two sittings of a run.
const HARMLESS: &[&str] = &[
    "name",
    "output_dir",
    "recipe",
    "palette",
    "eval",
    "data.eval",
    "data.validation",
    "data.loader_threads",
    "train.save_steps",
    "train.save_total_limit",
    "train.logging_steps",
    "timeouts",
];

/// Differences named in one refusal.
const NAMED: usize = 4;

/// The dotted keys in which two specifications differ beyond what is harmless, with both values; `None` when they
/// describe one run.
pub(super) fn differences(stored: &Value, given: &Value) -> Option<String> {
    let mut found = Vec::new();
    compare(String::new(), Some(stored), Some(given), &mut found);
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    (!found.is_empty()).then(|| found.join("; "))
}

fn compare(key: String, stored: Option<&Value>, given: Option<&Value>, found: &mut Vec<String>) {
    if stored == given || HARMLESS.contains(&key.as_str()) {
        return;
    }
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match (stored, given) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let only_new = new.keys().filter(|name| !old.contains_key(*name));
            for name in old.keys().chain(only_new) {
                compare(below(name), old.get(name), new.get(name), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
            for (i, (old, new)) in old.iter().zip(new).enumerate() {
                compare(format!("{key}[{i}]"), Some(old), Some(new), found);
            }
        }
        _ => found.push(format!("{key} is {} there and {} here", text(stored), text(given))),
    }
}

fn text(value: Option<&Value>) -> String {
    value.map_or("absent".to_owned(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_named_with_both_values() {
        let stored = json!({"seed": 1, "family": {"anchors": [{"name": "ti"}]}, "train": {"max_steps": 10}});
        let given = json!({"seed": 2, "family": {"anchors": [{"name": "s"}]}, "train": {}});
        let text = differences(&stored, &given).expect("three keys differ");
        assert!(text.contains("seed is 1 there and 2 here"), "{text}");
        assert!(text.contains(r#"family.anchors[0].name is "ti" there and "s" here"#), "{text}");
        assert!(text.contains("train.max_steps is 10 there and absent here"), "{text}");
    }

    #[test]
    fn what_reaches_no_number_may_change() {
        let stored = json!({"seed": 1, "palette": {"rule": "snip"}, "train": {"logging_steps": 1}});
        let given = json!({"seed": 1, "palette": {"rule": "loss"}, "train": {"logging_steps": 9}, "output_dir": "x"});
        assert_eq!(differences(&stored, &given), None);
    }
}
