//! A run whose files are kept in object storage: a local folder that its processes work in, and what of it is in the bucket.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use object_store::ObjectStoreExt;

use crate::{
    WHOLE,
    bucket::{Bucket, Object, key},
    cache,
    error::{ObjectsError, at},
    place::Place,
    threads::wait,
};

/// Where a run's files are.
#[derive(Debug, Clone)]
pub struct RunPlace {
    /// The folder that processes of this machine work in.
    pub folder: PathBuf,
    /// Where its files are kept, if that is object storage.
    pub kept: Option<Kept>,
}

impl RunPlace {
    /// The place that a job's `output_dir` names, of the run of this name. Nothing is asked of a bucket yet.
    ///
    /// # Errors
    /// [`ObjectsError`] when it names none, or the environment does not say how to reach it.
    pub fn of(output_dir: &str, name: &str) -> Result<Self, ObjectsError> {
        let Some(place) = Place::of(output_dir)? else {
            return Ok(Self { folder: PathBuf::from(output_dir), kept: None });
        };
        let folder = cache::run_folder(name, &place);
        Ok(Self { folder, kept: Some(Kept { bucket: Bucket::of(&place)?, place }) })
    }

    /// As people are told of it.
    #[must_use]
    pub fn shown(&self) -> PathBuf {
        self.kept.as_ref().map_or_else(|| self.folder.clone(), |kept| PathBuf::from(kept.place.to_string()))
    }
}

/// A run's files in a bucket.
#[derive(Debug, Clone)]
pub struct Kept {
    bucket: Bucket,
    place: Place,
}

impl Kept {
    /// Where they are.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Every object of the run, by name.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn list(&self) -> Result<Vec<Object>, ObjectsError> {
        self.bucket.list(&self.place)
    }

    /// The folders of the run, one level below it, that are whole there, by name.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn whole(&self) -> Result<Vec<String>, ObjectsError> {
        let objects = self.bucket.list(&self.place)?;
        let folder = |name: &str| Some(name.strip_suffix(WHOLE)?.strip_suffix('/')?.to_owned());
        Ok(objects.iter().filter_map(|object| folder(&object.name)).filter(|name| !name.contains('/')).collect())
    }

    /// The folders of the run, one level below it, whole there or not, by name.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn folders(&self) -> Result<BTreeSet<String>, ObjectsError> {
        let folder = |object: Object| Some(object.name.split_once('/')?.0.to_owned());
        Ok(self.list()?.into_iter().filter_map(folder).collect())
    }

    /// Sends a folder of the run; whole there once this is done.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn push(&self, run: &Path, name: &str) -> Result<(), ObjectsError> {
        self.bucket.push(&run.join(name), &self.place.join(name)).map(drop)
    }

    /// Brings a folder of the run.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn fetch(&self, run: &Path, name: &str) -> Result<(), ObjectsError> {
        self.bucket.fetch(&self.place.join(name), &run.join(name)).map(drop)
    }

    /// Takes a folder of the run away there.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn remove(&self, name: &str) -> Result<(), ObjectsError> {
        self.bucket.remove(&self.place.join(name))
    }

    /// Sends files of the run, named relative to it.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn send(&self, run: &Path, names: Vec<String>) -> Result<(), ObjectsError> {
        self.bucket.send(run, &self.place, names)
    }

    /// Takes files of the run away there.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn remove_files(&self, names: Vec<String>) -> Result<(), ObjectsError> {
        self.bucket.remove_names(&self.place, names)
    }

    /// Brings one file of the run; false where there is none.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn fetch_file(&self, run: &Path, name: &str) -> Result<bool, ObjectsError> {
        self.bucket.fetch_file(&self.place, name, run)
    }

    /// What is in a small file of the run; none where there is none.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, ObjectsError> {
        let (bucket, place) = (self.bucket.clone(), self.place.join(name));
        wait(async move {
            let answer = match bucket.store.get(&key(&place)?).await {
                Err(object_store::Error::NotFound { .. }) => return Ok(None),
                answer => answer.map_err(at("read", &place))?,
            };
            Ok(Some(answer.bytes().await.map_err(at("read", &place))?.to_vec()))
        })
    }
}
