//! Which examples of a set are used, and in which order (HANDS).

use std::path::Path;

use esta_engine::spec::Split;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::TextError;

/// The part of `all` that a split takes: `count` after `skip` in a seeded order, all that remain without a count.
pub(crate) fn part<T>(path: &Path, split: Split, mut all: Vec<T>) -> Result<Vec<T>, TextError> {
    let found = all.len() as u64;
    let rest = found.saturating_sub(split.skip);
    let count = split.count.unwrap_or(rest);
    if count > rest {
        return Err(TextError::Split { path: path.to_owned(), skip: split.skip, count, found });
    }
    shuffle(&mut rng(split.seed), &mut all);
    all.drain(..split.skip.min(found) as usize);
    all.truncate(count as usize);
    Ok(all)
}

/// The generator of a split, keyed as the engine's streams are (seed, then a name of eight bytes) and apart from all
/// of them: a study's seeds share their held-out examples, so this seed is the split's, not the run's.
fn rng(seed: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(b"split...");
    ChaCha8Rng::from_seed(key)
}

/// Fisher-Yates from the back, spelt out so that no library's change of algorithm moves an example from one split to
/// another. The high half of the product is uniform to one part in 2^32 or better for any set that fits in memory.
fn shuffle<T>(rng: &mut impl Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let product = u128::from(rng.next_u64()) * (last as u128 + 1);
        items.swap(last, (product >> 64) as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn of(skip: u64, count: Option<u64>, seed: u64) -> Result<Vec<u32>, TextError> {
        part(Path::new("set"), Split { skip, count, seed }, (0..12).collect())
    }

    #[test]
    fn neighbouring_splits_share_nothing_and_miss_nothing() {
        let mut seen = BTreeSet::new();
        for (skip, count) in [(0, Some(5)), (5, Some(3)), (8, None)] {
            for example in of(skip, count, 1).unwrap() {
                assert!(seen.insert(example), "{example} twice");
            }
        }
        assert_eq!(seen.len(), 12);
    }

    #[test]
    fn a_split_depends_on_its_seed_alone() {
        assert_eq!(of(0, None, 1).unwrap(), of(0, None, 1).unwrap());
        assert_ne!(of(0, None, 1).unwrap(), of(0, None, 2).unwrap());
    }

    #[test]
    fn a_split_beyond_the_set_is_refused_with_the_counts() {
        let error = of(10, Some(3), 0).unwrap_err();
        assert_eq!(error.to_string(), "set: split skips 10 and takes 3 of 12 examples");
    }
}
