//! Batches by counter: DT-1, purity, augmentation, prefetching and evaluation over small sets on disk.

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use esta_data::{Batch, DataError, HeldOut, ImageBatch, InputShape, Intake, Loader, Prefetcher};
use esta_engine::spec::DataSpec;
use serde_json::json;
use support::{Folder, GREY_2, data, grey_png, with};

const SAMPLES: u64 = 7;

fn grey_2() -> Intake {
    GREY_2.into()
}

fn images(batch: &Batch) -> &ImageBatch {
    match batch {
        Batch::Images(images) => images,
        Batch::Texts(_) => panic!("a set of images"),
    }
}

/// Seven images of 2x2 pixels; the left half of image i is i, the right half i + 100, so a mirrored image shows.
fn halves(folder: &Folder, more: serde_json::Value) -> DataSpec {
    let pixels: Vec<u8> = (0..SAMPLES as u8).flat_map(|i| [i, i + 100, i, i + 100]).collect();
    folder.write("images", &support::idx_images(SAMPLES as u32, 2, 2, &pixels));
    folder.write("labels", &support::idx_labels(SAMPLES as u32, &[0, 1, 2, 0, 1, 2, 0]));
    let set = json!({"layout": "idx", "path": folder.text("images"), "labels": folder.text("labels")});
    let keys = json!({"normalize": {"values": {"mean": [0.0], "std": [1.0]}}, "eval": set});
    let mut spec = data(&set, keys);
    if more["horizontal_flip"] == json!(true) {
        spec.horizontal_flip = true;
    }
    if !more["augment"].is_null() {
        spec.augment = serde_json::from_value(more["augment"].clone()).expect("an augment section");
    }
    spec
}

fn intensity(number: f32) -> u64 {
    (number * 255.0).round() as u64
}

/// The samples of a batch, told by their pixels, and whether each is mirrored.
fn samples(batch: &Batch) -> Vec<(u64, bool)> {
    let tell = |image: &[f32]| {
        let (left, right) = (intensity(image[0]), intensity(image[1]));
        (left.min(right), left > right)
    };
    images(batch).images.chunks_exact(4).map(tell).collect()
}

#[test]
fn dt_1_each_epoch_visits_each_sample_once_over_any_partition_of_the_counters() {
    let folder = Folder::new();
    let spec = halves(&folder, json!({}));
    let epochs = 3;
    let whole = Loader::open(&spec, &grey_2(), 11, 1).unwrap().batch(0..SAMPLES * epochs).unwrap();
    for size in 1..=SAMPLES * epochs {
        // Every slot is prepared by a loader of its own, as on another worker, the last slot first.
        let mut by_epoch = BTreeMap::new();
        let starts: Vec<u64> = (0..SAMPLES * epochs).step_by(size as usize).collect();
        for start in starts.into_iter().rev() {
            let counters = start..(start + size).min(SAMPLES * epochs);
            let batch = Loader::open(&spec, &grey_2(), 11, 1).unwrap().batch(counters.clone()).unwrap();
            for (counter, (sample, _)) in counters.clone().zip(samples(&batch)) {
                by_epoch.entry(counter / SAMPLES).or_insert_with(Vec::new).push(sample);
            }
            let (from, to) = (counters.start as usize, counters.end as usize);
            let (batch, whole) = (images(&batch), images(&whole));
            assert_eq!(batch.images, whole.images[from * 4..to * 4], "slots of {size}");
            assert_eq!(batch.labels, whole.labels[from..to]);
        }
        assert_eq!(by_epoch.len() as u64, epochs);
        for (epoch, mut visited) in by_epoch {
            visited.sort_unstable();
            assert_eq!(visited, (0..SAMPLES).collect::<Vec<_>>(), "epoch {epoch}, slots of {size}");
        }
    }
}

#[test]
fn a_label_stays_with_its_image() {
    let folder = Folder::new();
    let batch = Loader::open(&halves(&folder, json!({})), &grey_2(), 3, 1).unwrap().batch(2..30).unwrap();
    assert_eq!(images(&batch).shape, [28, 1, 2, 2]);
    for ((sample, _), label) in samples(&batch).into_iter().zip(&images(&batch).labels) {
        assert_eq!(*label, (sample % 3) as i64);
    }
}

#[test]
fn flips_are_keyed_by_seed_epoch_and_sample() {
    let folder = Folder::new();
    let spec = halves(&folder, json!({"horizontal_flip": true}));
    let (epochs, seed) = (60, 5);
    let flips = |seed: u64| {
        let batch = Loader::open(&spec, &grey_2(), seed, 1).unwrap().batch(0..SAMPLES * epochs).unwrap();
        samples(&batch)
    };
    let first = flips(seed);
    assert_eq!(first, flips(seed));
    assert_ne!(first, flips(seed + 1));
    let mirrored = first.iter().filter(|(_, mirrored)| *mirrored).count();
    // 420 fair coins: five standard deviations are 51.
    assert!((159..=261).contains(&mirrored), "{mirrored} of 420");
    for sample in 0..SAMPLES {
        let own: Vec<bool> = first.iter().filter(|(s, _)| *s == sample).map(|(_, mirrored)| *mirrored).collect();
        assert!(own.contains(&true) && own.contains(&false), "sample {sample} differs between epochs");
    }
    let loader = Loader::open(&spec, &grey_2(), seed, 1).unwrap();
    let plain: Vec<(u64, bool)> = (0..SAMPLES).map(|sample| (sample, false)).collect();
    assert_eq!(samples(&loader.plain(0..SAMPLES).unwrap()), plain, "a fit sees no augmentation");
    let held_out = HeldOut::open(&spec, &grey_2()).unwrap().expect("a held-out set");
    assert_eq!(samples(&held_out.batch(0..SAMPLES).unwrap()), plain, "nor does an evaluation");
}

/// Every visit of 60 epochs as (sample, quarter turns, inverted, mirrored), told by the pixels.
fn poses(folder: &Folder, more: serde_json::Value) -> Vec<(u64, usize, bool, bool)> {
    let batch = Loader::open(&halves(folder, more), &grey_2(), 5, 1)
        .expect("the set opens")
        .batch(0..SAMPLES * 60)
        .expect("its images decode");
    images(&batch).images.chunks_exact(4).map(pose).collect()
}

/// Images of [`halves`] show light on the right (i and i + 100, or 155 - i and 255 - i when inverted), and the two
/// corners of a side are equal: a turn by two quarters looks as a mirrored one does.
fn pose(image: &[f32]) -> (u64, usize, bool, bool) {
    let values: Vec<u64> = image.iter().map(|&number| intensity(number)).collect();
    let (low, high) =
        (*values.iter().min().expect("an image has pixels"), *values.iter().max().expect("an image has pixels"));
    assert_eq!(high - low, 100);
    let inverted = low > 100;
    let sample = if inverted { 255 - high } else { low };
    let bright = |corner: usize| (values[corner] == high) != inverted;
    match [bright(0), bright(1), bright(2), bright(3)] {
        [false, true, false, true] => (sample, 0, inverted, false),
        [false, false, true, true] => (sample, 1, inverted, false),
        [true, false, true, false] => (sample, 2, inverted, true),
        [true, true, false, false] => (sample, 3, inverted, false),
        other => panic!("no pose of an image shows {other:?}"),
    }
}

#[test]
fn turns_and_inversions_are_keyed_and_leave_one_another_alone() {
    let folder = Folder::new();
    let both = poses(&folder, json!({"augment": {"rotate": true, "invert": true}}));
    assert_eq!(both, poses(&folder, json!({"augment": {"rotate": true, "invert": true}})));
    // 420 draws of a quarter, then of a half: five standard deviations are 44 and 51.
    for quarters in 0..4 {
        let count = both.iter().filter(|pose| pose.1 == quarters).count();
        assert!((61..=149).contains(&count), "{quarters} quarter turns: {count} of 420");
    }
    let inverted = both.iter().filter(|pose| pose.2).count();
    assert!((159..=261).contains(&inverted), "{inverted} of 420 inverted");
    let turned = poses(&folder, json!({"augment": {"rotate": true}}));
    let negatives = poses(&folder, json!({"augment": {"invert": true}}));
    for ((both, turned), negative) in both.iter().zip(&turned).zip(&negatives) {
        assert_eq!((both.0, both.1, false), (turned.0, turned.1, turned.2));
        assert_eq!((both.0, both.2, 0), (negative.0, negative.2, negative.1));
    }
    // A mirror is a coin of its own: switched on beside an inversion it changes no inversion.
    let mirrored = poses(&folder, json!({"horizontal_flip": true, "augment": {"invert": true}}));
    assert_eq!(mirrored.iter().map(|p| p.2).collect::<Vec<_>>(), negatives.iter().map(|p| p.2).collect::<Vec<_>>());
    let plain = poses(&folder, json!({"horizontal_flip": true}));
    assert_eq!(mirrored.iter().map(|p| p.3).collect::<Vec<_>>(), plain.iter().map(|p| p.3).collect::<Vec<_>>());
}

#[test]
fn a_fit_and_an_evaluation_see_no_turn_and_no_inversion() {
    let folder = Folder::new();
    let spec = halves(&folder, json!({"augment": {"rotate": true, "invert": true}}));
    let plain: Vec<(u64, usize, bool, bool)> = (0..SAMPLES).map(|sample| (sample, 0, false, false)).collect();
    let fit = Loader::open(&spec, &grey_2(), 5, 1).unwrap().plain(0..SAMPLES).unwrap();
    assert_eq!(images(&fit).images.chunks_exact(4).map(pose).collect::<Vec<_>>(), plain);
    let held_out = HeldOut::open(&spec, &grey_2()).unwrap().expect("a held-out set").batch(0..SAMPLES).unwrap();
    assert_eq!(images(&held_out).images.chunks_exact(4).map(pose).collect::<Vec<_>>(), plain);
}

#[test]
fn evaluation_sees_every_image_once_in_order() {
    let folder = Folder::new();
    let spec = halves(&folder, json!({}));
    let held_out = HeldOut::open(&spec, &grey_2()).unwrap().expect("a held-out set");
    for size in 1..=8 {
        let size = NonZeroU32::new(size).unwrap();
        let chunks: Vec<Batch> = held_out.chunks(size).map(Result::unwrap).collect();
        assert!(chunks.iter().rev().skip(1).all(|chunk| images(chunk).shape[0] == size.get() as usize));
        let seen: Vec<u64> = chunks.iter().flat_map(samples).map(|(sample, _)| sample).collect();
        assert_eq!(seen, (0..SAMPLES).collect::<Vec<_>>());
    }
    let without = DataSpec { eval: None, ..spec };
    assert!(HeldOut::open(&without, &grey_2()).unwrap().is_none());
}

#[test]
fn prefetched_batches_equal_those_made_on_the_spot() {
    let folder = Folder::new();
    let loader = Loader::open(&halves(&folder, json!({"horizontal_flip": true})), &grey_2(), 9, 1).unwrap();
    for threads in [1, 3] {
        let prefetcher = Prefetcher::start(&loader, threads).unwrap();
        let ranges: Vec<_> = (0..40).map(|at| at * 5..at * 5 + 5).collect();
        let tickets: Vec<_> = ranges.iter().map(|range| prefetcher.request(range.clone())).collect();
        for (range, ticket) in ranges.into_iter().zip(tickets) {
            assert_eq!(ticket.wait().unwrap(), loader.batch(range).unwrap());
        }
    }
}

#[test]
fn a_corrupt_image_is_the_error_of_its_own_batch() {
    let folder = Folder::new();
    folder.write("set/a/0.png", &grey_png(2, 1));
    folder.write("set/a/1.png", b"not an image");
    folder.write("set/b/2.png", &grey_png(2, 2));
    let spec = data(&json!({"layout": "image_folder", "path": folder.text("set")}), json!({}));
    let loader = Loader::open(&spec, &grey_2(), 0, 1).unwrap();
    let bad = (0..3).find(|&counter| loader.order().sample(counter).index == 1).expect("one of three");
    let prefetcher = Prefetcher::start(&loader, 2).unwrap();
    let tickets: Vec<_> = (0..3).map(|counter| prefetcher.request(counter..counter + 1)).collect();
    for (counter, ticket) in (0..).zip(tickets) {
        match ticket.wait() {
            Ok(batch) => assert!(counter != bad && images(&batch).labels.len() == 1),
            Err(DataError::Image { origin, .. }) => {
                assert_eq!((counter, origin.path), (bad, folder.path("set/a/1.png")));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn grey_images_reach_colour_anchors_and_other_sizes() {
    let folder = Folder::new();
    let set = with(&folder.idx(&[0, 1, 2], 8, 8), "invert", json!(true));
    let shape = InputShape { image_size: 14, channels: 3 };
    let batch = Loader::open(&data(&set, json!({})), &shape.into(), 0, 1).unwrap().plain([2, 0]).unwrap();
    assert_eq!(images(&batch).shape, [2, 3, 14, 14]);
    // `half` statistics of 253 and 255.
    assert_eq!(images(&batch).images[..588], vec![(253.0_f32 / 255.0 - 0.5) / 0.5; 588]);
    assert_eq!(images(&batch).images[588..], vec![1.0; 588]);
}
