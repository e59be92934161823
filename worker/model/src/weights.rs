//! Named tensors in memory (TENSOR), and on disk as safetensors files.

mod error;
mod file;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use esta_engine::spec::Precision;
use tch::{Device, Kind, Tensor};

pub use self::error::WeightsError;
use self::file::tensor_of;
pub(crate) use self::file::{Found, MappedFile, save_tensors, shape_of};
use crate::windows::Windows;

/// Named tensors and where they came from. Iteration is in order of name.
#[derive(Debug)]
pub struct Weights {
    origin: String,
    tensors: BTreeMap<String, Tensor>,
    /// What sees to the tensors of blocks, where they take turns in memory.
    windows: Option<Arc<Windows>>,
    /// Whether tensors are kept in the host's memory, wherever they come from.
    on_host: bool,
}

impl Weights {
    /// An empty set; `origin` names it in errors.
    #[must_use]
    pub fn new(origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), tensors: BTreeMap::new(), windows: None, on_host: false }
    }

    /// An empty set that keeps its tensors in the host's memory: for what is made one by one on a device to be written.
    #[must_use]
    pub(crate) fn on_host(origin: impl Into<String>) -> Self {
        Self { on_host: true, ..Self::new(origin) }
    }

    /// Reads every tensor of a safetensors file, or of `model.safetensors` in a folder, onto the CPU: floating-point
    /// tensors as f32, i64 as it is.
    ///
    /// # Errors
    /// [`WeightsError::Read`], [`WeightsError::Format`] or [`WeightsError::Dtype`].
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let path = if path.is_dir() { path.join("model.safetensors") } else { path.to_owned() };
        let file = MappedFile::open(&path)?;
        let mut weights = Self::new(path.display().to_string());
        for (name, view) in file.tensors()?.iter() {
            weights.insert(name, tensor_of(name, &view, &weights.origin)?);
        }
        Ok(weights)
    }

    /// Writes all tensors with their own types: to a temporary file beside `path`, flushed, then renamed over it.
    ///
    /// # Errors
    /// [`WeightsError::Write`], [`WeightsError::Format`] or [`WeightsError::Unwritable`].
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        save_tensors(self.iter(), path)
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        let tensor = if self.on_host { tensor.to_device(Device::Cpu) } else { tensor };
        self.tensors.insert(name.into(), tensor);
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// The tensor of this name, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// The tensor of this name and shape.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] or [`WeightsError::Shape`].
    pub fn expect(&self, name: &str, shape: &[i64]) -> Result<&Tensor, WeightsError> {
        let missing =
            || WeightsError::Missing { origin: self.origin.clone(), name: name.to_owned(), expected: shape.to_vec() };
        let tensor = self.get(name).ok_or_else(missing)?;
        let found = tensor.size();
        if found == shape {
            return Ok(tensor);
        }
        Err(WeightsError::Shape { origin: self.origin.clone(), name: name.to_owned(), expected: shape.to_vec(), found })
    }

    /// Names and tensors in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Where the tensors came from.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Number of elements over all tensors.
    #[must_use]
    pub fn numel(&self) -> usize {
        self.tensors.values().map(Tensor::numel).sum()
    }

    /// The same tensors on a device.
    #[must_use]
    pub fn to_device(&self, device: Device) -> Self {
        self.map(|_, tensor| tensor.to_device(device))
    }

    /// The same tensors in a type.
    #[must_use]
    pub fn to_kind(&self, kind: Kind) -> Self {
        self.map(|_, tensor| tensor.to_kind(kind))
    }

    /// The same tensors, matrices in the type in which they are multiplied: cast once, not in every step, and each given up as
    /// soon as it is. Vectors stay as they are.
    #[must_use]
    pub fn matrices_in(mut self, precision: Precision) -> Self {
        if precision == Precision::Bf16 {
            let matrices =
                self.tensors.iter_mut().filter(|(name, tensor)| name.ends_with(".weight") && tensor.dim() > 1);
            matrices.for_each(|(_, tensor)| *tensor = tensor.to_kind(Kind::BFloat16));
        }
        self
    }

    /// The same tensors; their numbers are shared.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        self.map(|_, tensor| tensor.shallow_clone())
    }

    /// The same names with other tensors.
    pub(crate) fn map(&self, change: impl Fn(&str, &Tensor) -> Tensor) -> Self {
        let tensors = self.tensors.iter().map(|(name, tensor)| (name.clone(), change(name, tensor))).collect();
        Self { origin: self.origin.clone(), tensors, windows: self.windows.clone(), on_host: self.on_host }
    }

    /// Takes over all tensors of `other`, each name behind `prefix`.
    pub fn absorb(&mut self, prefix: &str, other: Self) {
        self.windows = self.windows.take().or(other.windows);
        other.tensors.into_iter().for_each(|(name, tensor)| self.insert(format!("{prefix}{name}"), tensor));
    }

    /// Tensors of blocks are views of these windows from now on.
    pub fn take_turns(&mut self, windows: Arc<Windows>) {
        self.windows = Some(windows);
    }

    /// What sees to the tensors of blocks; none where all of them are there.
    pub(crate) fn windows(&self) -> Option<&Arc<Windows>> {
        self.windows.as_ref()
    }

    /// The same with every tensor there at once: blocks that take turns are read onto the processor.
    #[must_use]
    pub fn whole(&self) -> Self {
        let mut whole = Self { windows: None, ..self.shallow_clone() };
        if let Some(windows) = &self.windows {
            whole.absorb("", windows.all_blocks());
        }
        whole
    }
}
