//! What redb says of a file that it trusted in vain (HANDS): it panics where pages contradict each other.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Once,
};

use crate::store::StoreError;

thread_local! {
    /// A panic of this thread is an answer.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Does something with a file that may be damaged. A panic becomes an error and is told to nobody else: whoever runs the
/// program sees one line.
pub(super) fn guarded<T>(path: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| match ASKED.get() {
            true => tracing::debug!(%panic, "a record is damaged"),
            false => usual(panic),
        }));
    });
    let before = ASKED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    ASKED.set(before);
    done.unwrap_or_else(|_| {
        let what = "its pages contradict each other".to_owned();
        Err(StoreError::Damaged { place: path.display().to_string(), what })
    })
}
