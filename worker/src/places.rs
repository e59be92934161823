//! What a job names in object storage (HANDS): brought into this machine's cache before it is opened.

use std::borrow::Cow;

use esta_engine::spec::{DataSpec, DatasetSpec};
use esta_objects::{ObjectsError, Place, cache};
use thiserror::Error;

/// A data set did not come.
#[derive(Debug, Error)]
#[error("{key} does not come from object storage")]
pub struct DataPlaceError {
    /// The key that names it.
    pub key: String,
    /// Why.
    pub source: ObjectsError,
}

/// Brings what a text names, if it means object storage; answers where it lies.
///
/// # Errors
/// [`ObjectsError`].
pub fn bring(text: &str) -> Result<Option<String>, ObjectsError> {
    let Some(place) = Place::of(text)? else { return Ok(None) };
    let (path, fetched) = cache::bring(&place)?;
    let path = path.to_string_lossy().into_owned();
    tracing::info!(%place, files = fetched.files, bytes = fetched.bytes, fetched = fetched.came, path, "in the cache");
    Ok(Some(path))
}

/// The data of a job as they can be opened here: what lies in object storage is brought, and named by where it was brought to.
///
/// # Errors
/// [`DataPlaceError`].
pub fn data_here(data: &DataSpec) -> Result<Cow<'_, DataSpec>, DataPlaceError> {
    let meant = |set: &DatasetSpec| Place::is_meant(&set.path) || set.labels.as_deref().is_some_and(Place::is_meant);
    if !std::iter::once(&data.train).chain(&data.eval).chain(&data.validation).any(meant) {
        return Ok(Cow::Borrowed(data));
    }
    let mut here = data.clone();
    set_here("train", &mut here.train)?;
    here.eval.iter_mut().try_for_each(|set| set_here("eval", set))?;
    here.validation.iter_mut().try_for_each(|set| set_here("validation", set))?;
    Ok(Cow::Owned(here))
}

fn set_here(name: &str, set: &mut DatasetSpec) -> Result<(), DataPlaceError> {
    let keys = [("path", Some(&mut set.path)), ("labels", set.labels.as_mut())];
    for (key, text) in keys {
        let Some(text) = text else { continue };
        let failed = |source| DataPlaceError { key: format!("data.{name}.{key}"), source };
        if let Some(path) = bring(text).map_err(failed)? {
            *text = path;
        }
    }
    Ok(())
}
