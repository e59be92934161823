//! What can go wrong with a group, and how libtorch's texts are read (room: HANDS).

use std::fmt;

use crate::group::Backend;
use crate::store::StoreError;

/// A collective, as errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Sum over all ranks, in place.
    AllReduceSum,
    /// Copy of one rank's tensor to all.
    Broadcast {
        /// The rank that is copied from.
        root: u32,
    },
    /// Wait for all ranks.
    Barrier,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllReduceSum => f.write_str("all-reduce"),
            Self::Broadcast { root } => write!(f, "broadcast from rank {root}"),
            Self::Barrier => f.write_str("barrier"),
        }
    }
}

/// What libtorch's text says about a failure. libtorch has no types for these, so this is read from its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A connection to a peer broke: most likely that process has ended.
    PeerLost,
    /// Nothing arrived within the group's time-out.
    TimedOut,
    /// Anything else.
    Other,
}

impl Cause {
    /// Phrases seen in gloo's and NCCL's errors. Gloo words a refused connection as a time-out, so a lost peer comes first.
    fn read(reason: &str) -> Self {
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| reason.contains(phrase));
        if says(&["by peer", "Broken pipe", "Connection refused", "remote process", "ncclRemoteError"]) {
            Self::PeerLost
        } else if says(&["imed out", "imeout"]) {
            Self::TimedOut
        } else {
            Self::Other
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PeerLost => "peer lost",
            Self::TimedOut => "timed out",
            Self::Other => "failed",
        })
    }
}

/// An error of a process group. Texts from libtorch are cut to their first line, without its stack.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum C10dError {
    /// The configuration describes no group.
    #[error("not a process group: {0}")]
    Config(String),
    /// The group was not formed because its store failed.
    #[error("{backend} group not formed on rank {rank} of {world}: its store failed")]
    Store {
        /// Requested backend.
        backend: Backend,
        /// This process.
        rank: u32,
        /// Size of the group.
        world: u32,
        /// What the store said.
        #[source]
        error: StoreError,
    },
    /// The group was not formed: a peer did not come, or could not be reached.
    #[error("{backend} group not formed on rank {rank} of {world}: {cause}: {reason}")]
    Form {
        /// Requested backend.
        backend: Backend,
        /// This process.
        rank: u32,
        /// Size of the group.
        world: u32,
        /// Kind of failure.
        cause: Cause,
        /// First line of libtorch's text.
        reason: String,
    },
    /// A tensor that this operation cannot take.
    #[error("{operation} cannot take this tensor: {reason}")]
    Tensor {
        /// The operation that was asked for.
        operation: Operation,
        /// What is wrong with the tensor.
        reason: String,
    },
    /// A collective failed. The group is of no more use.
    #[error("{operation} (number {sequence} of its group) {cause} on rank {rank} of {world}: {reason}")]
    Collective {
        /// Which collective.
        operation: Operation,
        /// Its number in the group, from 0.
        sequence: u64,
        /// This process.
        rank: u32,
        /// Size of the group.
        world: u32,
        /// Kind of failure.
        cause: Cause,
        /// First line of libtorch's text.
        reason: String,
    },
}

/// libtorch's text, read and cut.
pub(crate) fn read_libtorch(text: &str) -> (Cause, String) {
    let reason = without_places(text.lines().next().unwrap_or("").trim());
    (Cause::read(&reason), reason)
}

/// `line` without the `[file.cc:123] ` that gloo puts before its messages, also where one message quotes another.
fn without_places(line: &str) -> String {
    let mut message = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, bracket)) = rest.split_once('[') {
        message.push_str(before);
        rest = match bracket.split_once("] ") {
            Some((place, after)) if place.contains(".cc:") || place.contains(".h:") => after,
            _ => {
                message.push('[');
                bracket
            }
        };
    }
    message + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_libtorch_are_cut_to_their_message() {
        let text = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711\nstack";
        assert_eq!(read_libtorch(text), (Cause::PeerLost, "Connection closed by peer [127.0.0.1]:4711".to_owned()));
        let (cause, reason) =
            read_libtorch("[x/unbound_buffer.cc:78] Timed out waiting 1000ms for recv operation to complete");
        assert_eq!(
            (cause, reason.as_str()),
            (Cause::TimedOut, "Timed out waiting 1000ms for recv operation to complete")
        );
        let (cause, reason) =
            read_libtorch("Mesh failed with [/a/pair.cc:152] timed out connecting: Connection refused, [::1]:80$0");
        assert_eq!(reason, "Mesh failed with timed out connecting: Connection refused, [::1]:80$0");
        assert_eq!(cause, Cause::PeerLost);
        assert_eq!(read_libtorch("[Rank 3] gave up"), (Cause::Other, "[Rank 3] gave up".to_owned()));
        assert_eq!(read_libtorch(""), (Cause::Other, String::new()));
    }
}
