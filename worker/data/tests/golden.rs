//! Resizing and decoding against Pillow, through which timm reads and resizes: golden files by `golden/make_golden.py`.

use std::path::{Path, PathBuf};

use esta_data::{InputShape, Pixels, Transform};
use esta_engine::spec::{DataSpec, Resize};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    input: String,
    resize: Resize,
    image_size: u32,
    channels: u32,
    expected: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn read(name: &str) -> Pixels {
    Pixels::read(&folder().join(name)).expect(name)
}

fn transform(case: &Case) -> Transform {
    let text = r#"{"num_classes": 2, "train": {"layout": "image_folder", "path": "unused"}}"#;
    let data = DataSpec { resize: case.resize, ..serde_json::from_str(text).expect("a data section") };
    Transform::new(&data, InputShape { image_size: case.image_size, channels: case.channels }).expect("a transform")
}

/// A grey image as RGB with three equal channels: a fitted grey image is repeated only when it is written as a tensor.
fn repeated(image: Pixels, channels: u32) -> Pixels {
    if image.channels as u32 == channels {
        return image;
    }
    let bytes = image.bytes.iter().flat_map(|&value| [value; 3]).collect();
    Pixels { channels: 3, bytes, ..image }
}

#[test]
fn resized_images_equal_pillows_byte_for_byte() {
    let cases = std::fs::read_to_string(folder().join("cases.json")).expect("the cases");
    let cases: Vec<Case> = serde_json::from_str(&cases).expect("a list of cases");
    assert!(cases.len() >= 13);
    for case in cases {
        let fitted = repeated(transform(&case).fit(read(&case.input)), case.channels);
        assert_eq!(fitted, repeated(read(&case.expected), case.channels), "{}", case.expected);
    }
}

#[test]
fn decoded_jpegs_are_within_tolerance_of_pillows() {
    // Decoders may differ in the inverse cosine transform and the upsampling of colour; the tolerance is in levels.
    for (name, most) in [("colour.jpg", 3), ("grey.jpg", 1), ("subsampled.jpg", 3)] {
        let (ours, pillows) = (read(name), read(&format!("{name}.expected.png")));
        assert_eq!((ours.height, ours.width, ours.channels), (pillows.height, pillows.width, pillows.channels));
        let off = ours.bytes.iter().zip(&pillows.bytes).map(|(a, b)| a.abs_diff(*b)).max().expect("pixels");
        println!("{name}: at most {off} levels");
        assert!(off <= most, "{name}: {off} levels");
    }
}
