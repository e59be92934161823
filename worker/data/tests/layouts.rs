//! Every layout from real files, and what bad files say.

mod support;

use esta_data::{DataError, Dataset, Origin, Position};
use esta_engine::spec::DataSpec;
use serde_json::json;
use support::{Folder, colour_jpeg, corners, data, grey_png, gzip, idx_images, idx_labels, open, with, write_parquet};

#[test]
fn idx_pairs_open_plain_and_gzipped() {
    let folder = Folder::new();
    let set = folder.idx(&[2, 0, 1, 2], 2, 3);
    let dataset = open(&set).unwrap();
    assert_eq!(dataset.labels(), [2, 0, 1, 2]);
    assert_eq!(corners(&dataset), [0, 1, 2, 3]);
    let image = dataset.image(3).unwrap();
    assert_eq!((image.height, image.width, image.channels), (2, 3, 1));
}

#[test]
fn rotate_and_invert_change_the_pixels_not_the_labels() {
    let folder = Folder::new();
    folder.write("images", &idx_images(1, 2, 3, &[1, 2, 3, 4, 5, 6]));
    folder.write("labels", &idx_labels(1, &[1]));
    let set = json!({"layout": "idx", "path": folder.text("images"), "labels": folder.text("labels"),
        "rotate": 90, "invert": true});
    let dataset = open(&set).unwrap();
    assert_eq!(dataset.labels(), [1]);
    let image = dataset.image(0).unwrap();
    assert_eq!((image.height, image.width), (3, 2));
    assert_eq!(image.bytes, [4, 1, 5, 2, 6, 3].map(|value| 255 - value));
    let error = open(&with(&set, "rotate", json!(45))).unwrap_err();
    assert!(matches!(error, DataError::Rotation { degrees: 45, .. }), "{error}");
}

#[test]
fn downsample_blurs_at_the_images_own_size_before_the_turn() {
    let folder = Folder::new();
    let stripes: Vec<u8> = (0..8 * 12).map(|at| if at % 2 == 0 { 0 } else { 200 }).collect();
    folder.write("images", &idx_images(1, 8, 12, &stripes));
    folder.write("labels", &idx_labels(1, &[1]));
    let set = json!({"layout": "idx", "path": folder.text("images"), "labels": folder.text("labels"), "rotate": 90});
    let sharp = open(&set).unwrap().image(0).unwrap();
    let blurred = open(&with(&set, "downsample", json!(4))).unwrap().image(0).unwrap();
    assert_eq!((blurred.height, blurred.width), (sharp.height, sharp.width));
    assert!(sharp.bytes.iter().all(|&value| matches!(value, 0 | 200)));
    // Three columns of stripes become one pixel: what is left is grey, and its mean stays.
    assert!(blurred.bytes.iter().all(|&value| (60..=140).contains(&value)), "{:?}", blurred.bytes);
    let own_size = open(&with(&with(&set, "downsample", json!(8)), "rotate", json!(0))).unwrap();
    assert_eq!(own_size.image(0).unwrap().height, 8);
    let error = open(&with(&set, "downsample", json!(0))).unwrap_err();
    assert!(matches!(error, DataError::Downsample { .. }), "{error}");
}

#[test]
fn classes_and_split_choose_the_images_with_their_labels() {
    let folder = Folder::new();
    let set = with(&folder.idx(&[0, 1, 2, 0, 1, 2], 1, 1), "classes", json!([2, 0]));
    let dataset = open(&set).unwrap();
    assert_eq!((dataset.labels(), corners(&dataset)), (&[1, 0, 1, 0][..], vec![0, 2, 3, 5]));
    let part = open(&with(&set, "split", json!({"count": 2, "seed": 5}))).unwrap();
    let rest = open(&with(&set, "split", json!({"skip": 2, "seed": 5}))).unwrap();
    let mut together = [corners(&part), corners(&rest)].concat();
    together.sort_unstable();
    assert_eq!(together, [0, 2, 3, 5]);
    for (index, corner) in (0..).zip(corners(&part)) {
        assert_eq!(part.labels()[index], u32::from(matches!(corner, 0 | 3)), "image {corner}");
    }
}

#[test]
fn a_misnamed_idx_file_says_what_it_starts_with() {
    let folder = Folder::new();
    let set = folder.idx(&[0, 1], 1, 1);
    let error = open(&with(&set, "path", json!(folder.text("labels.idx.gz")))).unwrap_err();
    assert!(matches!(error, DataError::Magic { found: 0x0801, expected: 0x0803, .. }), "{error}");
    folder.write("text", b"not an idx file");
    let error = open(&with(&set, "labels", json!(folder.text("text")))).unwrap_err();
    assert!(error.to_string().contains("text: magic number 0x6e6f7420, expected 0x00000801"), "{error}");
    let error = open(&with(&set, "labels", json!(null))).unwrap_err();
    assert!(matches!(error, DataError::LabelsMissing { layout: "idx", .. }), "{error}");
}

#[test]
fn truncated_overlong_and_lying_idx_files_say_both_lengths() {
    let folder = Folder::new();
    let set = folder.idx(&[0, 1], 1, 1);
    let whole = idx_images(2, 1, 1, &[5, 6]);
    let lying = idx_images(u32::MAX, u32::MAX, u32::MAX, &[5, 6]);
    let cases = [
        (&whole[..17], 17, 18),
        (&whole[..7], 7, 16),
        (&whole[..0], 0, 16),
        (&[&whole[..], &[9, 9, 9]].concat(), 19, 18),
        (&lying, 18, u64::MAX),
    ];
    for (bytes, found, expected) in cases {
        folder.write("images.idx", bytes);
        match open(&set).unwrap_err() {
            DataError::Length { found: f, expected: e, .. } => assert_eq!((f, e), (found, expected)),
            other => panic!("{found} of {expected} bytes: {other}"),
        }
    }
    let zipped = gzip(&whole);
    folder.write("images.idx", &zipped[..zipped.len() - 9]);
    let error = open(&set).unwrap_err();
    assert!(matches!(&error, DataError::Read { path, .. } if *path == folder.path("images.idx")), "{error}");
}

#[test]
fn images_and_labels_of_different_counts_are_refused() {
    let folder = Folder::new();
    let set = folder.idx(&[0, 1], 1, 1);
    folder.write("labels.idx.gz", &idx_labels(3, &[0, 1, 2]));
    let error = open(&set).unwrap_err();
    assert!(matches!(error, DataError::Pairing { images: 2, labels: 3, .. }), "{error}");
    folder.write("images.idx", &idx_images(3, 0, 4, &[]));
    let error = open(&set).unwrap_err();
    assert!(matches!(error, DataError::EmptyImages { height: 0, width: 4, .. }), "{error}");
}

#[test]
fn a_label_without_a_class_is_named_with_its_record() {
    let folder = Folder::new();
    let error = open(&folder.idx(&[0, 1, 3], 1, 1)).unwrap_err();
    let origin = Origin { path: folder.path("labels.idx.gz"), position: Position::Record(2) };
    assert!(matches!(&error, DataError::Label { origin: o, label: 3, classes: 3 } if *o == origin), "{error}");
}

fn digit(first: &str, label: &str) -> String {
    format!("{first},{}{label}\n", "8,".repeat(63))
}

#[test]
fn digits_open_and_scale_to_the_whole_range() {
    let folder = Folder::new();
    let text = digit("0", "2") + &digit("16", "0") + &digit("4", "1");
    folder.write("digits.csv.gz", &gzip(text.as_bytes()));
    let dataset = open(&json!({"layout": "digits_csv", "path": folder.text("digits.csv.gz")})).unwrap();
    assert_eq!(dataset.labels(), [2, 0, 1]);
    assert_eq!(corners(&dataset), [0, 255, 64]);
    let image = dataset.image(0).unwrap();
    assert_eq!((image.height, image.width, image.bytes[63]), (8, 8, 128));
}

#[test]
fn bad_digits_are_named_with_line_and_field() {
    let folder = Folder::new();
    let set = json!({"layout": "digits_csv", "path": folder.text("digits.csv")});
    let expect = |second: &str, message: &str| {
        folder.write("digits.csv", (digit("1", "0") + second).as_bytes());
        let error = open(&set).unwrap_err().to_string();
        assert!(error.ends_with(message), "{error}");
    };
    expect(&digit("17", "0"), "digits.csv, line 2: field 1 is \"17\", expected a whole number from 0 to 16");
    expect(&digit("x", "0"), "digits.csv, line 2: field 1 is \"x\", expected a whole number from 0 to 16");
    expect("1,2,3\n", "digits.csv, line 2: 3 fields, expected 65");
    expect(&digit("1", "3"), "digits.csv, line 2: label 3 is not below num_classes = 3");
}

#[test]
fn image_folders_number_classes_in_byte_order() {
    let folder = Folder::new();
    folder.write("set/b/1.png", &grey_png(2, 10));
    folder.write("set/Z/deep/2.PNG", &grey_png(2, 20));
    folder.write("set/a/3.jpeg", &colour_jpeg(8, [30, 30, 30]));
    folder.write("set/a/notes.txt", b"not an image");
    folder.write("set/.cache/4.png", b"hidden");
    let set = json!({"layout": "image_folder", "path": folder.text("set")});
    let dataset = open(&set).unwrap();
    assert_eq!((dataset.labels(), corners(&dataset)), (&[0, 1, 2][..], vec![20, 30, 10]));
    assert_eq!([0, 1, 2].map(|index| dataset.image(index).unwrap().channels), [1, 3, 1]);
}

/// A job that trains on the folders cat, dog and owl and is judged on `eval`; each image is worth its class's number.
fn pets(folder: &Folder, eval: &serde_json::Value) -> DataSpec {
    for (value, name) in (0..).zip(["cat", "dog", "owl"]) {
        folder.write(&format!("train/{name}/1.png"), &grey_png(2, value));
    }
    data(&json!({"layout": "image_folder", "path": folder.text("train")}), json!({"eval": eval, "validation": eval}))
}

#[test]
fn held_out_folders_have_the_numbers_of_training() {
    let folder = Folder::new();
    folder.write("eval/owl/1.png", &grey_png(2, 2));
    folder.write("eval/dog/1.png", &grey_png(2, 1));
    let spec = pets(&folder, &json!({"layout": "image_folder", "path": folder.text("eval")}));
    for held_out in [&spec.eval, &spec.validation] {
        let dataset = Dataset::open(&spec, held_out.as_ref().expect("a held-out set")).unwrap();
        assert_eq!((dataset.labels(), corners(&dataset)), (&[1, 2][..], vec![1, 2]));
        assert_eq!(dataset.classes(), ["cat", "dog", "owl"]);
    }
}

#[test]
fn a_filter_of_classes_speaks_of_the_numbers_of_training() {
    let folder = Folder::new();
    folder.write("eval/owl/1.png", &grey_png(2, 2));
    folder.write("eval/dog/1.png", &grey_png(2, 1));
    let eval = json!({"layout": "image_folder", "path": folder.text("eval"), "classes": [2, 1]});
    let spec = pets(&folder, &eval);
    let dataset = Dataset::open(&spec, spec.eval.as_ref().expect("a held-out set")).unwrap();
    assert_eq!((dataset.labels(), corners(&dataset)), (&[1, 0][..], vec![1, 2]));
    assert_eq!(dataset.classes(), ["owl", "dog"]);
}

#[test]
fn a_held_out_class_that_training_lacks_is_refused_by_name() {
    let folder = Folder::new();
    folder.write("eval/dog/1.png", &grey_png(2, 1));
    folder.write("eval/wolf/1.png", &grey_png(2, 9));
    let spec = pets(&folder, &json!({"layout": "image_folder", "path": folder.text("eval")}));
    let error = Dataset::open(&spec, spec.eval.as_ref().expect("a held-out set")).unwrap_err();
    assert!(
        matches!(&error, DataError::ClassUnknown { path, class, train }
        if *path == folder.path("eval") && class == "wolf" && *train == folder.path("train")),
        "{error}"
    );
}

#[test]
fn image_folders_say_what_they_cannot_show() {
    let folder = Folder::new();
    let set = json!({"layout": "image_folder", "path": folder.text("set")});
    let error = open(&set).unwrap_err();
    assert!(matches!(&error, DataError::Read { path, .. } if *path == folder.path("set")), "{error}");
    folder.write("set/a/1.png", b"\x89PNG\r\n\x1a\nbut no more");
    folder.write("set/b/x.txt", b"");
    let error = open(&set).unwrap_err();
    assert!(matches!(&error, DataError::Empty { path } if *path == folder.path("set/b")), "{error}");
    folder.write("set/b/2.webp", b"");
    let error = open(&set).unwrap_err();
    assert!(matches!(&error, DataError::ImageKind { path } if *path == folder.path("set/b/2.webp")), "{error}");
    std::fs::remove_file(folder.path("set/b/2.webp")).unwrap();
    folder.write("set/b/2.png", &grey_png(1, 1));
    let error = open(&set).unwrap().image(0).unwrap_err();
    assert!(matches!(&error, DataError::Image { origin, .. } if origin.path == folder.path("set/a/1.png")), "{error}");
}

#[test]
fn image_lists_open_and_name_bad_lines() {
    let folder = Folder::new();
    folder.write("root/images/one image.png", &grey_png(2, 7));
    folder.write("root/images/two.jpg", &colour_jpeg(8, [200, 200, 200]));
    let set = json!({"layout": "image_list", "path": folder.text("root"), "labels": folder.text("list.txt")});
    folder.write("list.txt", b"images/one image.png 2\r\n\nimages/two.jpg 0\n");
    let dataset = open(&set).unwrap();
    assert_eq!((dataset.labels(), corners(&dataset)), (&[2, 0][..], vec![7, 200]));
    folder.write("list.txt", b"images/two.jpg 0\nimages/two.jpg cat\n");
    let error = open(&set).unwrap_err().to_string();
    assert!(error.ends_with("list.txt, line 2: \"images/two.jpg cat\" is not \"relative/path label\""), "{error}");
    folder.write("list.txt", b"images/gone.jpg 0\n");
    let error = open(&set).unwrap_err();
    assert!(matches!(&error, DataError::Read { path, .. } if *path == folder.path("root/images/gone.jpg")), "{error}");
}

fn shard(folder: &Folder, name: &str, values: &[u8]) {
    let rows: Vec<_> = values.iter().map(|&v| (Some(grey_png(3, v)), Some(i64::from(v % 3)))).collect();
    folder.write(name, b"");
    write_parquet(&folder.path(name), "label", &rows);
}

#[test]
fn parquet_opens_as_a_file_a_folder_and_a_split() {
    let folder = Folder::new();
    shard(&folder, "data/train-00000-of-00002.parquet", &[3, 4, 5, 7, 6]);
    shard(&folder, "data/train-00001-of-00002.parquet", &[8, 9, 10]);
    let set = |name: &str| json!({"layout": "parquet", "path": folder.text(name)});
    let file = open(&set("data/train-00001-of-00002.parquet")).unwrap();
    assert_eq!((file.labels(), corners(&file)), (&[2, 0, 1][..], vec![8, 9, 10]));
    assert_eq!(corners(&open(&set("data")).unwrap()), [3, 4, 5, 7, 6, 8, 9, 10]);
    let chosen = open(&with(&set("data"), "classes", json!([2, 1]))).unwrap();
    assert_eq!((chosen.labels(), corners(&chosen)), (&[1, 0, 1, 0, 1][..], vec![4, 5, 7, 8, 10]));
    shard(&folder, "data/test-00000-of-00001.parquet", &[1]);
    let error = open(&set("data")).unwrap_err();
    assert!(matches!(&error, DataError::MixedShards { .. }), "{error}");
    assert_eq!(corners(&open(&set("data/test")).unwrap()), [1]);
    assert_eq!(open(&set("data/train")).unwrap().len(), 8);
    let error = open(&set("data/valid")).unwrap_err();
    assert!(matches!(&error, DataError::Read { path, .. } if *path == folder.path("data/valid")), "{error}");
}

#[test]
fn a_split_of_parquet_keeps_each_image_with_its_label() {
    let folder = Folder::new();
    shard(&folder, "set.parquet", &(0..30).collect::<Vec<u8>>());
    let set = json!({"layout": "parquet", "path": folder.text("set.parquet"), "split": {"count": 12, "seed": 3}});
    let dataset = open(&set).unwrap();
    let corners = corners(&dataset);
    assert!(!corners.is_sorted(), "a split has an order of its own: {corners:?}");
    for (label, corner) in dataset.labels().iter().zip(corners) {
        assert_eq!(*label, u32::from(corner % 3));
    }
}

#[test]
fn bad_parquet_names_file_column_and_row() {
    let folder = Folder::new();
    let path = folder.write("set.parquet", b"");
    let set = json!({"layout": "parquet", "path": folder.text("set.parquet")});
    let png = || Some(grey_png(1, 1));
    let message = |rows: &[_]| {
        write_parquet(&path, "label", rows);
        open(&set).unwrap_err().to_string()
    };
    let null_label = message(&[(png(), Some(0)), (png(), Some(0)), (png(), None)]);
    assert!(null_label.ends_with("set.parquet, row 2: label is null"), "{null_label}");
    let null_image = message(&[(png(), Some(0)), (None, Some(0))]);
    assert!(null_image.ends_with("set.parquet, row 1: image.bytes is null"), "{null_image}");
    let label = message(&[(png(), Some(0)), (png(), Some(-1))]);
    assert!(label.ends_with("set.parquet, row 1: label -1 is not below num_classes = 3"), "{label}");

    write_parquet(&path, "fine_label", &[(Some(b"no image".to_vec()), Some(1))]);
    let error = open(&set).unwrap_err();
    assert!(
        matches!(&error, DataError::Column { wanted, found, .. } if wanted == "label" && found.len() == 3),
        "{error}"
    );
    let named = open(&with(&set, "labels", json!("fine_label"))).unwrap();
    assert_eq!(named.labels(), [1]);
    let error = named.image(0).unwrap_err();
    let origin = Origin { path: path.clone(), position: Position::Row(0) };
    assert!(matches!(&error, DataError::Image { origin: o, .. } if *o == origin), "{error}");

    let whole = std::fs::read(&path).unwrap();
    folder.write("set.parquet", &whole[..whole.len() / 2]);
    let error = open(&set).unwrap_err();
    assert!(matches!(&error, DataError::Parquet { path: p, .. } if *p == path), "{error}");
}
