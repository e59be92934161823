//! The jobs of a study's arms, resolved (HANDS): the rule each deploys by, and the values its keys have.

use std::collections::BTreeMap;

use esta_engine::spec::{JobSpec, PaletteRule};
use serde_json::Value;

use crate::{
    plan::{CellId, Study},
    runner::{RunError, job_of},
};

/// One job for each arm and target: that of the first seed and part.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Jobs {
    by_arm: BTreeMap<(String, String), JobSpec>,
}

impl Jobs {
    /// Resolves the jobs of a study.
    ///
    /// # Errors
    /// [`RunError::Cell`] naming the first cell whose job is flawed.
    pub fn of(study: &Study) -> Result<Self, RunError> {
        let mut by_arm = BTreeMap::new();
        for cell in study.cells() {
            let CellId { arm, target, .. } = cell.id.clone();
            if let std::collections::btree_map::Entry::Vacant(place) = by_arm.entry((arm, target)) {
                place.insert(job_of(&cell)?);
            }
        }
        Ok(Self { by_arm })
    }

    /// The job of an arm on a target.
    #[must_use]
    pub fn get(&self, arm: &str, target: &str) -> Option<&JobSpec> {
        self.by_arm.get(&(arm.to_owned(), target.to_owned()))
    }

    /// The rule that an arm deploys by on a target; what a job that says nothing deploys by where it is not known.
    #[must_use]
    pub fn rule(&self, arm: &str, target: &str) -> PaletteRule {
        self.get(arm, target).map_or_else(PaletteRule::default, |job| job.palette.rule)
    }

    /// The value of a dotted key in an arm's first job, in words; none where the job is not known or leaves it out. Where
    /// the mode decides how stitches are drawn, that is what is said.
    #[must_use]
    pub fn value(&self, arm: &str, key: &str) -> Option<String> {
        let (_, job) = self.by_arm.iter().find(|((name, _), _)| name == arm)?;
        let job = serde_json::to_value(JobSpec { sampling: job.effective_sampling(), ..job.clone() }).ok()?;
        let value = key.split('.').try_fold(&job, |value, part| value.get(part))?;
        Some(words(value))
    }
}

fn words(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(word) => word.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(" "),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name} {}", words(value))).collect::<Vec<_>>().join(", ")
        }
        Value::Number(number) => match number.as_f64() {
            Some(value) if value >= 1e5 || (value > 0.0 && value < 0.1) => format!("{value:e}"),
            Some(value) => value.to_string(),
            None => number.to_string(),
        },
        Value::Bool(switch) => switch.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn choices_that_shipped_studies_name_are_keys_and_what_both_sides_differ_in_is_named() {
        for file in ["offline.yaml", "equal-time.yaml", "vision.yaml"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/studies").join(file);
            let study = Study::read(&path).expect("a study");
            let jobs = Jobs::of(&study).expect("sound jobs");
            for claim in &study.claims {
                let values = |key: &str| [&claim.arm, &claim.against].map(|arm| jobs.value(arm, key));
                let said = format!("{file}: {} over {}", claim.arm, claim.against);
                for key in claim.ours.iter().filter(|choice| !choice.contains(' ')) {
                    assert_ne!(values(key), [None, None], "{said}: {key}");
                }
                let [own, other] = values("train.learning_rate");
                assert!(
                    own == other || claim.ours.contains(&"train.learning_rate".to_owned()),
                    "{said}: {own:?}, {other:?}"
                );
                assert!(claim.ours.contains(&"palette.rule".to_owned()), "{said}: selection touches every claim");
            }
        }
    }

    #[test]
    fn values_read_as_one_writes_them_in_a_job() {
        let said = |text: &str| words(&serde_json::from_str(text).expect("JSON"));
        let values = ["0.008", "4", "50.0", "0.9", "500000.0", "[\"q\", \"k\"]", "{\"weight\": 0.5}", "null"];
        assert_eq!(values.map(said), ["8e-3", "4", "50", "0.9", "5e5", "q k", "weight 0.5", "none"]);
    }
}
