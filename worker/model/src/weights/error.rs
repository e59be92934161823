//! What can be wrong with weights (TENSOR).

use std::io;
use std::path::PathBuf;

use safetensors::tensor::{Dtype, SafeTensorError};
use tch::Kind;
use thiserror::Error;

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
    /// A file of PyTorch's own making, which unpickling would run.
    #[error("{} is a file of torch.save; weights are read from safetensors: write it with safetensors.torch.save_file", path.display())]
    Pickled {
        /// The file.
        path: PathBuf,
    },
    /// A tensor of a type that no state of ours or timm's has.
    #[error("{origin}: tensor {name} has the type {dtype:?}; weights are F16, BF16, F32 or F64, and counts I64")]
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
    /// A tensor of a type that files of weights do not hold here.
    #[error("cannot write {}: tensor {name} is of type {kind:?}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        kind: Kind,
    },
    /// Counts that are no whole numbers: somebody wrote the file anew.
    #[error("{}: tensor {name} is of type {kind:?}; counts are Int64", path.display())]
    Counts {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        kind: Kind,
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
