//! Language models on disk (TENSOR): a Hugging Face folder, one safetensors file or several with an index, each tensor
//! taken out of its memory map straight into the type and onto the device it is used in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use esta_engine::arch::{HubConfig, HubConfigFlaw, LlamaArch};
use esta_engine::groups::{Param, anchor_tensors};
use esta_engine::spec::Precision;
use serde::Deserialize;
use tch::{Device, Kind};
use thiserror::Error;

use crate::weights::{MappedFile, Weights, WeightsError, shape_of};

/// What can be wrong with a Hugging Face folder.
#[derive(Debug, Error)]
pub enum HubError {
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not the JSON it should be.
    #[error("{} is not what it should be", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A network of another kind.
    #[error("{}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: HubConfigFlaw,
    },
    /// A file that the index names.
    #[error("{} is missing; {} tensors lie in it, {first} among them", path.display(), tensors)]
    Shard {
        /// The file.
        path: PathBuf,
        /// How many tensors the index finds there.
        tensors: usize,
        /// The first of them.
        first: String,
    },
    /// A head of its own where the configuration says that it is the embedding.
    #[error(
        "{}: lm_head.weight is another matrix than model.embed_tokens.weight, though config.json ties them: say \
         tie_word_embeddings: false there, and in the job's config if it has one",
        folder.display()
    )]
    Untied {
        /// The folder.
        folder: PathBuf,
    },
    /// A tensor.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// What the `config.json` of a Hugging Face folder says.
///
/// # Errors
/// [`HubError`] naming the file and what is wrong with it.
pub fn read_hub_config(folder: &Path) -> Result<LlamaArch, HubError> {
    let path = folder.join("config.json");
    let config: HubConfig = read_json(&path)?;
    config.try_into().map_err(|source| HubError::Config { path, source })
}

/// Reads an anchor from a Hugging Face folder, onto a device: matrices in the type they are multiplied in, vectors in
/// single precision. Names are the checkpoint's.
///
/// # Errors
/// [`HubError`] naming the file and the tensor: for a missing file or tensor, one of another shape or type, one that the
/// architecture has no place for, one with a value that is not finite, a head that is not the embedding it is tied to.
pub fn read_llama(folder: &Path, arch: &LlamaArch, precision: Precision, device: Device) -> Result<Weights, HubError> {
    let mut census = Census::of(arch);
    let mut weights = Weights::new(folder.display().to_string());
    for path in &Files::of(folder)?.paths {
        let file = MappedFile::open(path)?;
        for (name, view) in file.tensors()?.iter() {
            if let Some(shape) = census.take(&file, name)? {
                weights.insert(name, file.tensor(name, &view, &shape, (kind_of(&shape, precision), device))?);
            }
        }
    }
    census.finish(folder)?;
    Ok(weights)
}

/// The tensors of a decoder that have not been met yet in its folder.
pub(crate) struct Census<'a> {
    arch: &'a LlamaArch,
    missing: BTreeMap<String, Vec<i64>>,
    met: BTreeSet<String>,
}

impl<'a> Census<'a> {
    pub fn of(arch: &'a LlamaArch) -> Self {
        Self { arch, missing: llama_shapes(arch).into_iter().collect(), met: BTreeSet::new() }
    }

    /// The shape that a tensor of a file should have; none for one that is not needed, or not once more.
    pub fn take(&mut self, file: &MappedFile, name: &str) -> Result<Option<Vec<i64>>, WeightsError> {
        match self.missing.remove(name) {
            Some(shape) => {
                self.met.insert(name.to_owned());
                Ok(Some(shape))
            }
            None if is_known(name, self.arch) || self.met.contains(name) => Ok(None),
            None => Err(file.unexpected(name, "decoder")),
        }
    }

    /// All of them were met, and a second copy of a tied matrix is one.
    pub fn finish(mut self, folder: &Path) -> Result<(), HubError> {
        match self.missing.pop_first() {
            None if self.arch.tie_word_embeddings => check_tied(folder),
            None => Ok(()),
            Some((name, expected)) => {
                Err(WeightsError::Missing { origin: folder.display().to_string(), name, expected }.into())
            }
        }
    }
}

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// A folder with a head beside the embedding holds the same matrix twice: transformers unties them where they differ, and the
/// network would be another. Bytes are compared where they are mapped: neither matrix is copied.
fn check_tied(folder: &Path) -> Result<(), HubError> {
    let files = Files::of(folder)?.open()?;
    let files = files.iter().map(MappedFile::tensors).collect::<Result<Vec<_>, _>>()?;
    let find = |name| files.iter().find_map(|file| file.tensor(name).ok());
    match (find(EMBEDDING), find(HEAD)) {
        (Some(embedding), Some(head)) if embedding != head => Err(HubError::Untied { folder: folder.to_owned() }),
        _ => Ok(()),
    }
}

/// The part of a `config.json` that says whether the head is the embedding.
#[derive(Deserialize)]
struct Ties {
    #[serde(default)]
    tie_word_embeddings: Option<bool>,
}

/// Every tensor of a Hugging Face folder, as [`read_llama`] reads them, whatever their shapes.
pub(crate) fn read_tensors(folder: &Path, precision: Precision, device: Device) -> Result<Weights, HubError> {
    if read_json::<Ties>(&folder.join("config.json"))?.tie_word_embeddings == Some(true) {
        check_tied(folder)?;
    }
    let mut weights = Weights::new(folder.display().to_string());
    for path in &Files::of(folder)?.paths {
        let file = MappedFile::open(path)?;
        for (name, view) in file.tensors()?.iter() {
            let shape = shape_of(&view);
            weights.insert(name, file.tensor(name, &view, &shape, (kind_of(&shape, precision), device))?);
        }
    }
    Ok(weights)
}

/// The type that a tensor of this shape is used in.
pub(crate) fn kind_of(shape: &[i64], precision: Precision) -> Kind {
    match precision {
        Precision::Bf16 if shape.len() > 1 => Kind::BFloat16,
        Precision::F32 | Precision::Bf16 => Kind::Float,
    }
}

/// Names and shapes of a decoder's tensors in Hugging Face's state; a tied head has none of its own.
#[must_use]
pub fn llama_shapes(arch: &LlamaArch) -> Vec<(String, Vec<i64>)> {
    let signed = |size| i64::try_from(size).expect("sizes fit i64");
    let shape = |param: Param| (param.name, param.shape.into_iter().map(signed).collect());
    anchor_tensors(&arch.clone().into()).into_iter().map(shape).collect()
}

/// Tensors that some checkpoints carry and no network needs: rotations that follow from the configuration, and the second
/// copy of a tied matrix.
fn is_known(name: &str, arch: &LlamaArch) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (arch.tie_word_embeddings && name == HEAD)
}

/// The safetensors files of a folder, in byte order of their names.
pub(crate) struct Files {
    paths: Vec<PathBuf>,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Files {
    pub fn of(folder: &Path) -> Result<Self, HubError> {
        let index = folder.join("model.safetensors.index.json");
        if !index.exists() {
            return Ok(Self { paths: vec![folder.join("model.safetensors")] });
        }
        let Index { weight_map } = read_json(&index)?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
        match names.iter().zip(&paths).find(|(_, path)| !path.is_file()) {
            None => Ok(Self { paths }),
            Some((name, path)) => {
                let inside = || weight_map.iter().filter(|(_, file)| *file == *name).map(|(tensor, _)| tensor);
                let (tensors, first) = (inside().count(), inside().next().cloned().unwrap_or_default());
                Err(HubError::Shard { path: path.clone(), tensors, first })
            }
        }
    }

    /// All of them in the address space.
    pub fn open(&self) -> Result<Vec<MappedFile>, WeightsError> {
        self.paths.iter().map(|path| MappedFile::open(path)).collect()
    }
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, HubError> {
    let text = fs::read(path).map_err(|source| HubError::Read { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| HubError::Json { path: path.to_owned(), source })
}
