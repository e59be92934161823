//! What a cell of a study came to (HANDS): one small JSON file, enough for every table and plot of the page.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use esta_engine::{regret::Measured, table::Row};
use esta_proto::{BudgetId, StitchId};
use serde::{Deserialize, Serialize};

use crate::{keep, plan::CellId};

/// A finished cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellResult {
    /// Which cell.
    #[serde(flatten)]
    pub id: CellId,
    /// Digest of the job and of a number raised by hand when the same job comes to something else (`runner::key`).
    pub key: String,
    /// What it took.
    pub costs: Costs,
    /// Evaluated stitches in ascending id.
    pub stitches: Vec<StitchResult>,
}

/// What a run took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Costs {
    /// Seconds of training.
    pub train_seconds: f64,
    /// Processor seconds of the worker that writes, evaluation apart: what training takes whatever else the machine does.
    #[serde(default)]
    pub cpu_seconds: Option<f64>,
    /// Seconds of evaluation.
    pub eval_seconds: f64,
    /// Images trained on, each as often as it was seen.
    pub images: u64,
    /// Held-out images.
    pub held_out: u64,
    /// Peak resident memory of a worker's process before evaluation, in bytes.
    pub peak_memory: Option<u64>,
    /// Numbers that were trained.
    pub trained_params: u64,
    /// Bytes of what has to be kept beside the anchors: adapters, heads, stitching layers.
    pub state_bytes: u64,
}

/// A stitch at the end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StitchResult {
    /// Which stitch.
    pub stitch: StitchId,
    /// Its path in words.
    pub path: String,
    /// Whether it is an anchor alone.
    pub anchor: bool,
    /// Its bin.
    pub budget: BudgetId,
    /// MACs of one image.
    pub macs: u64,
    /// Parameters of the merged model.
    pub params: u64,
    /// Held-out accuracy 0..1.
    pub accuracy: f64,
    /// On images of even and of odd index.
    pub halves: [f64; 2],
    /// Its row of the final table.
    pub row: Row,
    /// What every offline rule says of it (`selection::RULES`), higher is better.
    #[serde(default)]
    pub values: BTreeMap<String, f64>,
}

impl StitchResult {
    /// What the engine's regrets are computed from.
    #[must_use]
    pub fn measured(&self) -> Measured {
        Measured {
            stitch: self.stitch,
            budget: self.budget,
            macs: self.macs,
            row: self.row,
            accuracy: self.accuracy,
            halves: Some(self.halves),
        }
    }
}

impl CellResult {
    /// The file of a cell in a folder of results.
    #[must_use]
    pub fn path(folder: &Path, id: &CellId) -> PathBuf {
        folder.join(format!("{}.json", id.name()))
    }

    /// The result of a cell, if there is one of this key.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn find(folder: &Path, id: &CellId, key: &str) -> io::Result<Option<Self>> {
        let kept: Option<Self> = keep::read(&Self::path(folder, id))?;
        Ok(kept.filter(|result| result.key == key))
    }

    /// Writes the result, in one piece or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, folder: &Path) -> io::Result<()> {
        keep::write(&Self::path(folder, &self.id), self)
    }
}
