//! Files of JSON lines (HANDS), appended to and, where a run goes on, cut back to what holds.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use super::atomic;

/// Opens a file for appending, and answers the lines that stay: those that `keep` lets through, up to the first that it does not.
///
/// # Errors
/// When it cannot be read or written.
pub fn open<T: Serialize + DeserializeOwned>(path: &Path, keep: impl Fn(&T) -> bool) -> io::Result<(File, Vec<T>)> {
    let old = if path.exists() { fs::read_to_string(path)? } else { String::new() };
    let kept: Vec<T> = parse(&old).into_iter().take_while(keep).collect();
    let text = kept.iter().map(to_line).collect::<io::Result<String>>()?;
    if text != old {
        atomic::replace(path, |file| file.write_all(text.as_bytes()))?;
    }
    Ok((OpenOptions::new().create(true).append(true).open(path)?, kept))
}

/// Appends a line.
///
/// # Errors
/// When the file cannot be written.
pub fn append(file: &mut File, line: &impl Serialize) -> io::Result<()> {
    file.write_all(to_line(line)?.as_bytes())
}

/// The lines of a file, up to one that a crash cut short.
#[must_use]
pub fn parse<T: DeserializeOwned>(text: &str) -> Vec<T> {
    text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
}

fn to_line(line: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string(line)? + "\n")
}
