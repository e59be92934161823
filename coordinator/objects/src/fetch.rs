//! From a place into a folder: what is missing there or different.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use futures::{StreamExt, stream};
use object_store::{GetOptions, ObjectStore};

use crate::{
    WHOLE,
    bucket::{Bucket, Object, key},
    error::{Cause, ObjectsError, at, on},
    ledger::{Beside, Ledger, absent_is_fine},
    place::Place,
    threads::wait,
};

/// Objects on their way at once.
const AT_ONCE: usize = 8;
/// Bytes of one request; what has come of it is on disk and not in memory.
const PIECE: u64 = 8 << 20;

/// What a fetch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fetched {
    /// Files in the place.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that came over the network; none where the folder had everything.
    pub came: u64,
}

impl Bucket {
    /// Brings a folder to what a place holds. A file has its name only once it is whole; what a fetch that broke off has of it is
    /// gone on with.
    ///
    /// # Errors
    /// [`ObjectsError`], also where the place holds nothing.
    pub fn fetch(&self, place: &Place, into: &Path) -> Result<Fetched, ObjectsError> {
        let beside = Beside::of(into);
        let _lock = beside.lock()?;
        let work = Work { bucket: self.clone(), place: place.clone(), into: into.to_owned(), beside };
        wait(async move { work.fetch_folder().await })
    }

    /// The same for a place that is one object: it is the only file of the folder, by its last name.
    ///
    /// # Errors
    /// As [`Bucket::fetch`].
    pub fn fetch_object(&self, place: &Place, into: &Path) -> Result<Fetched, ObjectsError> {
        let beside = Beside::of(into);
        let _lock = beside.lock()?;
        let work = Work { bucket: self.clone(), place: place.clone(), into: into.to_owned(), beside };
        wait(async move {
            let object = work.bucket.single(&work.place).await?;
            work.bring(&[(work.place.clone(), object)], Gone::Go).await
        })
    }

    /// Brings one object of a place; false where there is none.
    ///
    /// # Errors
    /// [`ObjectsError`].
    pub fn fetch_file(&self, place: &Place, name: &str, into: &Path) -> Result<bool, ObjectsError> {
        let beside = Beside::of(into);
        let _lock = beside.lock()?;
        let work = Work { bucket: self.clone(), place: place.join(name), into: into.to_owned(), beside };
        let name = name.to_owned();
        wait(async move {
            let object = match work.bucket.single(&work.place).await {
                Ok(object) => Object { name, ..object },
                Err(ObjectsError::Storage { source: Cause::Nothing, .. }) => return Ok(false),
                Err(error) => return Err(error),
            };
            work.bring(&[(work.place.clone(), object)], Gone::Stay).await.map(|_| true)
        })
    }
}

/// What becomes of files that came from the place before and are not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    Stay,
    Go,
}

struct Work {
    bucket: Bucket,
    place: Place,
    into: PathBuf,
    beside: Beside,
}

impl Work {
    async fn fetch_folder(&self) -> Result<Fetched, ObjectsError> {
        let objects = self.bucket.listed(&self.place).await?;
        if objects.is_empty() {
            let source = Cause::Nothing;
            return Err(ObjectsError::Storage { step: "fetch", place: self.place.clone(), source });
        }
        let files: Vec<_> = objects
            .into_iter()
            .filter(|object| object.name != WHOLE)
            .map(|object| (self.place.join(&object.name), object))
            .collect();
        self.bring(&files, Gone::Go).await
    }

    async fn bring(&self, files: &[(Place, Object)], gone: Gone) -> Result<Fetched, ObjectsError> {
        fs::create_dir_all(&self.into).map_err(on("create", &self.into))?;
        let mut ledger = Ledger::open(&self.beside.ledger)?;
        let missing: Vec<(Place, Object)> =
            files.iter().filter(|(_, object)| !ledger.has(&self.into, object)).cloned().collect();
        let bytes = files.iter().map(|(_, object)| object.size).sum();
        let mut fetched = Fetched { files: files.len(), bytes, came: 0 };
        if !missing.is_empty() {
            fs::create_dir_all(&self.beside.parts).map_err(on("create", &self.beside.parts))?;
            let coming = missing.into_iter().map(|(place, object)| async move {
                let came = self.download(&place, &object).await?;
                Ok::<_, ObjectsError>((object, came))
            });
            let mut coming = stream::iter(coming).buffer_unordered(AT_ONCE);
            while let Some(came) = coming.next().await {
                let (object, bytes) = came?;
                ledger.came(&object)?;
                fetched.came += bytes;
            }
            let parts = &self.beside.parts;
            absent_is_fine(fs::remove_dir_all(parts)).map_err(on("remove", parts))?;
        }
        if gone == Gone::Go {
            for name in ledger.names() {
                if files.binary_search_by(|(_, object)| object.name.as_str().cmp(&name)).is_err() {
                    let path = self.into.join(&name);
                    absent_is_fine(fs::remove_file(&path)).map_err(on("remove", &path))?;
                    ledger.went(&name)?;
                }
            }
        }
        Ok(fetched)
    }

    /// Answers how many bytes came.
    async fn download(&self, place: &Place, object: &Object) -> Result<u64, ObjectsError> {
        let known_as = blake3::hash(format!("{}\n{}\n{}", object.name, object.size, object.tag).as_bytes());
        let part = self.beside.parts.join(&known_as.to_hex()[..32]);
        let mut file = File::options().create(true).append(true).open(&part).map_err(on("open", &part))?;
        let mut have = file.metadata().map_err(on("read", &part))?.len();
        if have > object.size {
            file.set_len(0).map_err(on("write", &part))?;
            have = 0;
        }
        let begun_at = have;
        while have < object.size {
            let range = have..object.size.min(have + PIECE);
            // Where a listing has no tags their times cannot be asked for.
            let if_match = object.tag.starts_with('"').then(|| object.tag.clone());
            let options = GetOptions { range: Some(range.into()), if_match, ..GetOptions::default() };
            let answer = self.bucket.store.get_opts(&key(place)?, options).await.map_err(at("fetch", place))?;
            let mut pieces = answer.into_stream();
            let before = have;
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(at("fetch", place))?;
                file.write_all(&piece).map_err(on("write", &part))?;
                have += piece.len() as u64;
            }
            if have == before || have > object.size {
                return Err(ObjectsError::Storage { step: "fetch", place: place.clone(), source: Cause::Changed });
            }
        }
        file.sync_all().map_err(on("make durable", &part))?;
        let path = self.into.join(&object.name);
        let folder = path.parent().unwrap_or(&self.into);
        fs::create_dir_all(folder).map_err(on("create", folder))?;
        fs::rename(&part, &path).map_err(on("write", &path))?;
        Ok(have - begun_at)
    }
}
