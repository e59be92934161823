//! The ids of a run as types of their own (WORDS): one cannot be passed where another is meant.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The id as an index into a dense array.
            #[must_use]
            pub fn index(self) -> usize {
                usize::try_from(self.0).expect("ids fit the address space")
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

id! {
    /// A stitch's number in the catalog of its run.
    StitchId(u32)
}
id! {
    /// An anchor's place in its family, smallest cost first.
    AnchorId(u32)
}
id! {
    /// A stitching layer of the run; several stitches may share one.
    LayerId(u32)
}
id! {
    /// A parameter group's place in the catalog's group order, the order of every reduction (RD-1).
    GroupId(u32)
}
id! {
    /// A bin of the catalog by cost.
    BudgetId(u32)
}
id! {
    /// A slot's place inside its step.
    SlotId(u32)
}
id! {
    /// A step of training: 0 is the first.
    Step(u64)
}
id! {
    /// A worker's place in the process group of one generation.
    Rank(u32)
}
id! {
    /// One membership of the process group; a loss or a join makes the next one (MB-1).
    Generation(u64)
}
id! {
    /// One coordinator's term of office; comes from the store and never restarts (MB-1).
    LeaderEpoch(u64)
}
id! {
    /// One session of one worker process, numbered by the coordinator in order of arrival; never reused in an epoch.
    SessionId(u64)
}

impl Step {
    /// The step after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The fence of a message: who led and which membership held when it was sent. Fences order by epoch, then generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Fence {
    /// The leader's term.
    pub epoch: LeaderEpoch,
    /// The membership.
    pub generation: Generation,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(epoch {}, generation {})", self.epoch, self.generation)
    }
}

/// A 256-bit digest: of a plan, of a reduced buffer, of a spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads a digest from the bytes of a message; `None` unless there are exactly 32.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes: Option<Vec<u8>> = (text.len() == 64 && text.is_ascii())
            .then(|| (0..64).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect())
            .flatten();
        bytes
            .as_deref()
            .and_then(Self::from_bytes)
            .ok_or_else(|| serde::de::Error::custom(format!("a digest is 64 hexadecimal digits, not {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_epoch_outranks_any_generation() {
        let old = Fence { epoch: LeaderEpoch(3), generation: Generation(900) };
        let new = Fence { epoch: LeaderEpoch(4), generation: Generation(1) };
        assert!(old < new);
        assert!(new < Fence { generation: Generation(2), ..new });
    }

    #[test]
    fn a_digest_is_exactly_32_bytes() {
        assert_eq!(Digest::from_bytes(&[7; 32]), Some(Digest([7; 32])));
        assert_eq!(Digest::from_bytes(&[7; 31]), None);
        assert_eq!(Digest([0xab; 32]).to_string(), "ab".repeat(32));
    }
}
