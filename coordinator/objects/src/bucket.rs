//! A bucket as it is reached: what is in a place, and what is taken out of it.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path as Key,
};

use crate::{
    WHOLE,
    error::{Cause, ObjectsError, at},
    place::{Place, is_sound_name},
    threads::wait,
};

/// Time that a storage that does not answer is asked again for.
const PATIENCE: Duration = Duration::from_secs(120);
/// Requests at once that take objects away.
const REMOVALS: usize = 8;

/// How buckets are reached.
#[derive(Clone)]
pub struct Access {
    settings: Vec<(String, String)>,
    patience: Duration,
}

impl Access {
    /// As the `AWS_` variables of the environment say: endpoint, region, credentials.
    #[must_use]
    pub fn from_env() -> Self {
        let texts =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::by(texts.filter(|(name, _)| name.starts_with("AWS_")))
    }

    /// As these variables say.
    #[must_use]
    pub fn by(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { settings: variables.into_iter().collect(), patience: PATIENCE }
    }

    /// Asks a storage that does not answer for this long.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }
}

/// A bucket, with credentials and endpoint from the environment as Amazon's own tools name them.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub(crate) store: Arc<AmazonS3>,
    name: String,
}

/// One object of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name below the place.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What tells it from another object of the same key.
    pub tag: String,
}

impl Bucket {
    /// The bucket of a place, as the environment says it is reached; nothing is asked of it yet.
    ///
    /// # Errors
    /// [`ObjectsError`] when the environment contradicts itself.
    pub fn of(place: &Place) -> Result<Self, ObjectsError> {
        Self::reached(place, &Access::from_env())
    }

    /// The bucket of a place, reached like this.
    ///
    /// # Errors
    /// [`ObjectsError`] when the settings contradict each other.
    pub fn reached(place: &Place, access: &Access) -> Result<Self, ObjectsError> {
        let mut builder = AmazonS3Builder::new();
        for (name, value) in &access.settings {
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        let retry = RetryConfig { retry_timeout: access.patience, ..RetryConfig::default() };
        let store = builder.with_bucket_name(place.bucket()).with_retry(retry).build();
        let unset = |error: object_store::Error| {
            let source = Cause::Settings(error.to_string());
            ObjectsError::Storage { step: "reach", place: place.clone(), source }
        };
        Ok(Self { store: Arc::new(store.map_err(unset)?), name: place.bucket().to_owned() })
    }

    /// Every object of a place that is a folder, by name; none where there is nothing.
    ///
    /// # Errors
    /// [`ObjectsError`], also where a key would be no file below a folder.
    pub fn list(&self, place: &Place) -> Result<Vec<Object>, ObjectsError> {
        let (bucket, place) = (self.clone(), place.clone());
        wait(async move { bucket.listed(&place).await })
    }

    /// Takes everything of a folder away, first what says that it is whole.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn remove(&self, place: &Place) -> Result<(), ObjectsError> {
        let (bucket, place) = (self.clone(), place.clone());
        wait(async move {
            let objects = bucket.listed(&place).await?;
            let (marks, others): (Vec<_>, Vec<_>) =
                objects.into_iter().partition(|object| object.name.ends_with(WHOLE));
            bucket.removed(&place, marks.into_iter().map(|object| object.name)).await?;
            bucket.removed(&place, others.into_iter().map(|object| object.name)).await
        })
    }

    pub(crate) async fn removed(
        &self,
        place: &Place,
        names: impl IntoIterator<Item = String>,
    ) -> Result<(), ObjectsError> {
        let removals = names.into_iter().map(|name| {
            let place = place.join(&name);
            async move {
                match self.store.delete(&key(&place)?).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(at("remove", &place)(error)),
                }
            }
        });
        stream::iter(removals).buffer_unordered(REMOVALS).try_collect().await
    }

    pub(crate) async fn listed(&self, place: &Place) -> Result<Vec<Object>, ObjectsError> {
        debug_assert_eq!(self.name, place.bucket());
        let prefix = key(place)?;
        let whole = (!place.key().is_empty()).then_some(&prefix);
        let found: Vec<ObjectMeta> = self.store.list(whole).try_collect().await.map_err(at("list", place))?;
        let mut objects = Vec::with_capacity(found.len());
        for object in found {
            let name = object.location.as_ref().strip_prefix(place.key()).unwrap_or_default();
            let name = name.strip_prefix('/').unwrap_or(name);
            // Some programs put an empty object where a folder is to be seen.
            if name.is_empty() {
                continue;
            }
            if !name.split('/').all(is_sound_name) {
                let source = Cause::Stray(object.location.to_string());
                return Err(ObjectsError::Storage { step: "list", place: place.clone(), source });
            }
            objects.push(Object { name: name.to_owned(), size: object.size, tag: tag(&object) });
        }
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        drop_folders(&mut objects);
        Ok(objects)
    }

    /// The object at exactly this place, by its last name.
    pub(crate) async fn single(&self, place: &Place) -> Result<Object, ObjectsError> {
        let found = self.store.head(&key(place)?).await.map_err(at("find", place))?;
        Ok(Object { name: place.name().to_owned(), size: found.size, tag: tag(&found) })
    }
}

/// Without the empty objects that stand for a folder: beside `a/b` an empty `a` is none.
fn drop_folders(objects: &mut Vec<Object>) {
    let folders: std::collections::BTreeSet<String> = objects
        .iter()
        .flat_map(|object| object.name.match_indices('/').map(|(end, _)| object.name[..end].to_owned()))
        .collect();
    objects.retain(|object| object.size > 0 || !folders.contains(&object.name));
}

fn tag(object: &ObjectMeta) -> String {
    object.e_tag.clone().unwrap_or_else(|| object.last_modified.to_rfc3339())
}

pub(crate) fn key(place: &Place) -> Result<Key, ObjectsError> {
    let stray = |_| {
        let source = Cause::Stray(place.key().to_owned());
        ObjectsError::Storage { step: "name", place: place.clone(), source }
    };
    Key::parse(place.key()).map_err(stray)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_object_that_stands_for_a_folder_is_no_file() {
        let object = |name: &str, size| Object { name: name.to_owned(), size, tag: String::new() };
        let mut objects = vec![object("a", 0), object("a/b", 3), object("c", 0)];
        drop_folders(&mut objects);
        assert_eq!(objects, [object("a/b", 3), object("c", 0)]);
    }
}
