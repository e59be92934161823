//! Data for workers (HANDS): files -> decoded images, or texts in tokens -> batches, free of libtorch.
//!
//! ```text
//! DatasetSpec -> layout -> Dataset -> Transform -> Loader  -> Prefetcher   training, by sample counter
//!                        Tokenizer -> TextSet  -> HeldOut                 evaluation, in order
//! ```
//! A batch is a function of (spec, seed, sample counters) alone: not of threads, timing or what was asked before, so
//! any worker prepares the same bytes for the same slot (DT-1).

mod dataset;
mod error;
mod held_out;
mod images;
mod layout;
mod loader;
mod pixels;
mod pose;
mod prefetch;
mod resample;
mod samples;
mod select;
mod transform;

pub use dataset::Dataset;
pub use error::DataError;
pub use esta_text::{Origin, Position};
pub use held_out::HeldOut;
pub use images::ImageBatch;
pub use loader::Loader;
pub use pixels::Pixels;
pub use prefetch::{BatchTicket, Prefetcher};
pub use resample::resize;
pub use samples::{Batch, Intake, TextBatch};
pub use transform::{InputShape, Mirror, Transform};
