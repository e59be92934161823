//! From a finished run's folder to a cell's result (HANDS).

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use esta_engine::{
    law::Law,
    spec::{JobSpec, SpecError},
    table::Row,
};
use esta_proto::StitchId;
use serde::{Deserialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    cell::{CellResult, Costs, StitchResult},
    history, keep,
    plan::CellId,
    runner::{COSTS, RESUMED, key as job_key},
    selection,
};

/// Why a run's folder is no result.
#[derive(Debug, Error)]
pub enum CollectError {
    /// A file is missing or damaged.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The job cannot be run.
    #[error("job.json holds no valid job")]
    Spec(#[from] SpecError),
    /// The folder holds another job than the cell's: its files changed between planning and running.
    #[error("{} holds the run of another job: a job file changed while the study ran", folder.display())]
    OtherJob {
        /// The run's folder.
        folder: PathBuf,
    },
    /// The run has no checkpoint.
    #[error("{} holds no checkpoint", folder.display())]
    NoCheckpoint {
        /// The run's folder.
        folder: PathBuf,
    },
}

/// Reads the folder of a run that has ended.
///
/// # Errors
/// [`CollectError`].
pub fn collect(folder: &Path, id: &CellId, key: &str) -> Result<CellResult, CollectError> {
    let (law, eval, table) = ended(folder, key)?;
    let kept = folder.join(COSTS);
    // A worker's own measures are of its last sitting alone.
    let one_sitting = !folder.join(RESUMED).exists();
    let costs = match keep::read(&kept).map_err(|source| CollectError::Read { file: kept, source })? {
        Some(costs) => costs,
        None => Costs {
            train_seconds: train_seconds(&folder.join("metrics.jsonl"))?,
            eval_seconds: eval.seconds,
            images: table.version * u64::from(law.spec.train.batch_size),
            held_out: eval.images,
            peak_memory: eval.peak_memory.filter(|_| one_sitting),
            cpu_seconds: eval.cpu_seconds.filter(|_| one_sitting),
            trained_params: law.layout.trainable_params(),
            state_bytes: state_bytes(folder)?,
        },
    };
    let stitches = stitches(folder, &law, &eval, table)?;
    Ok(CellResult { id: id.clone(), key: key.to_owned(), costs, stitches })
}

/// Reads the stitches of a run once more, for rules that were added after it was collected; its costs stay as they are.
///
/// # Errors
/// [`CollectError`].
pub fn collect_again(folder: &Path, old: &CellResult) -> Result<CellResult, CollectError> {
    let (law, eval, table) = ended(folder, &old.key)?;
    Ok(CellResult { stitches: stitches(folder, &law, &eval, table)?, ..old.clone() })
}

fn ended(folder: &Path, key: &str) -> Result<(Law, EvalFile, TableFile), CollectError> {
    let law = Law::new(json::<JobSpec>(&folder.join("job.json"))?)?;
    if job_key(&law.spec) != key {
        return Err(CollectError::OtherJob { folder: folder.to_owned() });
    }
    Ok((law, json(&folder.join("eval.json"))?, json(&folder.join("table.json"))?))
}

fn stitches(folder: &Path, law: &Law, eval: &EvalFile, table: TableFile) -> Result<Vec<StitchResult>, CollectError> {
    let rows: BTreeMap<StitchId, Row> = table.rows.into_iter().map(|entry| (entry.stitch, entry.row)).collect();
    let draws = folder.join("draws.parquet");
    let visits = history::read(&draws).map_err(|source| CollectError::Read { file: draws, source })?;
    let mut values = selection::values(&visits, &law.catalog);
    let stitches = eval.results.iter().filter_map(|result| {
        let stitch = law.catalog.get(result.stitch)?;
        let of_slots = values.remove(&stitch.id).unwrap_or_default();
        let of_probe = result.probe.as_ref().map(selection::probed).unwrap_or_default();
        Some(StitchResult {
            stitch: stitch.id,
            path: stitch.path(&law.spec.family),
            anchor: stitch.is_anchor(),
            budget: stitch.budget,
            macs: stitch.macs,
            params: stitch.params,
            accuracy: result.accuracy,
            halves: result.halves,
            row: rows.get(&stitch.id).copied().unwrap_or_default(),
            values: of_slots.into_iter().chain(of_probe).map(rounded).collect(),
        })
    });
    Ok(stitches.collect())
}

/// Six digits are more than any rule is worth, and results stay small.
fn rounded((rule, value): (String, f64)) -> (String, f64) {
    let short = format!("{value:.5e}").parse().unwrap_or(value);
    (rule, short)
}

/// Seconds between the first and the last line of the metrics, sittings without a line between them included.
fn train_seconds(file: &Path) -> Result<f64, CollectError> {
    let failed = |source| CollectError::Read { file: file.to_owned(), source };
    let text = fs::read_to_string(file).map_err(failed)?;
    let lines = text.lines().map(|line| serde_json::from_str::<MetricsLine>(line).map(|line| line.elapsed));
    let elapsed: Vec<f64> = lines.collect::<Result<_, _>>().map_err(|error| failed(error.into()))?;
    // `elapsed` begins anew with every sitting: each of them counts with its last line.
    let ends = elapsed.iter().zip(elapsed.iter().skip(1).chain([&0.0])).filter(|(here, next)| next < here);
    Ok(ends.map(|(here, _)| here).sum())
}

/// Bytes of the newest checkpoint without the optimizer's state.
fn state_bytes(folder: &Path) -> Result<u64, CollectError> {
    let failed = |source| CollectError::Read { file: folder.to_owned(), source };
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix("checkpoint-")?.parse().ok());
        if let Some(step) = step.filter(|step| newest.as_ref().is_none_or(|(other, _)| step > other)) {
            newest = Some((step, path));
        }
    }
    let (_, newest) = newest.ok_or_else(|| CollectError::NoCheckpoint { folder: folder.to_owned() })?;
    let size = |name: &str| fs::metadata(newest.join(name)).map(|data| data.len());
    Ok(size("adapters.safetensors").map_err(failed)? + size("stitch_layers.safetensors").map_err(failed)?)
}

fn json<T: DeserializeOwned>(file: &Path) -> Result<T, CollectError> {
    let failed = |source| CollectError::Read { file: file.to_owned(), source };
    let text = fs::read(file).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| failed(error.into()))
}

#[derive(Deserialize)]
struct EvalFile {
    images: u64,
    results: Vec<EvalEntry>,
    seconds: f64,
    #[serde(default)]
    peak_memory: Option<u64>,
    #[serde(default)]
    cpu_seconds: Option<f64>,
}

#[derive(Deserialize)]
struct EvalEntry {
    stitch: StitchId,
    accuracy: f64,
    halves: [f64; 2],
    #[serde(default)]
    probe: Option<Probe>,
}

/// What a stitch of `eval.json` shows beside its accuracy, where `eval.probe_images` asked for it; none where it is no
/// number.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Probe {
    /// Mean cross entropy on training images.
    pub train_loss: Option<f64>,
    /// Mean KL from the answers of the path's anchors.
    pub kl_own: Option<f64>,
    /// Mean KL from the answers of the largest anchor.
    pub kl_largest: Option<f64>,
    /// Accuracy on the validation slice.
    pub slice_accuracy: Option<f64>,
    /// Mean cross entropy on it.
    pub slice_loss: Option<f64>,
}

#[derive(Deserialize)]
struct TableFile {
    version: u64,
    rows: Vec<TableEntry>,
}

#[derive(Deserialize)]
struct TableEntry {
    stitch: StitchId,
    #[serde(flatten)]
    row: Row,
}

#[derive(Deserialize)]
struct MetricsLine {
    elapsed: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seconds_of_several_sittings_are_added() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("metrics.jsonl");
        let line = |elapsed: f64| format!("{{\"step\":1,\"elapsed\":{elapsed}}}\n");
        fs::write(&file, [0.5, 2.0, 7.0, 1.0, 4.0].map(line).concat()).expect("writes");
        assert_eq!(train_seconds(&file).expect("reads"), 11.0);
    }

    #[test]
    fn values_keep_six_digits() {
        assert_eq!(rounded(("a".into(), -1.234_567_891)).1, -1.23457);
    }
}
