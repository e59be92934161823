//! A finished or stopped run, read back from its folder (HANDS).

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use esta_engine::{
    palette::Choice,
    spec::{JobSpec, PaletteRule},
    table::Row,
};
use esta_proto::{Step, StitchId};
use serde::Deserialize;

use crate::trainer::{DeviceKind, Job, State};

/// A run's job with the state of one of its checkpoints.
pub struct RunDir {
    /// The folder.
    pub path: PathBuf,
    /// The job.
    pub job: Job,
    /// The checkpoint's state.
    pub state: State,
}

impl RunDir {
    /// Opens a run at a checkpoint, the newest complete one by default.
    ///
    /// # Errors
    /// Naming the file that is absent or damaged.
    pub fn open(path: &Path, checkpoint: Option<Step>, device: DeviceKind) -> anyhow::Result<Self> {
        let mut spec: JobSpec = read_json(&path.join("job.json"))?;
        // The folder may have been moved since.
        spec.output_dir = Some(path.to_string_lossy().into_owned());
        let job = Job::load(spec, device)?;
        let complete = job.checkpoints.complete();
        let step = match checkpoint.or(complete.last().copied()) {
            Some(step) if complete.contains(&step) => step,
            Some(step) => bail!("{} has no complete checkpoint of step {step}, only {complete:?}", path.display()),
            None => bail!("{} holds no complete checkpoint", path.display()),
        };
        let state = State::from_checkpoint(&job, step).with_context(|| format!("checkpoint of step {step}"))?;
        Ok(Self { path: path.to_owned(), job, state })
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
