//! The threads that speak to object storage: callers wait, inside of a runtime of their own or not.

use std::{
    future::Future,
    sync::{Mutex, PoisonError, mpsc},
};

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::ObjectsError;

static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

fn handle() -> Result<Handle, ObjectsError> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*runtime {
        return Ok(runtime.handle().clone());
    }
    let begun = Builder::new_multi_thread().worker_threads(2).thread_name("objects").enable_all().build();
    Ok(runtime.insert(begun.map_err(ObjectsError::Threads)?).handle().clone())
}

/// Does something there, and waits for it.
pub(crate) fn wait<T: Send + 'static>(
    work: impl Future<Output = Result<T, ObjectsError>> + Send + 'static,
) -> Result<T, ObjectsError> {
    let (sender, done) = mpsc::channel();
    handle()?.spawn(async move { drop(sender.send(work.await)) });
    done.recv().map_err(|_| ObjectsError::Threads(std::io::Error::other("what was done there broke")))?
}
