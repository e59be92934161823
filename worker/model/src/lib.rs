//! TENSOR: stitched vision transformers on libtorch.

mod checkpoint;
mod fit;
mod fixed;
mod head;
mod init;
mod linear;
mod merge;
mod network;
mod optim;
mod params;
mod schedule;
mod slot;
mod source;
mod state;
mod stitched;
mod trunk;
mod vit;
mod weights;

pub use checkpoint::{SourceHead, read_vit, tensor_shapes};
pub use fit::{FitError, fit_layers};
pub use fixed::{Reduced, SlotOutcome, StepBuffer};
pub use head::fit_heads;
pub use init::random_vit;
pub use linear::Phase;
pub use merge::{MergedSegment, MergedState};
pub use network::Network;
pub use optim::{AdamW, InvalidStep, Update};
pub use params::{GroupParams, ParamError, ParamStore, ParamTensor, Start};
pub use schedule::Schedule;
pub use slot::{Slot, SlotError, SlotOptions, SlotResult, run_slot};
pub use stitched::{StitchError, StitchedNet};
pub use weights::{Weights, WeightsError};
