//! From a folder to a place: every file, then an object that says that the place is whole.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream, stream::FuturesUnordered};
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutPayload, PutResult};
use serde::{Deserialize, Serialize};

use crate::{
    WHOLE,
    bucket::{Bucket, Object, key},
    error::{ObjectsError, at, on},
    ledger::{Beside, Ledger},
    place::Place,
    threads::wait,
};

/// Files on their way at once.
const AT_ONCE: usize = 4;
/// Parts of a large file on their way at once.
const PARTS_AT_ONCE: usize = 3;
/// Bytes of a part at least; a smaller file goes as a whole.
const PART: u64 = 8 << 20;
/// Parts that S3 takes of an object at most.
const MOST_PARTS: u64 = 10_000;

/// What a push did, and what its last object says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pushed {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Bucket {
    /// Sends a folder. While it is on its way the place is not whole, and afterwards it holds nothing else.
    ///
    /// # Errors
    /// [`ObjectsError`]; the place is not whole then.
    pub fn push(&self, folder: &Path, place: &Place) -> Result<Pushed, ObjectsError> {
        let beside = Beside::of(folder);
        let _lock = beside.lock()?;
        let (bucket, folder, place) = (self.clone(), folder.to_owned(), place.clone());
        wait(async move {
            let names = names(&folder)?;
            bucket.removed(&place, [WHOLE.to_owned()]).await?;
            let sent = bucket.sent(&folder, &place, names).await?;
            let mut ledger = Ledger::open(&beside.ledger)?;
            sent.iter().try_for_each(|object| ledger.came(object))?;
            let there = bucket.listed(&place).await?.into_iter().map(|object| object.name);
            let foreign = there.filter(|name| sent.binary_search_by(|object| object.name.cmp(name)).is_err());
            bucket.removed(&place, foreign).await?;
            let pushed = Pushed { files: sent.len(), bytes: sent.iter().map(|object| object.size).sum() };
            let mark = serde_json::to_vec(&pushed).expect("it has no key that JSON lacks");
            let at_mark = place.join(WHOLE);
            bucket.store.put(&key(&at_mark)?, mark.into()).await.map_err(at("write", &at_mark))?;
            Ok(pushed)
        })
    }

    /// Sends some files of a folder, named relative to it.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn send(&self, folder: &Path, place: &Place, names: Vec<String>) -> Result<(), ObjectsError> {
        let (bucket, folder, place) = (self.clone(), folder.to_owned(), place.clone());
        wait(async move { bucket.sent(&folder, &place, names).await.map(drop) })
    }

    /// Takes objects of a place away by name.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn remove_names(&self, place: &Place, names: Vec<String>) -> Result<(), ObjectsError> {
        let (bucket, place) = (self.clone(), place.clone());
        wait(async move { bucket.removed(&place, names).await })
    }

    /// By name, what each file is there.
    async fn sent(&self, folder: &Path, place: &Place, names: Vec<String>) -> Result<Vec<Object>, ObjectsError> {
        let sending = names.into_iter().map(|name| {
            let (path, place) = (folder.join(&name), place.join(&name));
            async move { self.upload(name, &path, &place).await }
        });
        let mut sent: Vec<Object> = stream::iter(sending).buffer_unordered(AT_ONCE).try_collect().await?;
        sent.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(sent)
    }

    async fn upload(&self, name: String, path: &Path, place: &Place) -> Result<Object, ObjectsError> {
        let mut file = File::open(path).map_err(on("open", path))?;
        let size = file.metadata().map_err(on("read", path))?.len();
        let target = key(place)?;
        let part = PART.max(size.div_ceil(MOST_PARTS));
        let first = piece(&mut file, part, path)?;
        // A file that grows is sent as long as it is now.
        let (result, size) = if (first.len() as u64) < part {
            let size = first.len() as u64;
            (self.store.put(&target, PutPayload::from(first)).await.map_err(at("write", place))?, size)
        } else {
            let options = PutMultipartOptions::default();
            let upload = self.store.put_multipart_opts(&target, options).await.map_err(at("write", place))?;
            Upload { upload, place, part }.run(first, &mut file, path).await?
        };
        Ok(Object { name, size, tag: result.e_tag.unwrap_or_default() })
    }
}

/// An object on its way in parts.
struct Upload<'a> {
    upload: Box<dyn MultipartUpload>,
    place: &'a Place,
    part: u64,
}

impl Upload<'_> {
    async fn run(mut self, first: Bytes, file: &mut File, path: &Path) -> Result<(PutResult, u64), ObjectsError> {
        let size = match self.parts(first, file, path).await {
            Ok(size) => size,
            Err(error) => {
                // What came of it would be paid for; that it stays is no other failure.
                drop(self.upload.abort().await);
                return Err(error);
            }
        };
        Ok((self.upload.complete().await.map_err(at("write", self.place))?, size))
    }

    async fn parts(&mut self, first: Bytes, file: &mut File, path: &Path) -> Result<u64, ObjectsError> {
        let mut on_their_way = FuturesUnordered::new();
        let (mut next, mut size) = (first, 0);
        while !next.is_empty() {
            size += next.len() as u64;
            on_their_way.push(self.upload.put_part(PutPayload::from(next)));
            if on_their_way.len() >= PARTS_AT_ONCE {
                on_their_way.next().await.transpose().map_err(at("write", self.place))?;
            }
            next = piece(file, self.part, path)?;
        }
        on_their_way.try_collect::<()>().await.map_err(at("write", self.place))?;
        Ok(size)
    }
}

fn piece(file: &mut File, most: u64, path: &Path) -> Result<Bytes, ObjectsError> {
    let mut piece = Vec::new();
    file.take(most).read_to_end(&mut piece).map_err(on("read", path))?;
    Ok(piece.into())
}

/// The files of a folder, relative to it, by name; links lead elsewhere, and hidden files are somebody's own.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, ObjectsError> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        let path = folder.join(&inner);
        for entry in fs::read_dir(&path).map_err(on("list", &path))? {
            let entry = entry.map_err(on("list", &path))?;
            let kind = entry.file_type().map_err(on("read", &entry.path()))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match () {
                () if name.starts_with('.') => {}
                () if kind.is_dir() => folders.push(inner.join(name)),
                () if kind.is_file() => found.push(inner.join(name).to_string_lossy().into_owned()),
                () => {}
            }
        }
    }
    found.sort();
    Ok(found)
}
