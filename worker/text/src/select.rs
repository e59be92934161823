//! Which examples of a set are used, and in which order (HANDS).

use std::path::Path;

use esta_engine::order::shuffle;
use esta_engine::spec::Split;
use esta_engine::streams::{self, Stream};

use crate::error::TextError;

/// The part of `all` that a split takes: `count` after `skip` in a seeded order, all that remain without a count.
pub(crate) fn part<T>(path: &Path, split: Split, mut all: Vec<T>) -> Result<Vec<T>, TextError> {
    let (skip, found) = (split.skip, all.len() as u64);
    let places =
        split.places(all.len()).map_err(|count| TextError::Split { path: path.to_owned(), skip, count, found })?;
    shuffle(&mut streams::rng(split.seed, Stream::Split, 0), &mut all);
    all.truncate(places.end);
    all.drain(..places.start);
    Ok(all)
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
