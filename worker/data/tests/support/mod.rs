//! Small data sets written for one test each, and the specs that name them.

#![allow(dead_code, reason = "every test file uses a part")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use esta_data::{DataError, Dataset, InputShape};
use esta_engine::spec::DataSpec;
use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const GREY_2: InputShape = InputShape { image_size: 2, channels: 1 };

/// A folder that goes with its test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path in UTF-8").to_owned()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        path
    }

    /// A pair of IDX files whose image i is `height` x `width` pixels of value i.
    pub fn idx(&self, labels: &[u8], height: u32, width: u32) -> Value {
        let numel = (height * width) as usize;
        let pixels: Vec<u8> = (0..labels.len()).flat_map(|at| vec![at as u8; numel]).collect();
        self.write("images.idx", &idx_images(labels.len() as u32, height, width, &pixels));
        self.write("labels.idx.gz", &gzip(&idx_labels(labels.len() as u32, labels)));
        json!({"layout": "idx", "path": self.text("images.idx"), "labels": self.text("labels.idx.gz")})
    }
}

pub fn idx_images(count: u32, height: u32, width: u32, pixels: &[u8]) -> Vec<u8> {
    let words = [0x0803, count, height, width];
    words.iter().flat_map(|word| word.to_be_bytes()).chain(pixels.iter().copied()).collect()
}

pub fn idx_labels(count: u32, labels: &[u8]) -> Vec<u8> {
    [0x0801, count].iter().flat_map(|word: &u32| word.to_be_bytes()).chain(labels.iter().copied()).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A grey PNG of one value.
pub fn grey_png(side: u32, value: u8) -> Vec<u8> {
    encode(&DynamicImage::ImageLuma8(GrayImage::from_pixel(side, side, image::Luma([value]))), ImageFormat::Png)
}

/// An RGB JPEG of one colour.
pub fn colour_jpeg(side: u32, colour: [u8; 3]) -> Vec<u8> {
    encode(&DynamicImage::ImageRgb8(RgbImage::from_pixel(side, side, image::Rgb(colour))), ImageFormat::Jpeg)
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("memory");
    bytes.into_inner()
}

/// A shard as Hugging Face writes them: optional struct of optional bytes and path, optional label; two rows a group.
pub fn write_parquet(path: &Path, label_column: &str, rows: &[(Option<Vec<u8>>, Option<i64>)]) {
    let schema = format!(
        "message schema {{ optional group image {{ optional binary bytes; optional binary path (UTF8); }} \
         optional int64 {label_column}; }}"
    );
    let schema = Arc::new(parse_message_type(&schema).expect("a schema"));
    let file = fs::File::create(path).expect("a file");
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, schema, properties).expect("a writer");
    for rows in rows.chunks(2) {
        let mut group = writer.next_row_group().expect("a group");
        let images: Vec<ByteArray> = rows.iter().filter_map(|row| row.0.clone().map(ByteArray::from)).collect();
        let levels: Vec<i16> = rows.iter().map(|row| if row.0.is_some() { 2 } else { 1 }).collect();
        let mut column = group.next_column().expect("a column").expect("bytes");
        column.typed::<ByteArrayType>().write_batch(&images, Some(&levels), None).expect("bytes");
        column.close().expect("bytes");
        let mut column = group.next_column().expect("a column").expect("path");
        column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; rows.len()]), None).expect("paths");
        column.close().expect("path");
        let labels: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.1.is_some())).collect();
        let mut column = group.next_column().expect("a column").expect("label");
        column.typed::<Int64Type>().write_batch(&labels, Some(&levels), None).expect("labels");
        column.close().expect("label");
        group.close().expect("a group");
    }
    writer.close().expect("a footer");
}

/// A data section over one training set, with more keys.
pub fn data(train: &Value, more: Value) -> DataSpec {
    let mut section = json!({"num_classes": 3, "train": train});
    let Value::Object(more) = more else { panic!("more keys are an object") };
    section.as_object_mut().expect("an object").extend(more);
    serde_json::from_value(section).expect("a data section")
}

/// `set` with one key changed.
pub fn with(set: &Value, key: &str, value: Value) -> Value {
    let mut set = set.clone();
    set[key] = value;
    set
}

pub fn open(set: &Value) -> Result<Dataset, DataError> {
    let data = data(set, json!({}));
    Dataset::open(&data, &data.train)
}

/// The upper left intensity of every image.
pub fn corners(dataset: &Dataset) -> Vec<u8> {
    (0..dataset.len()).map(|index| dataset.image(index).expect("an image").bytes[0]).collect()
}
