//! Places in object storage, and folders that follow them (HANDS). Blocking; threads of its own speak to the storage, through the
//! `object_store` library.
//!
//! Endpoint, region and credentials come from the `AWS_` variables, as Amazon's own tools know them. What is fetched is compared
//! by size and tag; what is pushed is whole once its last object, [`WHOLE`], is there.

mod bucket;
pub mod cache;
mod error;
mod fetch;
mod kept;
mod ledger;
mod place;
mod push;
mod threads;

pub use bucket::{Access, Bucket, Object};
pub use error::{Cause, ObjectsError};
pub use fetch::Fetched;
pub use kept::{Kept, RunPlace};
pub use place::{Place, PlaceError};
pub use push::Pushed;

/// The object of a folder that says that everything else of it is there.
pub const WHOLE: &str = ".whole";
