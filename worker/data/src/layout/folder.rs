//! ImageFolder (HANDS): one folder per class, classes numbered in byte order of their names.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Listing, Source, read_error};
use crate::error::DataError;

const READ_HERE: [&str; 3] = ["jpg", "jpeg", "png"];
/// Images other loaders of this layout would show: leaving them out without a word would change the set.
const IMAGES_ELSEWHERE: [&str; 8] = ["bmp", "gif", "pgm", "ppm", "tif", "tiff", "webp", "avif"];

/// Lists the files of every class folder and the folders below it. Names that start with a dot and files that are no
/// images are passed over.
pub(super) fn list(root: &Path) -> Result<Listing, DataError> {
    let classes: Vec<PathBuf> = entries(root)?.into_iter().filter(|path| path.is_dir()).collect();
    if classes.is_empty() {
        return Err(DataError::Empty { path: root.to_owned() });
    }
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    for (label, class) in (0..).zip(&classes) {
        let before = paths.len();
        walk(class, &mut paths)?;
        if paths.len() == before {
            return Err(DataError::Empty { path: class.clone() });
        }
        labels.resize(paths.len(), label);
    }
    Ok(Listing { labels, source: Source::Files(paths) })
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
