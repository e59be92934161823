//! ImageFolder (HANDS): one folder per class, classes numbered in byte order of their names in the training set.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use super::{Listing, Source, read_error};
use crate::error::DataError;

const READ_HERE: [&str; 3] = ["jpg", "jpeg", "png"];
/// Images other loaders of this layout would show: leaving them out without a word would change the set.
const IMAGES_ELSEWHERE: [&str; 8] = ["bmp", "gif", "pgm", "ppm", "tif", "tiff", "webp", "avif"];

/// Lists the files of every class folder and the folders below it. Names that start with a dot and files that are no
/// images are passed over. The folders of `numbered_by` give the numbers: a set that lacks a class would call those
/// behind it by other numbers than training did.
pub(super) fn list(root: &Path, numbered_by: &Path) -> Result<Listing, DataError> {
    let classes = names(numbered_by)?;
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    for name in names(root)? {
        let (folder, before) = (root.join(&name), paths.len());
        let number = (0..).zip(&classes).find(|&(_, known)| *known == name);
        let (label, _) = number.ok_or_else(|| unknown(root, &name, numbered_by))?;
        walk(&folder, &mut paths)?;
        if paths.len() == before {
            return Err(DataError::Empty { path: folder });
        }
        labels.resize(paths.len(), label);
    }
    let classes = classes.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    Ok(Listing { labels, classes, source: Source::Files(paths) })
}

/// The names of a set's class folders in byte order; at least one.
fn names(root: &Path) -> Result<Vec<OsString>, DataError> {
    let folders = entries(root)?.into_iter().filter(|path| path.is_dir());
    let names: Vec<OsString> = folders.filter_map(|path| path.file_name().map(OsStr::to_owned)).collect();
    if names.is_empty() {
        return Err(DataError::Empty { path: root.to_owned() });
    }
    Ok(names)
}

fn unknown(root: &Path, name: &OsStr, train: &Path) -> DataError {
    let class = name.to_string_lossy().into_owned();
    DataError::ClassUnknown { path: root.to_owned(), class, train: train.to_owned() }
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), DataError> {
    for path in entries(folder)? {
        if path.is_dir() {
            walk(&path, paths)?;
            continue;
        }
        let kind = path.extension().map(|kind| kind.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        if READ_HERE.contains(&kind.as_str()) {
            paths.push(path);
        } else if IMAGES_ELSEWHERE.contains(&kind.as_str()) {
            return Err(DataError::ImageKind { path });
        }
    }
    Ok(())
}

/// A folder's visible entries in byte order of their names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(read_error(folder))? {
        let name = entry.map_err(read_error(folder))?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}
