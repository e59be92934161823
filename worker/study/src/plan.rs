//! What a study compares (HANDS): targets, seeds, arms, and the claims its page answers.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

mod file;

/// A study as its YAML file says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Name of its folder below `runs/`.
    pub name: String,
    /// Title of its page.
    pub title: String,
    /// What it asks, in a sentence or two.
    pub words: String,
    /// Jobs to adapt to; their files are found beside the study's.
    pub targets: Vec<Target>,
    /// Seeds of the jobs.
    pub seeds: Vec<u64>,
    /// Settings of every cell, as `--set` takes them; an arm's own win.
    #[serde(default)]
    pub set: Vec<String>,
    /// What is compared. The first is what others are measured against where nothing else is said.
    pub arms: Vec<Arm>,
    /// What the page answers, in this order.
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// Angles between the gradients of stitches (the paper's Fig. 2), measured on every target beside its runs.
    #[serde(default)]
    pub angles: Option<AnglesPlan>,
}

/// How angles between gradients are measured: on the job of a target's first cell, before any training.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnglesPlan {
    /// A job file whose training images are the source domain; found beside the study's.
    #[serde(default)]
    pub source: Option<PathBuf>,
    /// Stitches at most, of the first stitched pair of anchors.
    #[serde(default = "AnglesPlan::stitches")]
    pub stitches: usize,
    /// Images behind every gradient.
    #[serde(default = "AnglesPlan::images")]
    pub images: u64,
}

impl AnglesPlan {
    fn stitches() -> usize {
        32
    }

    fn images() -> u64 {
        256
    }
}

/// One target.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Short name, for folders and axes.
    pub name: String,
    /// Its job file.
    pub config: PathBuf,
    /// What its images are.
    #[serde(default)]
    pub words: String,
    /// Where its images come from: targets that name the same source share images or what made them, and are no
    /// independent witnesses.
    #[serde(default)]
    pub images_of: String,
}

/// One way to run a target's job: settings laid over it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Short name, for folders and axes.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub words: String,
    /// Settings as `--set` takes them.
    #[serde(default)]
    pub set: Vec<String>,
    /// Several runs that together are one palette (anchors tuned alone): each with settings of its own.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Only these targets; all of them when empty.
    #[serde(default)]
    pub targets: Vec<String>,
}

/// One run of an arm of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Short name.
    pub name: String,
    /// Settings laid over the arm's.
    pub set: Vec<String>,
}

/// A sentence that figures support or not: `arm` is better than `against`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The sentence.
    pub words: String,
    /// Who is said to be better.
    pub arm: String,
    /// Than whom.
    pub against: String,
    /// Whose sentence it is.
    pub source: Source,
    /// Choices of ours that touch the result, by key or in words.
    #[serde(default)]
    pub ours: Vec<String>,
}

/// Whose claim it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The paper says so.
    Paper,
    /// We hoped so.
    Ours,
}

/// One run of a study.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CellId {
    /// The target's name.
    pub target: String,
    /// The arm's name.
    pub arm: String,
    /// The part's name; empty for an arm of one run.
    pub part: String,
    /// The job's seed.
    pub seed: u64,
}

impl CellId {
    /// Name of its folder and of its result's file.
    #[must_use]
    pub fn name(&self) -> String {
        let part = if self.part.is_empty() { String::new() } else { format!("-{}", self.part) };
        format!("{}--{}{part}--{}", self.target, self.arm, self.seed)
    }
}

/// A cell and how it is run.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Which one.
    pub id: CellId,
    /// Its job file.
    pub config: PathBuf,
    /// Settings, later ones over earlier ones; the seed is among them.
    pub set: Vec<String>,
}

/// Why a study cannot be read.
#[derive(Debug, Error)]
pub enum StudyError {
    /// The file.
    #[error("cannot read the study {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its text.
    #[error("the study {} is not understood: {flaw}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place.
        flaw: String,
    },
    /// What it says does not fit together.
    #[error("the study's {what}: {flaw}")]
    Flaw {
        /// Which part.
        what: String,
        /// What is wrong.
        flaw: String,
    },
}

impl Study {
    /// Reads a study's file, laid over its `base` key by key, arms by name; job files are found beside the file that
    /// names them.
    ///
    /// # Errors
    /// [`StudyError`].
    pub fn read(path: &Path) -> Result<Self, StudyError> {
        let study: Self = serde_json::from_value(Value::Object(file::keys(path)?))
            .map_err(|flaw| StudyError::Yaml { path: path.into(), flaw: flaw.to_string() })?;
        study.validate()?;
        Ok(study)
    }

    /// Checks that names are unique and that what is named is there.
    ///
    /// # Errors
    /// [`StudyError::Flaw`].
    pub fn validate(&self) -> Result<(), StudyError> {
        let targets: Vec<&str> = self.targets.iter().map(|target| target.name.as_str()).collect();
        let arms: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
        named("targets", &targets)?;
        named("arms", &arms)?;
        if self.seeds.is_empty() {
            return Err(flaw("seeds", "is empty"));
        }
        for arm in &self.arms {
            let parts: Vec<&str> = arm.parts.iter().map(|part| part.name.as_str()).collect();
            if !parts.is_empty() {
                named(&format!("arm {} parts", arm.name), &parts)?;
            }
            known(&format!("arm {} targets", arm.name), arm.targets.iter(), &targets)?;
        }
        for claim in &self.claims {
            known("claims", [&claim.arm, &claim.against].into_iter(), &arms)?;
        }
        Ok(())
    }

    /// All cells: seeds in turn, so that one seed of everything is known before the second begins.
    #[must_use]
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for &seed in &self.seeds {
            for arm in &self.arms {
                for target in self.targets.iter().filter(|target| arm.runs_on(&target.name)) {
                    cells.extend(arm.runs().map(|(part, set)| Cell {
                        id: CellId { target: target.name.clone(), arm: arm.name.clone(), part, seed },
                        config: target.config.clone(),
                        set: [self.set.clone(), set, vec![format!("seed={seed}")]].concat(),
                    }));
                }
            }
        }
        cells
    }
}

impl Arm {
    /// Whether the arm runs on a target.
    #[must_use]
    pub fn runs_on(&self, target: &str) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|name| name == target)
    }

    /// Names and settings of its runs.
    fn runs(&self) -> impl Iterator<Item = (String, Vec<String>)> + '_ {
        let whole = self.parts.is_empty().then(|| (String::new(), self.set.clone()));
        let parts = self.parts.iter().map(|part| (part.name.clone(), [self.set.clone(), part.set.clone()].concat()));
        whole.into_iter().chain(parts)
    }
}

fn flaw(what: &str, flaw: impl Into<String>) -> StudyError {
    StudyError::Flaw { what: what.to_owned(), flaw: flaw.into() }
}

/// Names become folders: plain and unique.
fn named(what: &str, names: &[&str]) -> Result<(), StudyError> {
    if names.is_empty() {
        return Err(flaw(what, "is empty"));
    }
    for (place, name) in names.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '+');
        if name.is_empty() || !name.chars().all(plain) || name.contains("--") {
            return Err(flaw(what, format!("{name:?} is no plain name")));
        }
        if names[..place].contains(name) {
            return Err(flaw(what, format!("{name:?} is there twice")));
        }
    }
    Ok(())
}

fn known<'a>(what: &str, names: impl Iterator<Item = &'a String>, all: &[&str]) -> Result<(), StudyError> {
    for name in names {
        if !all.contains(&name.as_str()) {
            return Err(flaw(what, format!("{name:?} is not there; there are {}", all.join(", "))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study() -> Study {
        let target =
            |name: &str| Target { name: name.into(), config: format!("{name}.yaml").into(), ..Target::default() };
        let part = |name: &str| Part { name: name.into(), set: vec![format!("part={name}")] };
        Study {
            name: "s".into(),
            title: "S".into(),
            words: String::new(),
            targets: vec![target("a"), target("b")],
            seeds: vec![0, 1],
            set: vec!["everywhere=1".into()],
            arms: vec![
                Arm { name: "plain".into(), ..Arm::default() },
                Arm {
                    name: "alone".into(),
                    set: vec!["x=1".into()],
                    parts: vec![part("s"), part("l")],
                    targets: vec!["b".into()],
                    ..Arm::default()
                },
            ],
            claims: Vec::new(),
            angles: None,
        }
    }

    #[test]
    fn one_seed_of_everything_comes_before_the_next() {
        let cells = study().cells();
        let names: Vec<String> = cells.iter().map(|cell| cell.id.name()).collect();
        assert_eq!(names[..4], ["a--plain--0", "b--plain--0", "b--alone-s--0", "b--alone-l--0"]);
        assert_eq!(names.len(), 8);
        assert_eq!(cells[2].set, ["everywhere=1", "x=1", "part=s", "seed=0"]);
    }

    #[test]
    fn every_study_that_is_shipped_says_jobs_that_can_run() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/studies");
        let files = std::fs::read_dir(&folder).expect("studies are there").map(|entry| entry.expect("an entry").path());
        let studies: Vec<Study> =
            files.map(|file| Study::read(&file).unwrap_or_else(|error| panic!("{error}"))).collect();
        assert_eq!(studies.len(), 3);
        for study in &studies {
            let cells = crate::runner::keyed(study).unwrap_or_else(|error| panic!("{error:?}"));
            let mut keys: Vec<_> = cells.iter().map(|(cell, key)| (&cell.id.target, key)).collect();
            keys.sort();
            let before = keys.len();
            keys.dedup();
            assert_eq!(keys.len(), before, "two cells of {} are the same job", study.name);
        }
    }

    #[test]
    fn names_that_are_missing_or_twice_are_refused_by_name() {
        let mut twice = study();
        twice.arms[1].name = "plain".into();
        assert_eq!(twice.validate().expect_err("twice").to_string(), "the study's arms: \"plain\" is there twice");
        let mut unknown = study();
        unknown.arms[1].targets = vec!["c".into()];
        let said = unknown.validate().expect_err("unknown").to_string();
        assert_eq!(said, "the study's arm alone targets: \"c\" is not there; there are a, b");
        let mut folder = study();
        folder.targets[0].name = "../a".into();
        assert!(folder.validate().is_err());
    }
}
