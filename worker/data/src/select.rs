//! Which images of a set are used, under which labels and in which order (HANDS).

use std::path::Path;

use esta_engine::order::shuffle;
use esta_engine::spec::{DatasetSpec, Split};
use esta_engine::streams::{self, Stream};
use esta_text::Origin;

use crate::error::DataError;

/// One image in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Its place in the set's files.
    pub(crate) record: usize,
    /// Its class in the job, below `num_classes`.
    pub(crate) label: u32,
}

/// The images that `spec` chooses from a set with these labels, after the `classes` filter and the split.
pub(crate) fn select(
    spec: &DatasetSpec,
    classes: u32,
    labels: &[i64],
    origin: impl Fn(usize) -> Origin,
) -> Result<Vec<Chosen>, DataError> {
    let path = Path::new(&spec.path);
    let all = match &spec.classes {
        None => every(classes, labels, origin)?,
        Some(kept) => filtered(path, kept, classes, labels)?,
    };
    let chosen = match spec.split {
        None => all,
        Some(split) => part(path, split, &all)?,
    };
    if chosen.is_empty() {
        return Err(DataError::Empty { path: path.to_owned() });
    }
    Ok(chosen)
}

fn every(classes: u32, labels: &[i64], origin: impl Fn(usize) -> Origin) -> Result<Vec<Chosen>, DataError> {
    let checked = |(record, &label): (usize, &i64)| match u32::try_from(label) {
        Ok(label) if label < classes => Ok(Chosen { record, label }),
        _ => Err(DataError::Label { origin: origin(record), label, classes }),
    };
    labels.iter().enumerate().map(checked).collect()
}

fn filtered(path: &Path, kept: &[u32], classes: u32, labels: &[i64]) -> Result<Vec<Chosen>, DataError> {
    if kept.len() > classes as usize {
        return Err(DataError::ClassCount { path: path.to_owned(), kept: kept.len(), classes });
    }
    for (at, &class) in kept.iter().enumerate() {
        if kept[..at].contains(&class) {
            return Err(DataError::ClassTwice { path: path.to_owned(), class });
        }
        if !labels.contains(&i64::from(class)) {
            return Err(DataError::ClassAbsent { path: path.to_owned(), class });
        }
    }
    let renumbered = |(record, &label): (usize, &i64)| {
        let label = (0..).zip(kept).find(|&(_, &class)| i64::from(class) == label)?.0;
        Some(Chosen { record, label })
    };
    Ok(labels.iter().enumerate().filter_map(renumbered).collect())
}

fn part(path: &Path, split: Split, all: &[Chosen]) -> Result<Vec<Chosen>, DataError> {
    let (skip, found) = (split.skip, all.len() as u64);
    let places =
        split.places(all.len()).map_err(|count| DataError::Split { path: path.to_owned(), skip, count, found })?;
    Ok(balanced(all, split.seed)[places].to_vec())
}

/// A seeded order whose every prefix is as class-balanced as the set allows: rounds of one image per class that has any
/// left, the images of a class and the classes of a round each shuffled.
fn balanced(all: &[Chosen], seed: u64) -> Vec<Chosen> {
    let mut rng = streams::rng(seed, Stream::Split, 0);
    let classes = all.iter().map(|chosen| chosen.label as usize + 1).max().unwrap_or(0);
    let mut queues = vec![Vec::new(); classes];
    all.iter().for_each(|&chosen| queues[chosen.label as usize].push(chosen));
    queues.iter_mut().for_each(|queue| shuffle(&mut rng, queue));
    let mut order = Vec::with_capacity(all.len());
    while order.len() < all.len() {
        let mut round: Vec<Chosen> = queues.iter_mut().filter_map(Vec::pop).collect();
        shuffle(&mut rng, &mut round);
        order.append(&mut round);
    }
    order
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LABELS: [i64; 12] = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2];

    fn spec(json: &str) -> DatasetSpec {
        serde_json::from_str(&format!(r#"{{"layout": "idx", "path": "set"{json}}}"#)).expect("a data set's spec")
    }

    fn chosen(json: &str) -> Result<Vec<Chosen>, DataError> {
        select(&spec(json), 3, &LABELS, |record| Origin::line("set", record as u64))
    }

    #[test]
    fn without_filter_or_split_the_set_keeps_its_order() {
        let records: Vec<usize> = chosen("").unwrap().iter().map(|chosen| chosen.record).collect();
        assert_eq!(records, (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn classes_renumber_in_the_order_given() {
        let labels: Vec<(usize, u32)> =
            chosen(r#", "classes": [2, 1]"#).unwrap().iter().map(|chosen| (chosen.record, chosen.label)).collect();
        assert_eq!(labels, [(6, 1), (7, 1), (8, 1), (9, 0), (10, 0), (11, 0)]);
    }

    #[test]
    fn bad_classes_are_named() {
        let twice = chosen(r#", "classes": [1, 1]"#).unwrap_err();
        assert!(matches!(twice, DataError::ClassTwice { class: 1, .. }), "{twice}");
        let absent = chosen(r#", "classes": [1, 7]"#).unwrap_err();
        assert!(matches!(absent, DataError::ClassAbsent { class: 7, .. }), "{absent}");
        let many = chosen(r#", "classes": [0, 1, 2, 7]"#).unwrap_err();
        assert!(matches!(many, DataError::ClassCount { kept: 4, classes: 3, .. }), "{many}");
    }

    #[test]
    fn a_label_out_of_range_is_named_with_its_place() {
        for bad in [-1, 3] {
            let error = select(&spec(""), 3, &[0, bad], |record| Origin::line("set", record as u64)).unwrap_err();
            assert_eq!(error.to_string(), format!("set, line 1: label {bad} is not below num_classes = 3"));
        }
    }

    #[test]
    fn every_prefix_of_a_split_is_balanced() {
        for count in 1..=9 {
            let mut counts = [0_i32; 3];
            for chosen in chosen(&format!(r#", "split": {{"count": {count}, "seed": 4}}"#)).unwrap() {
                counts[chosen.label as usize] += 1;
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 1, "{count} images: {counts:?}");
        }
    }

    #[test]
    fn neighbouring_splits_share_nothing_and_miss_nothing() {
        let mut records = BTreeSet::new();
        for part in [r#"{"count": 5, "seed": 1}"#, r#"{"skip": 5, "count": 3, "seed": 1}"#, r#"{"skip": 8, "seed": 1}"#]
        {
            for chosen in chosen(&format!(r#", "split": {part}"#)).unwrap() {
                assert!(records.insert(chosen.record), "{} twice", chosen.record);
            }
        }
        assert_eq!(records.len(), 12);
    }

    #[test]
    fn a_split_depends_on_its_seed_alone() {
        let of = |seed: u64| chosen(&format!(r#", "split": {{"seed": {seed}}}"#)).unwrap();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn a_split_beyond_the_set_is_refused_with_the_counts() {
        let error = chosen(r#", "split": {"skip": 10, "count": 3}"#).unwrap_err();
        assert!(matches!(error, DataError::Split { skip: 10, count: 3, found: 12, .. }), "{error}");
        let empty = chosen(r#", "split": {"skip": 12}"#).unwrap_err();
        assert!(matches!(empty, DataError::Empty { .. }), "{empty}");
    }
}
