//! Deployable files of a run (HANDS): a stitch as a model of its own, or the whole run as one bundle.
//!
//! ```text
//! Vision:
//! export/stitch-<id>/  model.safetensors  config.json  modeling_stitched_vit.py  README.md   one merged stitch
//! export/bundle/       the same four files                                                  every stitch, unmerged
//! ```
//! The modelling file needs PyTorch alone and loads either. A lone anchor's folder is an ordinary timm checkpoint too.
//! Language: a Hugging Face folder per stitch, an adapter for a lone anchor, or a bundle, see `language.rs`.

mod bundle;
mod config;
mod folder;
mod language;
mod timm;

use std::{collections::BTreeMap, io, path::Path, path::PathBuf};

use esta_engine::{cost::Task, law::Law, palette::Choice, run::Finish, spec::PaletteRule, table::Row};
use esta_model::{ParamStore, StitchError, StitchedNet, Weights, WeightsError};
use esta_proto::StitchId;
use thiserror::Error;

pub use language::{Heads, Vocabulary, save_anchor};

use crate::{
    eval::Exported,
    trainer::{Family, State},
};

/// What each rule chose, as `Finish` carries it.
pub type Palettes = [(PaletteRule, Vec<Choice>)];

/// Why a model cannot be exported.
#[derive(Debug, Error)]
pub enum ExportError {
    /// Tensors.
    #[error("the tensors of the model")]
    Weights(#[from] WeightsError),
    /// The stitch.
    #[error("the stitch cannot be merged")]
    Stitch(#[from] StitchError),
    /// A file or folder.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The stitch has no such form.
    #[error("stitch {stitch} cannot be exported in this form")]
    Form {
        /// The stitch.
        stitch: StitchId,
        /// Why not.
        source: NoForm,
    },
    /// The folder holds something else, which must not be lost.
    #[error("{} exists and is no exported model: it is not replaced", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
}

/// Why a model has no form that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoForm {
    /// llama.cpp's files.
    #[error(
        "--gguf is not supported: GGUF has no form for a model of two widths; leave it out for a Hugging Face folder, which \
         llama.cpp's own convert_hf_to_gguf.py can convert where it holds a lone anchor of ordinary architecture"
    )]
    Gguf,
    /// A path through several anchors.
    #[error("a stitched path is no adapter of one model: export it merged, without --adapter")]
    StitchedAdapter,
    /// An adapter of a vision transformer.
    #[error("adapters are made of language models only: export it merged, without --adapter")]
    VisionAdapter,
    /// Everything was trained, or no map is a target.
    #[error("the run trained no low-rank pairs on it, so there is no adapter: export it merged, without --adapter")]
    NothingAdapted,
    /// Heads of a vision transformer.
    #[error("only language models have their heads filled up: leave out --pad-heads")]
    VisionHeads,
}

/// The models of a run, ready to be written.
pub struct Models<'a> {
    law: &'a Law,
    store: &'a ParamStore,
    /// Anchors and fitted stitching layers.
    frozen: Weights,
    /// In single precision, whatever the run trained in: merged weights must not be rounded. Language models come as they are
    /// read, and are merged in single precision all the same.
    net: StitchedNet,
    /// Of a family of language models.
    vocabulary: Option<Vocabulary>,
    /// Of language models.
    heads: Heads,
}

/// Exports every stitch that any rule chose, each once, as `export/stitch-<id>/` under the run's folder.
///
/// # Errors
/// [`ExportError`]; the models written before stay.
pub fn palette(family: &Family, state: &State, finish: &Finish, run_dir: &Path) -> Result<Vec<Exported>, ExportError> {
    Models::of(family, state)?.write_palette(&finish.palettes, run_dir, "export")
}

impl<'a> Models<'a> {
    /// The models of a state of a job's family.
    ///
    /// # Errors
    /// [`ExportError::Weights`] when the state does not fit the family.
    pub fn of(family: &'a Family, state: &'a State) -> Result<Self, ExportError> {
        let mut frozen = family.anchors.to_device(family.device);
        frozen.absorb("", state.layers.to_device(family.device));
        let models = Self::new(&family.law, &state.store, frozen)?;
        Ok(Self { vocabulary: Vocabulary::of(family), ..models })
    }

    /// The models of trained parameters over `frozen`: anchors under `anchors.{a}.`, stitching layers under
    /// `stitch_layers.{l}.` where they do not train, all on one device.
    ///
    /// # Errors
    /// [`ExportError::Weights`] for a tensor that neither has.
    pub fn new(law: &'a Law, store: &'a ParamStore, frozen: Weights) -> Result<Self, ExportError> {
        let net = StitchedNet::new(&law.catalog, store, &frozen, &law.spec.pst, law.spec.frozen_precision())?;
        Ok(Self { law, store, frozen, net, vocabulary: None, heads: Heads::AsTrained })
    }

    /// The same of language models, which speak this vocabulary.
    #[must_use]
    pub fn speaking(self, vocabulary: Vocabulary) -> Self {
        Self { vocabulary: Some(vocabulary), ..self }
    }

    /// The same, attention of merged language models in this form.
    #[must_use]
    pub fn with_heads(self, heads: Heads) -> Self {
        Self { heads, ..self }
    }

    /// Writes every stitch that any rule chose, each once, as `stitch-<id>/` in `base/inside`. Paths in the result are
    /// relative to `base`.
    ///
    /// # Errors
    /// [`ExportError`]; the models written before stay.
    pub fn write_palette(&self, palettes: &Palettes, base: &Path, inside: &str) -> Result<Vec<Exported>, ExportError> {
        let mut stitches: Vec<StitchId> =
            palettes.iter().flat_map(|(_, choices)| choices).map(|choice| choice.stitch).collect();
        stitches.sort_unstable();
        stitches.dedup();
        let export = |stitch| {
            let path = Path::new(inside).join(stitch_folder(stitch));
            self.write_stitch(stitch, palettes, &base.join(&path))?;
            Ok(Exported { stitch, path: path.display().to_string() })
        };
        stitches.into_iter().map(export).collect()
    }

    /// Writes one merged stitch as a standalone folder: all of it or nothing. An older export there is replaced.
    ///
    /// # Errors
    /// [`ExportError`] naming the file and the cause.
    pub fn write_stitch(&self, stitch: StitchId, palettes: &Palettes, target: &Path) -> Result<(), ExportError> {
        let merged = self.net.merged_state(&self.law.catalog, stitch)?;
        let entry = self.law.catalog.get(stitch).ok_or(StitchError::Unknown(stitch))?;
        if let Some(vocabulary) = &self.vocabulary {
            let writer = language::Writer { law: self.law, vocabulary, palettes, heads: self.heads };
            return writer.write(entry, &merged, target);
        }
        if self.heads == Heads::Padded {
            return Err(ExportError::Form { stitch, source: NoForm::VisionHeads });
        }
        let config = config::StitchConfig::new(&self.law.spec, entry, &merged.segments, palettes);
        let readme = config::stitch_readme(&config, &entry.path(&self.law.spec.family));
        folder::replace(target, Some(folder::VIT), |files| {
            files.tensors(&merged.weights)?;
            files.json("config.json", &config)?;
            files.text("README.md", &readme)
        })
    }

    /// Writes what the run added to a lone anchor, as a PEFT adapter: all of it or nothing. An older export there is
    /// replaced.
    ///
    /// # Errors
    /// [`ExportError::Form`] for a stitched path, a vision transformer and where nothing is adapted; others name the file
    /// and the cause.
    pub fn write_adapter(&self, stitch: StitchId, palettes: &Palettes, target: &Path) -> Result<(), ExportError> {
        let entry = self.law.catalog.get(stitch).ok_or(StitchError::Unknown(stitch))?;
        match self.law.catalog.task {
            Task::Classify { .. } => Err(ExportError::Form { stitch, source: NoForm::VisionAdapter }),
            Task::Speak { .. } => language::write_adapter(self.law, self.store, entry, palettes, target),
        }
    }

    /// Writes the whole run as one folder: all of it or nothing. `table` holds the rows of the run's table, by
    /// which the bundle answers budgets; without them it still switches stitches by number. An older export is replaced.
    ///
    /// # Errors
    /// [`ExportError`] naming the file and the cause.
    pub fn write_bundle(&self, table: &[(StitchId, Row)], target: &Path) -> Result<(), ExportError> {
        let rows: BTreeMap<StitchId, Row> = table.iter().copied().collect();
        let tensors = bundle::tensors(self.law, self.store, &self.frozen.whole());
        if let Some(vocabulary) = &self.vocabulary {
            return language::write_bundle(self.law, &tensors, &rows, vocabulary, target);
        }
        let config = bundle::BundleConfig::new(self.law, &rows);
        folder::replace(target, Some(folder::VIT), |files| {
            files.tensors(&tensors)?;
            files.json("config.json", &config)?;
            files.text("README.md", &bundle::readme(&config))
        })
    }
}

/// The folder of a standalone stitch.
#[must_use]
pub fn stitch_folder(stitch: StitchId) -> String {
    format!("stitch-{stitch}")
}

/// The folder of a lone anchor's adapter.
#[must_use]
pub fn adapter_folder(stitch: StitchId) -> String {
    format!("adapter-{stitch}")
}
