//! TENSOR: stitched vision transformers and language models on libtorch. No runtime, no rank, no configuration file is known here.
//!
//! # The life of a step
//! [`Weights`] hold frozen tensors by name: anchors under `anchors.{a}.` ([`read_vit`], [`read_llama`], [`random_anchor`]) and stitching
//! layers under `stitch_layers.{l}.` ([`fit_layers`]). A [`ParamStore`] holds what trains, built from the engine's
//! `GroupLayout` and nothing else. A [`StitchedNet`] joins the two into one [`Network`] per stitch.
//!
//! ```text
//! Slot --run_slot--> SlotResult --add_slot--> StepBuffer --all-reduce, into_reduced--> Reduced --AdamW::step--> ParamStore
//!                    loss, score,              fixed point,                             the same bits
//!                    own gradients (SC-1)      own ranks' sum (RD-4)                    on every rank (RD-3)
//! ```
//!
//! # What trains
//! No model file knows the mode. A tensor is the trained one if the layout names it, else the frozen one; adaptation is a
//! value inside a linear map; export is the same network after [`Network::merged`], or as a state by
//! [`StitchedNet::merged_state`].
//!
//! # Equal bits
//! A slot's numbers depend on its stitch, its images and the parameters, not on what ran before or where tensors lie: MKL
//! rounds some products by their operands' alignment, so parameters start on cache lines and everything else is
//! libtorch's own allocation. They do depend on the kind of processor and on libtorch's intra-op threads.
//!
//! # Failures
//! What a file or a specification can cause is an error. What libtorch alone can cause (out of memory) panics, as tch does.

mod build;
mod checkpoint;
mod decode;
mod exported;
mod fit;
mod fixed;
mod head;
mod hub;
mod init;
mod input;
mod linear;
mod llama;
mod merge;
mod network;
mod optim;
mod params;
mod recompute;
mod refine;
mod slot;
mod source;
mod state;
mod stitched;
mod trunk;
mod vit;
mod weights;
mod windows;

pub use checkpoint::{SourceHead, read_vit, tensor_shapes};
pub use decode::Decoder;
pub use exported::read_exported;
pub use fit::{FitError, fit_layers};
pub use fixed::{Reduced, SlotOutcome, StepBuffer};
pub use head::fit_heads;
pub use hub::{HubError, llama_shapes, read_hub_config, read_llama};
pub use init::{random_anchor, random_layers, random_llama, random_vit};
pub use input::{Input, Texts};
pub use linear::Phase;
pub use merge::{MergedSegment, MergedState};
pub use network::Network;
pub use optim::{AdamW, InvalidStep, Update};
pub use params::{GroupParams, ParamError, ParamStore, ParamTensor, Start};
pub use refine::refine_layers;
pub use slot::{PacedSlot, Slot, SlotError, SlotOptions, SlotResult, Teacher, run_slot, wait_for};
pub use stitched::{StitchError, StitchedNet};
pub use weights::{Weights, WeightsError};
pub use windows::{Opening, Windows};
