//! Checked conversions between messages and ids (WORDS).

use thiserror::Error;

use crate::{Digest, Fence, Generation, LeaderEpoch, v1};

/// A message that does not say what its type demands.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidMessage {
    /// A required field was absent.
    #[error("{message} lacks its field {field}")]
    Missing {
        /// The message's name.
        message: &'static str,
        /// The absent field.
        field: &'static str,
    },
    /// A digest of another length than 32 bytes.
    #[error("{field} has {length} bytes; a digest has 32")]
    Digest {
        /// The field's name.
        field: &'static str,
        /// The length found.
        length: usize,
    },
    /// A number that is not finite where one is needed.
    #[error("{field} is {value}, which a valid slot never has")]
    Number {
        /// The field's name.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// A list that ends in the middle of an entry, or counts beyond what there can be.
    #[error("{field} is cut short or counts too far")]
    List {
        /// The field's name.
        field: &'static str,
    },
    /// It does not come to what its sender says it comes to.
    #[error("{message} was damaged on its way: it does not come to its field check")]
    Damaged {
        /// The message's name.
        message: &'static str,
    },
}

/// Takes a required field out of a message.
///
/// # Errors
/// [`InvalidMessage::Missing`] when it is absent.
pub fn required<T>(value: Option<T>, message: &'static str, field: &'static str) -> Result<T, InvalidMessage> {
    value.ok_or(InvalidMessage::Missing { message, field })
}

/// Reads a digest field.
///
/// # Errors
/// [`InvalidMessage::Digest`] unless there are exactly 32 bytes.
pub fn digest(bytes: &[u8], field: &'static str) -> Result<Digest, InvalidMessage> {
    Digest::from_bytes(bytes).ok_or(InvalidMessage::Digest { field, length: bytes.len() })
}

impl From<Fence> for v1::Fence {
    fn from(fence: Fence) -> Self {
        Self { epoch: fence.epoch.0, generation: fence.generation.0 }
    }
}

impl From<v1::Fence> for Fence {
    fn from(fence: v1::Fence) -> Self {
        Self { epoch: LeaderEpoch(fence.epoch), generation: Generation(fence.generation) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_field_is_named() {
        let error = required::<u8>(None, "WorkerMessage", "fence").expect_err("nothing is there");
        assert_eq!(error.to_string(), "WorkerMessage lacks its field fence");
    }

    #[test]
    fn a_short_digest_is_refused_with_its_length() {
        assert_eq!(digest(&[1, 2], "plan_digest"), Err(InvalidMessage::Digest { field: "plan_digest", length: 2 }));
    }

    #[test]
    fn fences_survive_the_wire() {
        let fence = Fence { epoch: LeaderEpoch(2), generation: Generation(9) };
        assert_eq!(Fence::from(v1::Fence::from(fence)), fence);
    }
}
