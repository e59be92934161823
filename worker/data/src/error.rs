//! What can be wrong with data (HANDS): every error names the file, the record in it and the values found.

use std::ops::Range;
use std::path::PathBuf;

use esta_text::Origin;
use thiserror::Error;

/// Why a data set, an image or a batch cannot be had.
#[derive(Debug, Error)]
pub enum DataError {
    /// A set of texts where images are wanted.
    #[error("{} holds texts, not images", path.display())]
    Texts {
        /// The file.
        path: PathBuf,
    },
    /// A set of texts.
    #[error(transparent)]
    Text(#[from] esta_text::TextError),
    /// A file or folder is missing or unreadable.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An IDX file of another kind, or no IDX file at all.
    #[error("{}: magic number {found:#010x}, expected {expected:#010x} ({meaning})", path.display())]
    Magic {
        /// The file.
        path: PathBuf,
        /// The number it starts with.
        found: u32,
        /// The number it should start with.
        expected: u32,
        /// What that number stands for.
        meaning: &'static str,
    },
    /// A file whose header promises another length than it has.
    #[error("{}: {found} bytes after decompression, its header promises {expected}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes found; one more than expected stands for any surplus.
        found: u64,
        /// Bytes the header implies.
        expected: u64,
    },
    /// Images without pixels.
    #[error("{}: images of {height}x{width} pixels", path.display())]
    EmptyImages {
        /// The file.
        path: PathBuf,
        /// Rows.
        height: u64,
        /// Columns.
        width: u64,
    },
    /// An image file and a label file that do not belong together.
    #[error("{} holds {images} images but {} holds {labels} labels", images_path.display(), labels_path.display())]
    Pairing {
        /// The images' file.
        images_path: PathBuf,
        /// Its images.
        images: u64,
        /// The labels' file.
        labels_path: PathBuf,
        /// Its labels.
        labels: u64,
    },
    /// A line with too few or too many fields.
    #[error("{origin}: {found} fields, expected {expected}")]
    Fields {
        /// The line.
        origin: Origin,
        /// Fields found.
        found: usize,
        /// Fields expected.
        expected: usize,
    },
    /// A field that is not a whole number in its range.
    #[error("{origin}: field {field} is {text:?}, expected a whole number from 0 to {most}")]
    Number {
        /// The line.
        origin: Origin,
        /// The field, from 1.
        field: usize,
        /// What it holds.
        text: String,
        /// The largest number allowed.
        most: i64,
    },
    /// A text file that is no CSV, or an unreadable stretch of it.
    #[error("{origin}: not readable as CSV")]
    Csv {
        /// The line.
        origin: Origin,
        /// What the reader said.
        #[source]
        source: csv::Error,
    },
    /// A line of an image list that is not "relative/path label".
    #[error("{origin}: {text:?} is not \"relative/path label\"")]
    ListLine {
        /// The line.
        origin: Origin,
        /// What it holds.
        text: String,
    },
    /// A label the job has no class for.
    #[error("{origin}: label {label} is not below num_classes = {classes}")]
    Label {
        /// The labelled image.
        origin: Origin,
        /// The label found.
        label: i64,
        /// Classes of the job.
        classes: u32,
    },
    /// A `classes` filter that names a class twice.
    #[error("{}: classes names {class} twice", path.display())]
    ClassTwice {
        /// The set.
        path: PathBuf,
        /// The class.
        class: u32,
    },
    /// A `classes` filter that names a class without images.
    #[error("{}: classes names {class}, which has no image", path.display())]
    ClassAbsent {
        /// The set.
        path: PathBuf,
        /// The class.
        class: u32,
    },
    /// A class folder that training does not have: no number stands for it.
    #[error("{}: no class {class:?} among the folders of {}, which number the classes", path.display(), train.display())]
    ClassUnknown {
        /// The set.
        path: PathBuf,
        /// The folder's name.
        class: String,
        /// The training set.
        train: PathBuf,
    },
    /// A `classes` filter that keeps more classes than the job has.
    #[error("{}: classes keeps {kept} classes, more than num_classes = {classes}", path.display())]
    ClassCount {
        /// The set.
        path: PathBuf,
        /// Classes kept.
        kept: usize,
        /// Classes of the job.
        classes: u32,
    },
    /// A set or split without images.
    #[error("{}: no images", path.display())]
    Empty {
        /// The set.
        path: PathBuf,
    },
    /// A split that asks for more images than there are.
    #[error("{}: split skips {skip} and takes {count} of {found} images", path.display())]
    Split {
        /// The set.
        path: PathBuf,
        /// Images skipped.
        skip: u64,
        /// Images to take.
        count: u64,
        /// Images there are.
        found: u64,
    },
    /// A layout whose labels lie in a second file that the spec does not name.
    #[error("{}: layout {layout} needs `labels`", path.display())]
    LabelsMissing {
        /// The set.
        path: PathBuf,
        /// The layout's name in a spec.
        layout: &'static str,
    },
    /// A rotation that is no multiple of a quarter turn.
    #[error("{}: rotate {degrees} is not 0, 90, 180 or 270", path.display())]
    Rotation {
        /// The set.
        path: PathBuf,
        /// The degrees asked for.
        degrees: u32,
    },
    /// A set shrunk to nothing.
    #[error("{}: downsample 0 shows nothing", path.display())]
    Downsample {
        /// The set.
        path: PathBuf,
    },
    /// A file in an image folder that is an image of a kind not read here.
    #[error("{}: images are read from jpg, jpeg and png files; convert this one", path.display())]
    ImageKind {
        /// The file.
        path: PathBuf,
    },
    /// Bytes that are no readable image.
    #[error("{origin}: not readable as an image")]
    Image {
        /// Where the bytes lie.
        origin: Origin,
        /// What the decoder said.
        #[source]
        source: image::ImageError,
    },
    /// A parquet file that cannot be read.
    #[error("{}: not readable as parquet", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        #[source]
        source: parquet::errors::ParquetError,
    },
    /// A parquet file without a usable column of the kind needed.
    #[error("{}: no {wanted} among the columns {}", path.display(), found.join(", "))]
    Column {
        /// The file.
        path: PathBuf,
        /// The column needed.
        wanted: String,
        /// The leaf columns, with their types.
        found: Vec<String>,
    },
    /// A parquet row without a label or without image bytes.
    #[error("{origin}: {column} is null")]
    Null {
        /// The row.
        origin: Origin,
        /// The empty column.
        column: String,
    },
    /// A folder that holds the shards of several splits.
    #[error("{} holds shards of {first:?} and of {second:?}: name one of them as the path {}/{first}", path.display(), path.display())]
    MixedShards {
        /// The folder.
        path: PathBuf,
        /// One split's name.
        first: String,
        /// Another's.
        second: String,
    },
    /// Channel statistics for another number of channels.
    #[error("normalize has {mean} means and {std} deviations for {channels} channels")]
    Statistics {
        /// Means given.
        mean: usize,
        /// Deviations given.
        std: usize,
        /// The anchors' input channels.
        channels: usize,
    },
    /// A deviation that cannot be divided by, or a mean that is no number.
    #[error("normalize: channel {channel} has mean {mean} and deviation {std}")]
    Statistic {
        /// The channel, from 0.
        channel: usize,
        /// Its mean.
        mean: f32,
        /// Its deviation.
        std: f32,
    },
    /// An input shape that images cannot take.
    #[error("images cannot become {channels} channels of {image_size}x{image_size}: 1 or 3 channels, side at least 1")]
    Shape {
        /// Channels asked for.
        channels: u32,
        /// Side asked for.
        image_size: u32,
    },
    /// A loader thread's panic while it prepared a batch: a defect, reported instead of a hang.
    #[error("preparing the samples {} to {} panicked", counters.start, counters.end)]
    Panicked {
        /// The sample counters of the batch.
        counters: Range<u64>,
    },
    /// The loader threads ended before the batch was prepared.
    #[error("the loader threads have stopped")]
    Stopped,
}
