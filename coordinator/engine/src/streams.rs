//! Named random streams (LAW): every random number of a run has one home, (seed, stream, index).
//!
//! A stream is keyed, not consumed: what one purpose draws never shifts what another sees, whatever the order of
//! arrival, the number of workers or the failures in between (ST-2).

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What the randomness is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The draw of a slot's stitch; index = step * slots + slot.
    Draw,
    /// The order in which a bin's stitches get their first visits; index = 0.
    WarmOrder,
    /// The permutation of the training set in one epoch; index = epoch.
    DataOrder,
    /// The order of steps whose samples are grouped by length; indexed by epoch.
    Grouping,
    /// Augmentation of one sample in one epoch; index = epoch * samples + sample.
    Augment,
    /// Start of a parameter; index = a hash of its name.
    Init,
    /// Dropout of one slot; index = step * slots + slot.
    Dropout,
    /// The images on which stitching layers are fitted; index = 0.
    Fit,
    /// The order in which latencies are measured; index = round.
    Profile,
    /// The order that splits of a data set are taken from; index = 0. Its seed is the split's, not the run's: a study's seeds
    /// share their held-out samples.
    Split,
    /// Tokens of an answer; index = the token's number.
    Speech,
}

impl Stream {
    fn tag(self) -> &'static [u8; 8] {
        match self {
            Self::Draw => b"draw....",
            Self::WarmOrder => b"warm....",
            Self::DataOrder => b"order...",
            Self::Grouping => b"lengths.",
            Self::Augment => b"augment.",
            Self::Init => b"init....",
            Self::Dropout => b"dropout.",
            Self::Fit => b"fit.....",
            Self::Split => b"split...",
            Self::Speech => b"speech..",
            Self::Profile => b"profile.",
        }
    }
}

/// The generator of one (seed, stream, index).
#[must_use]
pub fn rng(seed: u64, stream: Stream, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(stream.tag());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(index);
    rng
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    fn first(seed: u64, stream: Stream, index: u64) -> u64 {
        rng(seed, stream, index).random()
    }

    #[test]
    fn st_2_a_stream_depends_on_seed_purpose_and_index_only() {
        let here = first(1, Stream::Draw, 5);
        assert_eq!(here, first(1, Stream::Draw, 5));
        let others = [first(2, Stream::Draw, 5), first(1, Stream::Augment, 5), first(1, Stream::Draw, 6)];
        assert!(!others.contains(&here));
    }

    #[test]
    fn the_streams_of_this_version_are_pinned() {
        // A change here changes every draw of every recorded run.
        assert_eq!(first(42, Stream::Draw, 0), PINNED);
    }

    const PINNED: u64 = 75_795_293_386_276_558;
}
