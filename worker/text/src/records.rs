//! Files of examples (HANDS): a JSON list or one JSON object per line, plain or gzip, alone or in a folder. A record is
//! handed on as it is read, so that a file of lines needs no memory of its own size.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use minijinja::Value;

use crate::error::{Flaw, TextError};
use crate::origin::{Origin, Position};

/// Where records go: each with its place, as a value or as what is wrong with its line.
pub(crate) type Sink<'s> = dyn FnMut(Origin, Result<Value, Flaw>) -> Result<(), TextError> + 's;

/// Hands on every record of a file, or of a folder's files in byte order of their names.
pub(crate) fn each(path: &Path, sink: &mut Sink<'_>) -> Result<(), TextError> {
    for file in files(path)? {
        each_of_file(&file, sink)?;
    }
    Ok(())
}

fn files(path: &Path) -> Result<Vec<PathBuf>, TextError> {
    let read = |source| TextError::Read { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(read)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(read)? {
        let file = entry.map_err(read)?.path();
        if holds_examples(&file) && file.is_file() {
            found.push(file);
        }
    }
    if found.is_empty() {
        return Err(TextError::NoFiles { path: path.to_owned() });
    }
    found.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(found)
}

fn holds_examples(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    !name.starts_with('.') && (plain.ends_with(".json") || plain.ends_with(".jsonl"))
}

fn each_of_file(path: &Path, sink: &mut Sink<'_>) -> Result<(), TextError> {
    let read = |source| TextError::Read { path: path.to_owned(), source };
    let mut reader = open(path).map_err(read)?;
    let (blank_lines, first) = skip_blank(&mut *reader).map_err(read)?;
    if first == Some(b'[') {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(read)?;
        return each_item(path, blank_lines, &bytes, sink);
    }
    each_line(path, blank_lines, &mut *reader, sink)
}

/// A reader of a file's content, decompressed when the file starts with gzip's magic bytes, without a byte order mark.
fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path)?);
    let zipped = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let mut reader: Box<dyn BufRead> =
        if zipped { Box::new(BufReader::new(MultiGzDecoder::new(file))) } else { Box::new(file) };
    if reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    Ok(reader)
}

/// Leaves the reader at the first byte that is no white space: how many lines ended before it, and the byte.
fn skip_blank(reader: &mut dyn BufRead) -> io::Result<(u64, Option<u8>)> {
    let mut lines = 0;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok((lines, None));
        }
        let blank = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        lines += buffer[..blank].iter().filter(|&&byte| byte == b'\n').count() as u64;
        let first = buffer.get(blank).copied();
        reader.consume(blank);
        if first.is_some() {
            return Ok((lines, first));
        }
    }
}

fn each_item(path: &Path, blank_lines: u64, bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), TextError> {
    let items: Vec<Value> = serde_json::from_slice(bytes).map_err(|source| {
        let line = blank_lines + source.line() as u64;
        TextError::List { path: path.to_owned(), line, flaw: malformed(&source) }
    })?;
    for (item, value) in (1..).zip(items) {
        sink(Origin { path: path.to_owned(), position: Position::Item(item) }, Ok(value))?;
    }
    Ok(())
}

fn each_line(path: &Path, blank_lines: u64, reader: &mut dyn BufRead, sink: &mut Sink<'_>) -> Result<(), TextError> {
    let mut bytes = Vec::new();
    for line in blank_lines + 1.. {
        bytes.clear();
        let read = reader.read_until(b'\n', &mut bytes);
        if read.map_err(|source| TextError::Read { path: path.to_owned(), source })? == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let value = serde_json::from_slice(&bytes).map_err(|error| malformed(&error));
        sink(Origin::line(path, line), value)?;
    }
    Ok(())
}

/// What the reader says of a line, without the line number that it counts for itself.
fn malformed(error: &serde_json::Error) -> Flaw {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let said = error.to_string();
    let reason = said.strip_suffix(&place).unwrap_or(&said).to_owned();
    Flaw::Malformed { column: error.column(), reason }
}
