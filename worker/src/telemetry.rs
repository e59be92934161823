//! What a worker measures and traces of its own work (HANDS).
//!
//! ```text
//! step (esta-coordinator)
//! └── rank step       one per rank: generation, wait for the plan
//!     ├── slot        per slot: stitch, samples, loss, score
//!     │   ├── forward
//!     │   └── backward
//!     ├── all-reduce
//!     └── apply
//! ```

mod meters;
mod traced;
mod tracks;

pub use self::{
    meters::{Meters, Place},
    traced::{Traced, TracedSlot},
    tracks::{Part, Tracks},
};
