//! Named tensors in memory and on disk (TENSOR): safetensors files, read through a memory map and written atomically.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, View};
use tch::{Device, Kind, Tensor};
use thiserror::Error;

use crate::windows::Windows;

/// What can be wrong with a set of weights.
#[derive(Debug, Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bytes are not safetensors, or cannot be made so.
    #[error("{} is not a valid safetensors file", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// A tensor of a type that no state of ours or timm's has.
    #[error("{origin}: tensor {name} has the type {dtype:?}; weights are F16, BF16, F32, F64 or I64")]
    Dtype {
        /// Where it was found.
        origin: String,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
    /// A tensor is not there.
    #[error("{origin} lacks the tensor {name} of shape {expected:?}")]
    Missing {
        /// Where it should be.
        origin: String,
        /// The tensor.
        name: String,
        /// The shape it should have.
        expected: Vec<i64>,
    },
    /// A tensor has another shape than the architecture says.
    #[error("{origin}: tensor {name} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Where it was found.
        origin: String,
        /// The tensor.
        name: String,
        /// The shape it should have.
        expected: Vec<i64>,
        /// The shape it has.
        found: Vec<i64>,
    },
    /// A tensor that would make every loss after it no number.
    #[error("{origin}: tensor {name} holds a value that is not finite")]
    NotFinite {
        /// Where it was found.
        origin: String,
        /// The tensor.
        name: String,
    },
    /// A tensor that the architecture has no place for: the file holds another kind of network.
    #[error("{origin}: tensor {name} has no place in a plain {network} of this depth")]
    Unexpected {
        /// Where it was found.
        origin: String,
        /// The tensor.
        name: String,
        /// The kind of network.
        network: &'static str,
    },
}

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
    /// [`WeightsError::Write`] or [`WeightsError::Format`].
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
        self.tensors.extend(other.tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
    }
}

impl Weights {
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

/// A safetensors file in the address space, not in memory.
#[derive(Debug)]
pub(crate) struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let map = map_file(path).map_err(|source| WeightsError::Read { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), map })
    }

    pub fn tensors(&self) -> Result<SafeTensors<'_>, WeightsError> {
        SafeTensors::deserialize(&self.map).map_err(|source| WeightsError::Format { path: self.path.clone(), source })
    }

    /// A tensor of this shape in the kind and on the device it is used in. Never more than this one lies in memory twice.
    pub fn tensor(
        &self,
        name: &str,
        view: &TensorView<'_>,
        expected: &[i64],
        (kind, device): (Kind, Device),
    ) -> Result<Tensor, WeightsError> {
        let tensor = self.read(&self.find(name, view, expected)?).to_device(device).to_kind(kind);
        self.check_finite(name, &tensor)?;
        Ok(tensor)
    }

    /// Where a tensor of this shape lies.
    pub fn find(&self, name: &str, view: &TensorView<'_>, expected: &[i64]) -> Result<Found, WeightsError> {
        let (origin, name) = (self.path.display().to_string(), name.to_owned());
        let (shape, dtype) = (shape_of(view), view.dtype());
        match floating(dtype) {
            None => Err(WeightsError::Dtype { origin, name, dtype }),
            Some(_) if shape != expected => {
                Err(WeightsError::Shape { origin, name, expected: expected.to_vec(), found: shape })
            }
            Some(kind) => {
                let start = view.data().as_ptr().addr() - self.map.as_ptr().addr();
                Ok(Found { bytes: start..start + view.data().len(), shape, kind })
            }
        }
    }

    /// The numbers of a tensor of this file, on the processor.
    pub fn read(&self, Found { bytes, shape, kind }: &Found) -> Tensor {
        Tensor::from_data_size(&self.map[bytes.clone()], shape, *kind)
    }

    /// A tensor that came from here holds nothing but numbers.
    pub fn check_finite(&self, name: &str, tensor: &Tensor) -> Result<(), WeightsError> {
        match tensor.isfinite().all().int64_value(&[]) {
            0 => Err(WeightsError::NotFinite { origin: self.path.display().to_string(), name: name.to_owned() }),
            _ => Ok(()),
        }
    }

    /// A tensor that a network of this kind has no place for.
    pub fn unexpected(&self, name: &str, network: &'static str) -> WeightsError {
        WeightsError::Unexpected { origin: self.path.display().to_string(), name: name.to_owned(), network }
    }
}

/// A tensor inside a safetensors file.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Its numbers, from the file's first byte.
    bytes: Range<usize>,
    shape: Vec<i64>,
    /// Its own type.
    kind: Kind,
}

/// Writes named tensors to a safetensors file, atomically. The metadata says `format: pt`, as PyTorch's readers expect.
///
/// # Errors
/// [`WeightsError::Write`] or [`WeightsError::Format`].
pub(crate) fn save_tensors<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)>,
    path: &Path,
) -> Result<(), WeightsError> {
    let write = |source| WeightsError::Write { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".tmp-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let views: Vec<_> = tensors.map(|(name, tensor)| (name, SavedTensor::new(tensor))).collect();
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    // safetensors gives its files to their owner alone; models are for whom the user's umask says.
    let usual = File::create(&temporary).and_then(|file| file.metadata()).map_err(write)?.permissions();
    let written = match safetensors::serialize_to_file(views, metadata, &temporary) {
        Err(SafeTensorError::IoError(source)) => Err(write(source)),
        other => other.map_err(|source| WeightsError::Format { path: path.to_owned(), source }),
    };
    let renamed = written.and_then(|()| settle(&temporary, usual, path).map_err(write));
    if renamed.is_err() {
        // Whatever went wrong is the news; a temporary file that cannot be removed either adds nothing to it.
        fs::remove_file(&temporary).ok();
    }
    renamed
}

/// Flushes a finished file and gives it its permissions and its name.
fn settle(temporary: &Path, permissions: fs::Permissions, path: &Path) -> io::Result<()> {
    fs::set_permissions(temporary, permissions)?;
    File::open(temporary)?.sync_all()?;
    fs::rename(temporary, path)?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn map_file(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the map is read while this process holds it; checkpoints are replaced by renaming, never in place.
    unsafe { Mmap::map(&file) }
}

fn tensor_of(name: &str, view: &TensorView<'_>, origin: &str) -> Result<Tensor, WeightsError> {
    let unsupported = || WeightsError::Dtype { origin: origin.to_owned(), name: name.to_owned(), dtype: view.dtype() };
    let kind = match view.dtype() {
        Dtype::I64 => Kind::Int64,
        other => floating(other).ok_or_else(unsupported)?,
    };
    let tensor = Tensor::from_data_size(view.data(), &shape_of(view), kind);
    Ok(if kind == Kind::Int64 { tensor } else { tensor.to_kind(Kind::Float) })
}

fn floating(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F64 => Some(Kind::Double),
        _ => None,
    }
}

/// The shape of a tensor in a file.
pub(crate) fn shape_of(view: &TensorView<'_>) -> Vec<i64> {
    view.shape().iter().map(|&side| i64::try_from(side).expect("sides fit i64")).collect()
}

/// A contiguous tensor on the CPU as safetensors wants to see it.
struct SavedTensor {
    tensor: Tensor,
    shape: Vec<usize>,
}

impl SavedTensor {
    fn new(tensor: &Tensor) -> Self {
        let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        let shape = tensor.size().iter().map(|&side| usize::try_from(side).expect("sides are not negative")).collect();
        Self { tensor, shape }
    }
}

impl View for SavedTensor {
    fn dtype(&self) -> Dtype {
        match self.tensor.kind() {
            Kind::Half => Dtype::F16,
            Kind::BFloat16 => Dtype::BF16,
            Kind::Double => Dtype::F64,
            Kind::Int64 => Dtype::I64,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        self.tensor.copy_data_u8(&mut bytes, self.tensor.numel());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}
