//! The jobs that are served (HANDS): nobody opens the files they name.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde_json::{Value, json};

/// Samples of the training set that every rank claims to see.
pub const SAMPLES: u64 = 1_281_167;

/// Whose stitches are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Two anchors of three blocks: little to draw from, little to say.
    Tiny,
    /// ViT-Ti/S/B: what a real run has to say.
    Vit,
}

/// What is particular about a job.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Its anchors.
    pub family: Family,
    /// Slots of a step.
    pub slots: u32,
    /// Steps of the run.
    pub steps: u64,
    /// Plans that are in hand while a step commits.
    pub lookahead: u32,
}

impl Job {
    /// Writes the job file; the run goes to `run` beside it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        let path = folder.join("job.yaml");
        let text = serde_json::to_string_pretty(&self.spec(&folder.join("run")))?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    fn spec(&self, run: &Path) -> Value {
        let (anchors, gap) = match self.family {
            Family::Tiny => {
                let arch = |width: u32| json!({"image_size": 8, "patch_size": 4, "embed_dim": width, "depth": 3, "num_heads": 2});
                (
                    vec![
                        json!({"name": "a", "arch": arch(8), "weights": "a"}),
                        json!({"name": "b", "arch": arch(16), "weights": "b"}),
                    ],
                    1e4,
                )
            }
            Family::Vit => {
                let preset =
                    |size: &str| json!({"name": size, "preset": format!("vit_{size}_patch16_224"), "weights": size});
                (["tiny", "small", "base"].map(preset).to_vec(), 1e9)
            }
        };
        json!({
            "name": "load",
            "output_dir": run,
            "family": {"anchors": anchors},
            "budgets": {"gap": gap},
            "sampling": {"slots": self.slots, "lookahead": self.lookahead},
            "train": {"max_steps": self.steps, "batch_size": self.slots},
            "data": {"num_classes": 10, "train": {"layout": "idx", "path": "x"}},
            // Whether ranks live is not what is measured: a busy machine loses nobody.
            "timeouts": {"keepalive": 60, "phase": 90},
        })
    }
}
