//! What a command line says of a job (HANDS): the same words for every program.

use std::path::PathBuf;

use clap::Args;
use esta_engine::law::Law;

use crate::{ConfigError, load};

/// A job and what is changed about it.
#[derive(Debug, Clone, Args)]
pub struct JobArgs {
    /// The job's YAML file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Set a value, such as train.learning_rate=3e-4 or family.anchors.0.weights=x.safetensors; null takes a key back.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl JobArgs {
    /// Reads the job and derives its law.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first flaw by file, line and key.
    pub fn law(&self) -> Result<Law, ConfigError> {
        load(&self.config, &self.set)
    }
}
