//! WORDS: the ids and messages that ESTA's processes exchange. No decision is taken here.
//!
//! With the feature `rpc` the module [`v1`] also holds tonic's client and server of the `Coordinator` service.

mod convert;
mod ids;

pub use convert::{InvalidMessage, digest, required};
pub use ids::{
    AnchorId, BudgetId, Digest, Fence, Generation, GroupId, LayerId, LeaderEpoch, Rank, SessionId, SlotId, Step,
    StitchId,
};

/// The messages of `esta/v1/esta.proto`.
#[allow(missing_docs, clippy::doc_markdown)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/esta.v1.rs"));
}

/// The compiled descriptor set of the messages, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/esta.bin"));

/// The version of the protocol in this crate; both ends of a session must agree on it.
pub const PROTOCOL: u32 = 6;

/// Metadata of a refusal: where the coordinator serves that leads.
pub const LEADER: &str = "esta-leader";

/// Metadata of a refusal: the run is complete, and whoever wants to take part is not needed.
pub const COMPLETE: &str = "esta-complete";

/// Metadata key of the answer of a coordinator whose run cannot go on: nobody can be of help.
pub const FAILED: &str = "esta-failed";

/// Metadata of a refusal: the caller's token was good once, and a newer one may be.
pub const EXPIRED: &str = "esta-expired";
