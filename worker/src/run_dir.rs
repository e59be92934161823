//! A finished or stopped run, read back from its folder (HANDS).

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use esta_engine::{
    palette::Choice,
    spec::{JobSpec, PaletteRule},
    table::Row,
};
use esta_objects::Place;
use esta_proto::{Step, StitchId};
use serde::Deserialize;

use crate::trainer::{DeviceKind, Family, State};

/// A run's family with the state of one of its checkpoints; no image is opened for it.
pub struct RunDir {
    /// The folder.
    pub path: PathBuf,
    /// Its networks.
    pub family: Family,
    /// The checkpoint's state.
    pub state: State,
}

impl RunDir {
    /// Opens a run at a checkpoint, the newest complete one by default.
    ///
    /// # Errors
    /// Naming the file that is absent or damaged.
    pub fn open(path: &Path, checkpoint: Option<Step>, device: DeviceKind) -> anyhow::Result<Self> {
        let mut spec = job(path)?;
        // The folder may have been moved since.
        spec.output_dir = Some(path.to_string_lossy().into_owned());
        let absent = absent_anchors(&spec);
        let needs = || match absent.is_empty() {
            true => format!("the family of the run in {} does not load", path.display()),
            false => format!("the run in {} needs its anchors; not there: {}", path.display(), absent.join(", ")),
        };
        let family = Family::load(spec, device).with_context(needs)?;
        let complete = family.checkpoints.complete()?;
        let step = match checkpoint.or(complete.last().copied()) {
            Some(step) if complete.contains(&step) => step,
            Some(step) if !complete.is_empty() => {
                bail!("{} has no complete checkpoint of step {step}, only {}", path.display(), listed(&complete))
            }
            _ => bail!("{} holds no complete checkpoint", path.display()),
        };
        let state = State::from_checkpoint(&family, step).with_context(|| format!("checkpoint of step {step}"))?;
        Ok(Self { path: path.to_owned(), family, state })
    }

    /// What each rule chose, from `palette.json`.
    ///
    /// # Errors
    /// When the run has not written its palette.
    pub fn palettes(&self) -> anyhow::Result<Vec<(PaletteRule, Vec<Choice>)>> {
        let file: PaletteFile = read_json(&self.path.join("palette.json"))?;
        Ok(file.palettes.into_iter().map(|palette| (palette.rule, palette.choices)).collect())
    }

    /// The final table by stitch, from `table.json`.
    ///
    /// # Errors
    /// When the run has not written its table.
    pub fn table(&self) -> anyhow::Result<Vec<(StitchId, Row)>> {
        let file: TableFile = read_json(&self.path.join("table.json"))?;
        Ok(file.rows.into_iter().map(|entry| (entry.stitch, entry.row)).collect())
    }
}

/// The job of a run's folder, as it was resolved.
///
/// # Errors
/// When `job.json` is absent or damaged.
pub fn job(path: &Path) -> anyhow::Result<JobSpec> {
    read_json(&path.join("job.json"))
}

/// Steps in words: `80, 100 and 120`.
fn listed(steps: &[Step]) -> String {
    let words: Vec<String> = steps.iter().map(Step::to_string).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// All at once: whoever moved a run's folder has to bring them all.
fn absent_anchors(spec: &JobSpec) -> Vec<String> {
    let absent = spec
        .family
        .anchors
        .iter()
        .filter(|anchor| !Place::is_meant(&anchor.weights) && !Path::new(&anchor.weights).exists());
    absent.map(|anchor| format!("{:?} at {}", anchor.name, anchor.weights)).collect()
}

#[derive(Deserialize)]
struct PaletteFile {
    palettes: Vec<PaletteEntry>,
}

#[derive(Deserialize)]
struct PaletteEntry {
    rule: PaletteRule,
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct TableFile {
    rows: Vec<TableEntry>,
}

#[derive(Deserialize)]
struct TableEntry {
    stitch: StitchId,
    #[serde(flatten)]
    row: Row,
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_told_in_words() {
        let told = |steps: &[u64]| listed(&steps.iter().copied().map(Step).collect::<Vec<_>>());
        assert_eq!([told(&[80]), told(&[80, 100]), told(&[80, 100, 120])], ["80", "80 and 100", "80, 100 and 120"]);
    }
}
