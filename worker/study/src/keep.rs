//! Small JSON files of a study's folder (HANDS): there in one piece or not at all.

use std::{fs, io, path::Path};

use serde::{Serialize, de::DeserializeOwned};

/// What a file holds; none where there is no file.
pub(crate) fn read<T: DeserializeOwned>(file: &Path) -> io::Result<Option<T>> {
    match fs::read(file) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file, and its folder where that is missing.
pub(crate) fn write(file: &Path, value: &impl Serialize) -> io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = file.with_extension("json.tmp");
    fs::write(&partial, serde_json::to_vec(value)?)?;
    fs::rename(partial, file)
}
