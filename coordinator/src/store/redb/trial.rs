//! A file as it would be after what is written to it (HANDS). redb mends what it opens; what it makes of a file that is
//! damaged is not to reach the file.

use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{BackendError, StorageBackend, backends::FileBackend};

/// Bytes that are kept together.
const PAGE: u64 = 4096;

/// Reads from a file, and keeps what is written in memory.
#[derive(Debug)]
pub(super) struct Trial {
    file: FileBackend,
    over: Mutex<Over>,
    holds: Hold,
}

/// Who else may have the file open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nobody.
    Alone,
    /// Others who read.
    Shared,
}

/// What lies over the file.
#[derive(Debug)]
struct Over {
    /// By number.
    pages: BTreeMap<u64, Vec<u8>>,
    length: u64,
    /// From here on there is nothing of the file.
    file: u64,
}

impl Trial {
    pub fn over(file: FileBackend, holds: Hold) -> io::Result<Self> {
        let length = file.len()?;
        Ok(Self { file, over: Mutex::new(Over { pages: BTreeMap::new(), length, file: length }), holds })
    }

    fn lock(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A page as it lies in the file.
    fn page(&self, over: &Over, number: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; PAGE as usize];
        let there = over.file.saturating_sub(number * PAGE).min(PAGE) as usize;
        self.file.read(number * PAGE, &mut page[..there])?;
        Ok(page)
    }
}

/// The pages of a stretch: their number, where the stretch begins and ends in each, and where that is in the stretch.
fn pages(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let end = offset + length as u64;
    (offset / PAGE..end.div_ceil(PAGE)).map(move |number| {
        let (from, to) = (offset.max(number * PAGE), end.min((number + 1) * PAGE));
        let inside = |at: u64| (at - number * PAGE) as usize;
        (number, inside(from), inside(to), (from - offset) as usize)
    })
}

impl StorageBackend for Trial {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.lock();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > over.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, from, to, at) in pages(offset, out.len()) {
            let part = &mut out[at..at + to - from];
            match over.pages.get(&number) {
                Some(page) => part.copy_from_slice(&page[from..to]),
                None => part.copy_from_slice(&self.page(&over, number)?[from..to]),
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut over = self.lock();
        (over.length, over.file) = (length, over.file.min(length));
        over.pages.split_off(&length.div_ceil(PAGE));
        if let Some(page) = over.pages.get_mut(&(length / PAGE)) {
            page[(length % PAGE) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.lock();
        for (number, from, to, at) in pages(offset, data.len()) {
            let page = match over.pages.remove(&number) {
                Some(page) => page,
                None => self.page(&over, number)?,
            };
            let page = over.pages.entry(number).or_insert(page);
            page[from..to].copy_from_slice(&data[at..at + to - from]);
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        match self.holds {
            Hold::Alone => self.file.try_lock_range(start, end),
            Hold::Shared => self.file.try_lock_shared_range(start, end),
        }
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_file_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let whole: Vec<u8> = (0..10_000_u32).map(|at| at as u8).collect();
        fs::write(&path, &whole).expect("writes");
        let file = FileBackend::new(File::open(&path).expect("opens")).expect("a file");
        let trial = Trial::over(file, Hold::Shared).expect("it has a length");
        let read = |offset: u64, length: usize| {
            let mut bytes = vec![7; length];
            trial.read(offset, &mut bytes).map(|()| bytes)
        };
        assert_eq!(read(0, 10_000).expect("it is there"), whole);
        assert!(read(9_999, 2).is_err() && read(u64::MAX, 2).is_err());

        let mut expected = whole.clone();
        expected[4_000..8_500].fill(9);
        trial.write(4_000, &[9; 4_500]).expect("writes");
        assert_eq!(read(0, 10_000).expect("it is there"), expected);
        // What was cut off is not there again when it grows.
        trial.set_len(8_200).expect("cuts");
        trial.set_len(20_000).expect("grows");
        expected.truncate(8_200);
        expected.resize(20_000, 0);
        assert_eq!((read(0, 20_000).expect("it is there"), trial.len().expect("a length")), (expected, 20_000));
        assert_eq!(fs::read(&path).expect("reads"), whole);
    }
}
