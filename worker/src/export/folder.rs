//! A folder that is either complete or not there (HANDS): written under a temporary name beside its place, then renamed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use esta_model::Weights;
use serde::Serialize;

use super::ExportError;

/// A file that loads an export in Python.
#[derive(Debug, Clone, Copy)]
pub struct Modelling {
    name: &'static str,
    text: &'static str,
}

/// Loads vision transformers with PyTorch alone.
pub const VIT: Modelling =
    Modelling { name: "modeling_stitched_vit.py", text: include_str!("modeling_stitched_vit.py") };
/// Loads stitched language models through transformers.
pub const LANGUAGE: Modelling = Modelling { name: "modeling_stitched.py", text: include_str!("modeling_stitched.py") };

/// Each of these tells an export from other folders.
const MARKS: [&str; 3] = [VIT.name, LANGUAGE.name, ADAPTED_MARK];
/// What an export holds that needs no modelling file: a language model of ordinary architecture, or an adapter.
pub const ADAPTED_MARK: &str = "esta.json";

/// The files of an export while it is being written.
pub struct Files {
    folder: PathBuf,
}

/// Writes an export, with its modelling file where it needs one. What is in its place goes only when the new one is complete, and only if
/// it is an older export or an empty folder.
pub fn replace(
    target: &Path,
    modelling: Option<Modelling>,
    fill: impl FnOnce(&Files) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    if !is_replaceable(target) {
        return Err(ExportError::Occupied { path: target.to_owned() });
    }
    let files = Files { folder: beside(target, "new") };
    remove(&files.folder)?;
    fs::create_dir_all(&files.folder).map_err(failed("create", &files.folder))?;
    let modelling = |files: &Files| modelling.map_or(Ok(()), |Modelling { name, text }| files.text(name, text));
    let written = fill(&files).and_then(|()| modelling(&files)).and_then(|()| settle(&files.folder, target));
    if written.is_err() {
        // Half a model is of no use, least of all on a full disk; why it failed is the news.
        fs::remove_dir_all(&files.folder).ok();
    }
    written
}

impl Files {
    /// `model.safetensors`.
    pub fn tensors(&self, weights: &Weights) -> Result<(), ExportError> {
        self.tensors_as("model.safetensors", weights)
    }

    /// A safetensors file.
    pub fn tensors_as(&self, name: &str, weights: &Weights) -> Result<(), ExportError> {
        Ok(weights.save(&self.folder.join(name))?)
    }

    /// Indented JSON.
    pub fn json(&self, name: &str, value: &impl Serialize) -> Result<(), ExportError> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::from);
        self.text(name, &text.map_err(failed("write", &self.folder.join(name)))?)
    }

    /// A copy of a file.
    pub fn copy(&self, name: &str, source: &Path) -> Result<(), ExportError> {
        let text = fs::read(source).map_err(failed("read", source))?;
        self.bytes(name, &text)
    }

    /// A text file, flushed to disk.
    pub fn text(&self, name: &str, text: &str) -> Result<(), ExportError> {
        self.bytes(name, text.as_bytes())
    }

    fn bytes(&self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let path = self.folder.join(name);
        let write = |mut file: File| file.write_all(bytes).and_then(|()| file.sync_all());
        File::create(&path).and_then(write).map_err(failed("write", &path))
    }
}

fn is_replaceable(target: &Path) -> bool {
    match fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_none() || MARKS.iter().any(|mark| target.join(mark).is_file()),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Gives a finished folder its name.
fn settle(new: &Path, target: &Path) -> Result<(), ExportError> {
    let old = beside(target, "old");
    remove(&old)?;
    match fs::rename(target, &old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replace", target)(error)),
        _ => {}
    }
    fs::rename(new, target).map_err(failed("name", target))?;
    remove(&old)
}

/// A hidden name beside the target, this process's own.
fn beside(target: &Path, role: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{role}-{}", std::process::id()))
}

fn remove(folder: &Path) -> Result<(), ExportError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder)(error)),
        _ => Ok(()),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ExportError + use<> {
    let path = path.to_owned();
    move |source| ExportError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_export_leaves_the_older_one_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("stitch-3");
        replace(&target, Some(VIT), |files| files.text("README.md", "first")).unwrap();
        let broken = |files: &Files| {
            files.text("README.md", "second")?;
            files.text("no/such/folder", "")
        };
        let error = replace(&target, Some(VIT), broken).unwrap_err();
        assert!(error.to_string().starts_with("cannot write"), "{error}");
        assert_eq!(fs::read_to_string(target.join("README.md")).unwrap(), "first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "half a model stayed behind");
    }

    #[test]
    fn an_older_export_is_replaced_and_anything_else_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("stitch-3");
        replace(&target, Some(VIT), |files| files.text("old", "")).unwrap();
        replace(&target, Some(VIT), |files| files.text("new", "")).unwrap();
        assert!(target.join("new").exists() && !target.join("old").exists());
        let foreign = replace(dir.path(), Some(VIT), |files| files.text("README.md", "")).unwrap_err();
        assert!(matches!(foreign, ExportError::Occupied { .. }), "{foreign}");
        assert!(target.join("new").exists());
    }
}
