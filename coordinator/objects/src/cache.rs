//! Where on this machine things from object storage lie.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{
    bucket::Bucket,
    error::{Cause, ObjectsError},
    fetch::Fetched,
    ledger::Beside,
    place::Place,
};

/// The folder that fetched things are kept under: `ESTA_CACHE`, by default `esta` in the user's cache.
#[must_use]
pub fn root() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).unwrap_or_else(env::temp_dir);
    set("ESTA_CACHE").unwrap_or_else(|| home().join("esta"))
}

/// What a place is called here: a name to be recognised by, and what tells it from others.
fn called(name: &str, place: &Place) -> String {
    let endpoint =
        ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].into_iter().find_map(|name| env::var(name).ok());
    let address = format!("{}\n{place}", endpoint.unwrap_or_default());
    format!("{name}-{}", &blake3::hash(address.as_bytes()).to_hex()[..16])
}

/// The local folder of a run that keeps its files in a place.
#[must_use]
pub fn run_folder(name: &str, place: &Place) -> PathBuf {
    root().join("runs").join(called(name, place))
}

/// Where a place lies in the cache if it was brought there: a folder, or a file.
#[must_use]
pub fn located(place: &Place) -> Option<PathBuf> {
    let folder = folder_of(place);
    let file = single_of(&folder).join(place.name());
    if file.is_file() { Some(file) } else { folder.is_dir().then_some(folder) }
}

/// Brings an object, or a folder of objects, into the cache and answers where it lies. Processes that share the cache bring it once.
///
/// # Errors
/// [`ObjectsError`].
pub fn bring(place: &Place) -> Result<(PathBuf, Fetched), ObjectsError> {
    let (bucket, folder) = (Bucket::of(place)?, folder_of(place));
    let single = single_of(&folder);
    match bucket.fetch(place, &folder) {
        Err(ObjectsError::Storage { source: Cause::Nothing, .. }) if !place.key().is_empty() => {
            Ok((single.join(place.name()), bucket.fetch_object(place, &single)?))
        }
        fetched => {
            let fetched = fetched?;
            if single.exists() {
                forget(&single)?;
            }
            Ok((folder, fetched))
        }
    }
}

fn folder_of(place: &Place) -> PathBuf {
    root().join("objects").join(called(place.name(), place))
}

/// The folder of a place that is one object.
fn single_of(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!("{name}.file"))
}

/// Brings one object of a folder into the cache, and nothing else of it; none where there is none.
///
/// # Errors
/// [`ObjectsError`].
pub fn bring_file(place: &Place, name: &str) -> Result<Option<PathBuf>, ObjectsError> {
    let folder = folder_of(place);
    let there = Bucket::of(place)?.fetch_file(place, name, &folder)?;
    Ok(there.then(|| folder.join(name)))
}

/// Forgets a folder that followed a place, with all that is beside it.
///
/// # Errors
/// [`ObjectsError`].
pub fn forget(folder: &Path) -> Result<(), ObjectsError> {
    crate::ledger::absent_is_fine(fs::remove_dir_all(folder)).map_err(crate::error::on("remove", folder))?;
    Beside::of(folder).remove()
}
