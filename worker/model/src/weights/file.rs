//! Files of weights (TENSOR): safetensors, read through a memory map and written atomically.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, View};
use tch::{Device, Kind, Tensor};

use super::WeightsError;

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
        SafeTensors::deserialize(&self.map).map_err(|source| {
            let path = self.path.clone();
            if is_pickled(&self.map) { WeightsError::Pickled { path } } else { WeightsError::Format { path, source } }
        })
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
/// [`WeightsError::Write`], [`WeightsError::Format`] or [`WeightsError::Unwritable`].
pub(crate) fn save_tensors<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a Tensor)>,
    path: &Path,
) -> Result<(), WeightsError> {
    let write = |source| WeightsError::Write { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".tmp-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let views = tensors.map(|(name, tensor)| {
        let unwritable = |kind| WeightsError::Unwritable { path: path.to_owned(), name: name.to_owned(), kind };
        Ok((name, SavedTensor::new(tensor).map_err(unwritable)?))
    });
    let views: Vec<_> = views.collect::<Result<_, WeightsError>>()?;
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

/// What `torch.save` writes begins as a zip archive, or as a pickle where PyTorch was older than 1.6.
fn is_pickled(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02\x8a")
}

fn map_file(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the map is read while this process holds it; checkpoints are replaced by renaming, never in place.
    unsafe { Mmap::map(&file) }
}

/// A tensor of a file on the CPU: floating-point numbers as f32, i64 as it is.
pub(super) fn tensor_of(name: &str, view: &TensorView<'_>, origin: &str) -> Result<Tensor, WeightsError> {
    let unsupported = || WeightsError::Dtype { origin: origin.to_owned(), name: name.to_owned(), dtype: view.dtype() };
    let kind = kind_of(view.dtype()).ok_or_else(unsupported)?;
    let tensor = Tensor::from_data_size(view.data(), &shape_of(view), kind);
    Ok(if kind == Kind::Int64 { tensor } else { tensor.to_kind(Kind::Float) })
}

/// Types in files, and in memory.
const KINDS: [(Dtype, Kind); 5] = [
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::I64, Kind::Int64),
];

fn kind_of(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(known, _)| *known == dtype).map(|(_, kind)| *kind)
}

fn dtype_of(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|(_, known)| *known == kind).map(|(dtype, _)| *dtype)
}

fn floating(dtype: Dtype) -> Option<Kind> {
    kind_of(dtype).filter(|kind| *kind != Kind::Int64)
}

/// The shape of a tensor in a file.
pub(crate) fn shape_of(view: &TensorView<'_>) -> Vec<i64> {
    view.shape().iter().map(|&side| i64::try_from(side).expect("sides fit i64")).collect()
}

/// A contiguous tensor on the CPU as safetensors wants to see it.
struct SavedTensor {
    tensor: Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl SavedTensor {
    /// None but its type of one that files do not hold.
    fn new(tensor: &Tensor) -> Result<Self, Kind> {
        let dtype = dtype_of(tensor.kind()).ok_or_else(|| tensor.kind())?;
        let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        let shape = tensor.size().iter().map(|&side| usize::try_from(side).expect("sides are not negative")).collect();
        Ok(Self { tensor, dtype, shape })
    }
}

impl View for SavedTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_torch_save_is_told_from_a_damaged_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let said = |bytes: &[u8]| {
            let path = folder.path().join("anchor.pth");
            fs::write(&path, bytes).expect("writes");
            let error = MappedFile::open(&path).expect("it is there").tensors().expect_err("it is no safetensors");
            (matches!(error, WeightsError::Pickled { .. }), error.to_string())
        };
        for pickled in [&b"PK\x03\x04and what a zip archive holds"[..], b"\x80\x02\x8a\nl\xfc\x9c"] {
            let (told, words) = said(pickled);
            assert!(
                told && words.contains("anchor.pth is a file of torch.save") && words.contains("safetensors"),
                "{words}"
            );
        }
        let (told, words) = said(b"neither of them, but long enough");
        assert!(!told && words.ends_with("anchor.pth is not a valid safetensors file"), "{words}");
    }

    #[test]
    fn a_type_that_files_do_not_hold_is_named_and_nothing_is_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let mask = Tensor::zeros([2], (Kind::Bool, Device::Cpu));
        let error = save_tensors([("mask", &mask)].into_iter(), &path).expect_err("it is no number");
        assert_eq!(error.to_string(), format!("cannot write {}: tensor mask is of type Bool", path.display()));
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
    }
}
