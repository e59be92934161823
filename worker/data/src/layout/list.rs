//! VTAB-1k image lists (HANDS): lines of "relative/path label" under a root folder.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use esta_text::Origin;

use super::{Listing, Source, open, read_error};
use crate::error::DataError;

/// Reads a list; every image has to be there, so that a wrong root shows at the start and not in the middle of a run.
pub(super) fn list(root: &Path, list: &Path) -> Result<Listing, DataError> {
    let (mut paths, mut labels) = (Vec::new(), Vec::new());
    for (at, line) in (1..).zip(open(list)?.lines()) {
        let line = line.map_err(read_error(list))?;
        if line.trim().is_empty() {
            continue;
        }
        let (relative, label) = parse(&line)
            .ok_or_else(|| DataError::ListLine { origin: Origin::line(list, at), text: line.trim().to_owned() })?;
        let path: PathBuf = root.join(relative);
        std::fs::metadata(&path).map_err(read_error(&path))?;
        paths.push(path);
        labels.push(label);
    }
    Ok(Listing::unnamed(labels, Source::Files(paths)))
}

/// The last blank parts path and label: paths may hold blanks.
fn parse(line: &str) -> Option<(&str, i64)> {
    let (path, label) = line.trim().rsplit_once(char::is_whitespace)?;
    Some((path.trim_end(), label.parse().ok()?))
}
