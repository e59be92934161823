//! What is known of a folder that follows a place: which object each of its files is.
//!
//! It lies beside the folder, one line of JSON for each file that came or went; the last one about a file counts.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    bucket::Object,
    error::{ObjectsError, on},
};

/// The files beside a folder that its transfers need.
#[derive(Debug, Clone)]
pub(crate) struct Beside {
    /// One transfer at a time.
    pub lock: PathBuf,
    /// The ledger.
    pub ledger: PathBuf,
    /// Files that are on their way.
    pub parts: PathBuf,
}

impl Beside {
    pub fn of(folder: &Path) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = |what: &str| folder.with_file_name(format!(".{what}-{name}"));
        Self { lock: beside("lock"), ledger: beside("objects"), parts: beside("parts") }
    }

    /// Waits until nobody else on this machine brings or sends that folder.
    pub fn lock(&self) -> Result<File, ObjectsError> {
        if let Some(parent) = self.lock.parent() {
            fs::create_dir_all(parent).map_err(on("create", parent))?;
        }
        let file = File::create(&self.lock).map_err(on("create", &self.lock))?;
        file.lock().map_err(on("lock", &self.lock))?;
        Ok(file)
    }

    /// Forgets all of them.
    pub fn remove(&self) -> Result<(), ObjectsError> {
        absent_is_fine(fs::remove_file(&self.ledger)).map_err(on("remove", &self.ledger))?;
        absent_is_fine(fs::remove_dir_all(&self.parts)).map_err(on("remove", &self.parts))?;
        absent_is_fine(fs::remove_file(&self.lock)).map_err(on("remove", &self.lock))
    }
}

pub(crate) fn absent_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    name: String,
    size: u64,
    /// None: the file is gone.
    tag: Option<String>,
}

/// A ledger, open for appending.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    file: File,
    known: BTreeMap<String, (u64, String)>,
}

impl Ledger {
    /// Reads it; a line that a crash cut is as if it were not there.
    pub fn open(path: &Path) -> Result<Self, ObjectsError> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(on("read", path))?,
        };
        let mut known = BTreeMap::new();
        for Line { name, size, tag } in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            match tag {
                Some(tag) => known.insert(name, (size, tag)),
                None => known.remove(&name),
            };
        }
        let mut file = File::options().create(true).append(true).open(path).map_err(on("open", path))?;
        if !text.is_empty() && !text.ends_with('\n') {
            file.write_all(b"\n").map_err(on("write", path))?;
        }
        Ok(Self { path: path.to_owned(), file, known })
    }

    /// Whether the file of this name in the folder is that object.
    pub fn has(&self, folder: &Path, object: &Object) -> bool {
        let known = self.known.get(&object.name);
        known.is_some_and(|(size, tag)| (*size, tag) == (object.size, &object.tag))
            && fs::metadata(folder.join(&object.name)).is_ok_and(|file| file.is_file() && file.len() == object.size)
    }

    /// The names of all files it knows.
    pub fn names(&self) -> Vec<String> {
        self.known.keys().cloned().collect()
    }

    pub fn came(&mut self, object: &Object) -> Result<(), ObjectsError> {
        self.known.insert(object.name.clone(), (object.size, object.tag.clone()));
        self.append(&Line { name: object.name.clone(), size: object.size, tag: Some(object.tag.clone()) })
    }

    pub fn went(&mut self, name: &str) -> Result<(), ObjectsError> {
        self.known.remove(name);
        self.append(&Line { name: name.to_owned(), size: 0, tag: None })
    }

    fn append(&mut self, line: &Line) -> Result<(), ObjectsError> {
        let mut text = serde_json::to_string(line).expect("a line has no key that JSON lacks");
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(on("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, tag: &str) -> Object {
        Object { name: name.to_owned(), size: 3, tag: tag.to_owned() }
    }

    #[test]
    fn the_last_word_about_a_file_counts_and_a_cut_line_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger");
        let mut ledger = Ledger::open(&path).expect("opened");
        for (name, tag) in [("a", "1"), ("b", "1"), ("a", "2")] {
            ledger.came(&object(name, tag)).expect("written");
        }
        ledger.went("b").expect("written");
        fs::write(&path, fs::read_to_string(&path).expect("read") + "{\"name\":\"c\"").expect("cut");
        Ledger::open(&path).expect("opened").came(&object("d", "1")).expect("written");
        let ledger = Ledger::open(&path).expect("opened");
        assert_eq!(ledger.names(), ["a", "d"]);
        fs::write(folder.path().join("a"), "abc").expect("written");
        assert!(ledger.has(folder.path(), &object("a", "2")));
        assert!(!ledger.has(folder.path(), &object("a", "1")));
        fs::write(folder.path().join("a"), "ab").expect("written");
        assert!(!ledger.has(folder.path(), &object("a", "2")), "somebody cut it");
    }
}
