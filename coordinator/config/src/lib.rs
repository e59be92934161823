//! From YAML files to a [`JobSpec`] (HANDS): `base:` chains are merged, overrides applied, a recipe laid under all of it,
//! every flaw named by file, line and key, for every program alike. What the values mean is the law's business.

mod args;
pub mod hub;
mod keys;
mod latency;
mod load;
mod node;
mod overrides;
mod recipe;
mod typed;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use esta_engine::{
    law::Law,
    profile::ProfileMisfit,
    spec::{BudgetSpec, JobSpec, SpecError},
};
use thiserror::Error;

pub use args::JobArgs;
pub use latency::latencies;

use node::Node;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A file's path, or the override on the command line.
    pub origin: Arc<str>,
    /// Line and column from 1; none for an override.
    pub at: Option<(u64, u64)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.origin),
            None => f.write_str(&self.origin),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not YAML, or its top is no mapping.
    #[error("{place}: {flaw}")]
    Yaml {
        /// Where reading stopped.
        place: Place,
        /// What is wrong there.
        flaw: String,
    },
    /// A key is unknown, missing, or its value of the wrong form.
    #[error("{place}: {}{flaw}", prefix(key))]
    Key {
        /// Where the key or value was written.
        place: Place,
        /// Dotted key; empty for the top.
        key: String,
        /// What is wrong with it.
        flaw: String,
    },
    /// A file extends itself.
    #[error("{place}: base: {} extends itself", path.display())]
    Cycle {
        /// The key that closes the circle.
        place: Place,
        /// The file met again.
        path: PathBuf,
    },
    /// An override is not of the form key=value, or cannot be applied.
    #[error("--set {text}: {flaw}")]
    Override {
        /// What was typed.
        text: String,
        /// What is wrong with it.
        flaw: String,
    },
    /// The values do not make a job.
    #[error("{place}: {flaw}")]
    Spec {
        /// Where the offending value was written, as near as it is known.
        place: Place,
        /// The flaw.
        flaw: SpecError,
    },
    /// A file of latencies is of other stitches.
    #[error("{}: {flaw}", path.display())]
    Profile {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        flaw: ProfileMisfit,
    },
    /// A job cannot be written as YAML.
    #[error("the job cannot be written as YAML: {0}")]
    Unwritable(String),
}

impl ConfigError {
    /// A flaw of the law's with the place of its key in the merged files.
    fn of(flaw: SpecError, top: &Node) -> Self {
        Self::Spec { place: top.nearest(&flaw.key).clone(), flaw }
    }
}

fn prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

/// Reads a job from a YAML file and overrides of the form `train.learning_rate=3e-4`, and derives its law.
///
/// # Errors
/// [`ConfigError`] naming the first flaw by file, line and key.
pub fn load(path: &Path, overrides: &[String]) -> Result<Law, ConfigError> {
    let top = tree(path, overrides)?;
    let mut spec: JobSpec = typed::read(&top)?;
    hub::inline(&mut spec, &top)?;
    latency::inline(&mut spec, &top)?;
    law(spec, &top)
}

/// The same for whoever is about to measure the job's latencies: budgets by latency become the default ones, so the file
/// they come from need not be there yet.
///
/// # Errors
/// As [`load`].
pub fn load_unmeasured(path: &Path, overrides: &[String]) -> Result<Law, ConfigError> {
    let top = tree(path, overrides)?;
    let mut spec: JobSpec = typed::read(&top)?;
    hub::inline(&mut spec, &top)?;
    if matches!(spec.budgets, BudgetSpec::Latency(_)) {
        spec.budgets = BudgetSpec::default();
    }
    law(spec, &top)
}

/// The law of a job file, which says nothing that its job does not read.
fn law(spec: JobSpec, top: &Node) -> Result<Law, ConfigError> {
    spec.refuse_unread().and_then(|()| Law::new(spec)).map_err(|flaw| ConfigError::of(flaw, top))
}

/// A file over its bases, under the overrides and over its recipe.
fn tree(path: &Path, overrides: &[String]) -> Result<Node, ConfigError> {
    let mut top = load::merged(path)?;
    for text in overrides {
        overrides::apply(&mut top, text)?;
    }
    recipe::lay_under(&mut top)?;
    Ok(top)
}

/// Writes a resolved job as YAML that [`load`] reads as the same job.
///
/// # Errors
/// [`ConfigError::Unwritable`].
pub fn to_yaml(spec: &JobSpec) -> Result<String, ConfigError> {
    serde_saphyr::to_string(spec).map_err(|error| ConfigError::Unwritable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const TINY: &str = "
name: tiny
family:
  anchors:
    - {name: a, weights: a.safetensors, arch: &arch {image_size: 8, patch_size: 4, embed_dim: 8, depth: 2, num_heads: 2}}
    - name: b
      weights: b.safetensors
      arch: {image_size: 8, patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}
train:
  max_steps: 10
  learning_rate: 1e-4
data:
  num_classes: 2
  train: {layout: idx, path: images, labels: labels}
recipe: paper
";

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("writes");
        }
        folder
    }

    /// The error of a file that extends TINY by `text`, without the folder's name.
    fn flaw(text: &str, overrides: &[&str]) -> String {
        let text = format!("base: tiny.yaml\n{text}");
        let folder = folder(&[("tiny.yaml", TINY), ("job.yaml", &text)]);
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        let error = load(&folder.path().join("job.yaml"), &overrides).expect_err("it is flawed").to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    }

    fn tiny(overrides: &[&str]) -> JobSpec {
        let folder = folder(&[("tiny.yaml", TINY)]);
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        load(&folder.path().join("tiny.yaml"), &overrides).expect("it is whole").spec
    }

    #[test]
    fn numbers_may_be_written_with_exponents() {
        assert_eq!(tiny(&[]).train.learning_rate, 1e-4);
        assert_eq!(tiny(&["train.max_steps=2e3"]).train.max_steps, Some(2000));
        assert_eq!(tiny(&["budgets.gap=1e8"]).budgets, esta_engine::spec::BudgetSpec::Gap(1e8));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_a_suggestion() {
        assert_eq!(
            flaw("train:\n  learning_rat: 1\n", &[]),
            r#"job.yaml:3:3: train: unknown key "learning_rat"; did you mean "learning_rate"?"#
        );
        assert_eq!(flaw("sede: 1\n", &[]), r#"job.yaml:2:1: unknown key "sede"; did you mean "seed"?"#);
        let far = flaw("train: {zzzzzz: 1}\n", &[]);
        assert!(far.starts_with(r#"job.yaml:2:9: train: unknown key "zzzzzz"; known are "#), "{far}");
    }

    #[test]
    fn a_value_of_the_wrong_form_is_refused_with_its_line_and_key() {
        assert_eq!(
            flaw("data:\n  train:\n    path: [a]\n", &[]),
            "job.yaml:4:11: data.train.path: a list, expected a string"
        );
        assert_eq!(
            flaw("sampling: {strategy: importence}\n", &[]),
            r#"job.yaml:2:22: sampling.strategy: unknown value "importence"; did you mean "importance"?"#
        );
        let counted = "job.yaml:2:20: train.max_steps: -4, expected a whole number, 0 or more";
        assert_eq!(flaw("train: {max_steps: -4}\n", &[]), counted);
        assert_eq!(flaw("", &["train=3"]), "--set train=3: train: 3, expected a mapping of keys to values");
    }

    #[test]
    fn a_flaw_in_the_base_is_named_there() {
        let text = TINY.replace("depth: 2", "dept: 2");
        let folder = folder(&[("base.yaml", text.as_str()), ("job.yaml", "base: base.yaml\nseed: 3\n")]);
        let error = load(&folder.path().join("job.yaml"), &[]).expect_err("flawed").to_string();
        assert!(error.contains("base.yaml:5:"), "{error}");
        assert!(error.contains(r#"family.anchors[0].arch: unknown key "dept"; did you mean "depth"?"#), "{error}");
    }

    #[test]
    fn a_missing_key_is_named() {
        let folder = folder(&[("job.yaml", "name: x\n")]);
        let error = load(&folder.path().join("job.yaml"), &[]).expect_err("there is no family").to_string();
        assert!(error.ends_with("job.yaml:1:1: family: the key \"anchors\" is missing"), "{error}");
    }

    #[test]
    fn what_the_law_refuses_is_placed_too() {
        assert_eq!(flaw("pst:\n  lora_r: 0\n", &[]), "job.yaml:3:11: pst.lora_r: 0 is no rank; it is at least 1");
        let overridden = flaw("", &["pst.lora_r=0"]);
        assert_eq!(overridden, "--set pst.lora_r=0: pst.lora_r: 0 is no rank; it is at least 1");
    }

    #[test]
    fn a_job_that_was_written_is_read_as_the_same_job() {
        let spec =
            tiny(&["train.learning_rate=3e-5", "data.normalize={values: {mean: [0.1, 0.2, 0.3], std: [1, 1, 1]}}"]);
        let text = to_yaml(&spec).expect("it can be written");
        let folder = folder(&[("job.yaml", &text)]);
        assert_eq!(load(&folder.path().join("job.yaml"), &[]).expect("it is whole").spec, spec);
    }

    #[test]
    fn overrides_reach_into_lists() {
        let spec = tiny(&["family.anchors[1].weights=c.safetensors", "family.anchors.0.name=ti", "name='7'"]);
        assert_eq!(
            (spec.family.anchors[1].weights.as_str(), spec.family.anchors[0].name.as_str()),
            ("c.safetensors", "ti")
        );
        assert_eq!(spec.name, "7");
    }

    #[test]
    fn an_override_that_cannot_apply_says_so() {
        assert_eq!(flaw("", &["train"]), "--set train: is not of the form key=value");
        assert_eq!(
            flaw("", &["family.anchors[9].name=x"]),
            "--set family.anchors[9].name=x: family.anchors has 2 items"
        );
        assert_eq!(
            flaw("", &["train.lerning_rate=1"]),
            r#"--set train.lerning_rate=1: train: unknown key "lerning_rate"; did you mean "learning_rate"?"#
        );
    }

    #[test]
    fn a_null_takes_back_what_the_base_says() {
        let text = format!("{TINY}budgets: {{gap: 5e8}}\n");
        let folder = folder(&[
            ("base.yaml", text.as_str()),
            ("job.yaml", "base: base.yaml\nbudgets: {gap: null, edges: [1e8, 1e9]}\n"),
        ]);
        let spec = load(&folder.path().join("job.yaml"), &[]).expect("it is whole").spec;
        assert_eq!(spec.budgets, esta_engine::spec::BudgetSpec::Edges(vec![1e8, 1e9]));
    }

    #[test]
    fn a_base_that_is_not_there_is_named_where_it_is_asked_for() {
        let folder = folder(&[("a.yaml", "base: b.yaml\n"), ("b.yaml", "seed: 1\nbase: c.yaml\n")]);
        let error = load(&folder.path().join("a.yaml"), &[]).expect_err("there is no c.yaml").to_string();
        let error = error.replace(&format!("{}/", folder.path().display()), "");
        assert!(error.starts_with("b.yaml:2:7: base: cannot read c.yaml: No such file"), "{error}");
    }

    #[test]
    fn what_the_job_does_not_read_is_refused_where_it_stands() {
        assert_eq!(
            flaw("train:\n  full: true\n", &[]),
            "job.yaml:3:9: train.full: true is for mode: anchor, and mode: pst trains adapters alone; mode: snnet trains \
             every weight"
        );
        let overridden = flaw("family: {space: {kind: twoway, window: 2}}\n", &["family.space.window=3"]);
        assert!(
            overridden.starts_with("--set family.space.window=3: family.space.window: 3 is read where"),
            "{overridden}"
        );
        let labelled = flaw("data: {train: {layout: image_folder}}\n", &[]);
        assert!(
            labelled.contains("tiny.yaml:14:") && labelled.contains("data.train.labels: is read where"),
            "{labelled}"
        );
    }

    #[test]
    fn a_file_that_extends_itself_is_refused() {
        let folder = folder(&[("a.yaml", "base: b.yaml\n"), ("b.yaml", "base: a.yaml\n")]);
        let error = load(&folder.path().join("a.yaml"), &[]).expect_err("it goes round");
        assert!(matches!(error, ConfigError::Cycle { .. }), "{error}");
    }

    #[test]
    fn what_is_no_yaml_is_one_line_with_its_place() {
        let folder = folder(&[("job.yaml", "name: x\ntrain: {a: [1,\n")]);
        let error = load(&folder.path().join("job.yaml"), &[]).expect_err("it breaks off").to_string();
        assert!(error.contains("job.yaml:"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        let folder = folder_with_list();
        let error = load(&folder.path().join("job.yaml"), &[]).expect_err("a list is no job").to_string();
        assert!(error.ends_with("job.yaml:1:1: a job is a mapping of keys to values"), "{error}");
    }

    fn folder_with_list() -> TempDir {
        folder(&[("job.yaml", "- 1\n")])
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        assert_eq!(flaw("seed: 1\nseed: 2\n", &[]), "job.yaml:3:1: duplicate mapping key: seed");
        let infinite = flaw("train: {learning_rate: .inf}\n", &[]);
        assert!(infinite.starts_with("job.yaml") && !infinite.contains("polic"), "{infinite}");
    }
}
