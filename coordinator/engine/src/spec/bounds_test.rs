//! Every bound from both sides: the number beyond is refused by its key, the last one within is not.

use std::num::NonZeroU32;

use super::*;

fn job() -> JobSpec {
    let arch = r#"{"image_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 8, "depth": 2, "num_heads": 2}"#;
    let anchors = ["a", "b"].map(|name| format!(r#"{{"name": "{name}", "weights": "-", "arch": {arch}}}"#)).join(", ");
    let job = format!(
        r#"{{"name": "bounds", "family": {{"anchors": [{anchors}]}}, "train": {{"max_steps": 1}},
            "data": {{"num_classes": 2, "train": {{"layout": "idx", "path": "x", "labels": "y"}}}}}}"#
    );
    serde_json::from_str(&job).expect("a job")
}

/// What a changed job is refused for.
fn said(change: impl FnOnce(&mut JobSpec)) -> Option<String> {
    let mut spec = job();
    change(&mut spec);
    spec.validate().err().map(|flaw| flaw.to_string())
}

type Change = fn(&mut JobSpec);

#[test]
fn numbers_beyond_their_bounds_are_refused_by_key_and_value() {
    let beyond: [(Change, &str); 24] = [
        (|job| job.train.batch_size = 0, "train.batch_size: 0 samples in a step; at least 1"),
        (|job| job.train.batch_size = 1 << 25, "train.batch_size: 33554432 samples in a step; at most 16777216"),
        (|job| job.train.intra_op_threads = 100_000, "train.intra_op_threads: 100000 threads; at most 1024"),
        (|job| job.train.save_steps = 0, "train.save_steps: 0 steps; at least 1"),
        (|job| job.data.loader_threads = 1_000_000, "data.loader_threads: 1000000 threads; at most 1024"),
        (|job| job.data.loader_threads = 0, "data.loader_threads: 0 threads; at least 1"),
        (|job| job.eval.threads = NonZeroU32::new(1025), "eval.threads: 1025 threads; at most 1024"),
        (|job| job.pst.stitch_r = 4_000_000_000, "pst.stitch_r: 4000000000 as a rank; at most 16384"),
        (|job| job.pst.lora_r = 16_385, "pst.lora_r: 16385 as a rank; at most 16384"),
        (|job| job.pst.lora_r = 0, "pst.lora_r: 0 is no rank; it is at least 1"),
        (|job| job.pst.lora_alpha = Some(-3.0), "pst.lora_alpha: -3 is no scale of adapters: above 0, at most 1000000"),
        (|job| job.pst.lora_alpha = Some(0.0), "pst.lora_alpha: 0 is no scale of adapters: above 0, at most 1000000"),
        (|job| job.pst.lora_dropout = 1.0, "pst.lora_dropout: 1 is not between 0 and 0.95"),
        (|job| job.family.stitch_init.samples = 0, "family.stitch_init.samples: 0 samples to fit on; at least 1"),
        (|job| job.family.stitch_init.ridge = -1.0, "family.stitch_init.ridge: -1 is not between 0 and 1000"),
        (|job| job.family.stitch_init.ridge = f64::NAN, "family.stitch_init.ridge: NaN is not between 0 and 1000"),
        (|job| job.train.adam_epsilon = 0.0, "train.adam_epsilon: 0 keeps no denominator from 0; between 1e-30 and 1"),
        (
            |job| job.train.adam_epsilon = -1.0,
            "train.adam_epsilon: -1 keeps no denominator from 0; between 1e-30 and 1",
        ),
        (|job| job.data.train.downsample = Some(5000), "data.train.downsample: 5000 pixels a side; at most 4096"),
        (|job| job.name = "../x".into(), r#"name: "../x" begins with a dot: runs/../x is no folder for a run"#),
        (
            |job| job.name = "a/b".into(),
            r#"name: "a/b" is no name of one folder: leave out slashes and control characters"#,
        ),
        (
            |job| job.name = "a\nb".into(),
            r#"name: "a\nb" is no name of one folder: leave out slashes and control characters"#,
        ),
        (|job| job.name = "n".repeat(129), "name: 129 bytes; at most 128"),
        (|job| job.name = String::new(), "name: is empty"),
    ];
    for (change, expected) in beyond {
        assert_eq!(said(change).as_deref(), Some(expected));
    }
}

#[test]
fn the_last_number_within_its_bounds_is_taken() {
    let within: [Change; 9] = [
        |_| {},
        |job| job.train.intra_op_threads = 1024,
        |job| job.data.loader_threads = 1024,
        |job| job.pst.stitch_r = 0,
        |job| (job.pst.lora_r, job.pst.stitch_r) = (1 << 14, 1 << 14),
        |job| job.pst.lora_alpha = Some(1e-9),
        |job| job.train.adam_epsilon = 1e-30,
        |job| (job.family.stitch_init.samples, job.family.stitch_init.ridge) = (1, 0.0),
        |job| job.name = "Cars 2: a.b_c-d".into(),
    ];
    for (i, change) in within.into_iter().enumerate() {
        assert_eq!(said(change), None, "{i}");
    }
}

#[test]
fn channel_statistics_are_as_many_as_channels() {
    let given = |mean: &[f32], std: &[f32]| {
        let normalize = Normalize::Values { mean: mean.to_vec(), std: std.to_vec() };
        said(|job| job.data.normalize = normalize)
    };
    assert_eq!(given(&[0.5], &[0.5]), None);
    let flawed: [(&[f32], &[f32], &str); 5] = [
        (&[0.5, 0.5], &[0.5], "mean: 2 for images of 1 channel(s): one each"),
        (&[0.5], &[], "std: 0 for images of 1 channel(s): one each"),
        (&[0.5], &[0.0], "std: 0 is no std of a channel"),
        (&[0.5], &[-1.0], "std: -1 is no std of a channel"),
        (&[f32::NAN], &[1.0], "mean: NaN is no mean of a channel"),
    ];
    for (mean, std, expected) in flawed {
        assert_eq!(given(mean, std), Some(format!("data.normalize.values.{expected}")));
    }
    let imagenet = said(|job| job.data.normalize = Normalize::Imagenet);
    let expected = "data.normalize: imagenet's statistics are of 3 channels, and the anchors see 1";
    assert_eq!(imagenet.as_deref(), Some(expected));
}
