//! TensorBoard event files (HANDS): `TFRecord` frames around `tensorflow.Event` messages, scalars only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use prost::Message;

use super::atomic;

/// `tensorflow.Event`, the fields used here.
#[derive(Clone, PartialEq, Message)]
pub struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    /// Position on TensorBoard's step axis.
    #[prost(int64, tag = "2")]
    pub step: i64,
    /// `brain.Event:2` in a file's first event.
    #[prost(string, optional, tag = "3")]
    pub file_version: Option<String>,
    /// Values of the step.
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
pub struct Summary {
    /// Values.
    #[prost(message, repeated, tag = "1")]
    pub value: Vec<Value>,
}

/// `tensorflow.Summary.Value`, the scalar form.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    /// Name of the series; a slash groups them.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// The value; a member of a oneof, so 0 is written too.
    #[prost(float, optional, tag = "2")]
    pub simple_value: Option<f32>,
}

/// The events file of a run, open for appending.
#[derive(Debug)]
pub struct EventLog {
    file: File,
}

impl EventLog {
    /// Opens the run's events file, keeping the events up to `committed` steps, or begins one.
    ///
    /// # Errors
    /// When files cannot be read or written.
    pub fn open(run_dir: &Path, committed: u64) -> io::Result<Self> {
        let folder = run_dir.join("tensorboard");
        fs::create_dir_all(&folder)?;
        let files = event_files(&folder)?;
        for file in &files {
            trim(file, committed.cast_signed())?;
        }
        let path = match files.into_iter().next_back() {
            Some(path) => path,
            None => begin(&folder)?,
        };
        Ok(Self { file: OpenOptions::new().append(true).open(path)? })
    }

    /// Appends scalars under a step.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> io::Result<()> {
        #[allow(clippy::cast_possible_truncation)] // TensorBoard's scalars are single precision
        let value = |(tag, value): &(String, f64)| Value { tag: tag.clone(), simple_value: Some(*value as f32) };
        let summary = Summary { value: values.iter().map(value).collect() };
        let event =
            Event { wall_time: unix_seconds(), step: step.cast_signed(), file_version: None, summary: Some(summary) };
        self.file.write_all(&frame(&event.encode_to_vec()))
    }
}

/// Seconds since 1970.
#[must_use]
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn begin(folder: &Path) -> io::Result<PathBuf> {
    let now = unix_seconds();
    let path = folder.join(format!("events.out.tfevents.{now:010.0}.esta"));
    let first = Event { wall_time: now, step: 0, file_version: Some("brain.Event:2".into()), summary: None };
    atomic::replace(&path, |file| file.write_all(&frame(&first.encode_to_vec())))?;
    Ok(path)
}

/// A folder's event files in the order in which they were begun.
///
/// # Errors
/// When the folder cannot be listed.
pub fn event_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("events.out.tfevents.") && !name.ends_with(".tmp")
    };
    let paths: io::Result<Vec<PathBuf>> = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut files: Vec<PathBuf> = paths?.into_iter().filter(ours).collect();
    files.sort();
    Ok(files)
}

/// Drops the events beyond `committed` steps, and a frame that a crash cut short.
fn trim(path: &Path, committed: i64) -> io::Result<()> {
    let bytes = fs::read(path)?;
    let kept: Vec<u8> = read_events(&bytes)
        .into_iter()
        .filter(|event| event.step <= committed)
        .flat_map(|event| frame(&event.encode_to_vec()))
        .collect();
    if kept == bytes { Ok(()) } else { atomic::replace(path, |file| file.write_all(&kept)) }
}

/// The events of a file, up to the first frame that is damaged or cut short.
#[must_use]
pub fn read_events(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while let Some((data, rest)) = unframe(bytes) {
        let Ok(event) = Event::decode(data) else { break };
        events.push(event);
        bytes = rest;
    }
    events
}

/// Length, its masked checksum, data, its masked checksum; all little endian.
fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), data, &masked_crc(data)].concat()
}

fn unframe(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (length_crc, rest) = rest.split_first_chunk::<4>()?;
    let size = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    if masked_crc(length) != *length_crc || rest.len() < size {
        return None;
    }
    let (data, rest) = rest.split_at(size);
    let (data_crc, rest) = rest.split_first_chunk::<4>()?;
    (masked_crc(data) == *data_crc).then_some((data, rest))
}

/// `TFRecord`'s mask keeps a checksum of data that holds checksums apart from them.
fn masked_crc(data: &[u8]) -> [u8; 4] {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| (crc >> 8) ^ CASTAGNOLI[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

const CASTAGNOLI: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // The check value of CRC-32C and the vectors of RFC 3720, B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn a_file_parses_back_and_zero_is_a_value() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = EventLog::open(folder.path(), 0).expect("opened");
        log.scalars(10, &[("train/loss".into(), 0.0), ("table/coverage".into(), 0.5)]).expect("written");
        let files = event_files(&folder.path().join("tensorboard")).expect("listed");
        let events = read_events(&fs::read(&files[0]).expect("read"));
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        let values = &events[1].summary.as_ref().expect("scalars").value;
        assert_eq!(values.iter().map(|v| v.simple_value).collect::<Vec<_>>(), [Some(0.0), Some(0.5)]);
        assert_eq!((events.len(), events[1].step), (2, 10));
    }

    #[test]
    fn resuming_drops_events_beyond_it_and_a_torn_frame() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = EventLog::open(folder.path(), 0).expect("opened");
        for step in [10, 20, 30] {
            log.scalars(step, &[("train/loss".into(), step as f64)]).expect("written");
        }
        log.file.write_all(&frame(b"torn")[..9]).expect("written");
        let mut log = EventLog::open(folder.path(), 20).expect("opened again");
        log.scalars(30, &[("train/loss".into(), 7.0)]).expect("written");
        let files = event_files(&folder.path().join("tensorboard")).expect("listed");
        assert_eq!(files.len(), 1, "a resumed run goes on in its file");
        let events = read_events(&fs::read(&files[0]).expect("read"));
        assert_eq!(events.iter().map(|e| e.step).collect::<Vec<_>>(), [0, 10, 20, 30]);
        assert_eq!(events[3].summary.as_ref().expect("scalars").value[0].simple_value, Some(7.0));
    }

    #[test]
    fn a_flipped_bit_ends_the_reading() {
        let mut bytes = [frame(b""), frame(b"")].concat();
        *bytes.last_mut().expect("not empty") ^= 1;
        assert_eq!(read_events(&bytes).len(), 1);
    }
}
