//! Why something did not come or go: the place, the step, and the cause in one line.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::place::{Place, PlaceError};

/// Object storage did not do what was asked.
#[derive(Debug, Error)]
pub enum ObjectsError {
    /// An address that names no place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The storage.
    #[error("cannot {step} {place}")]
    Storage {
        /// What was tried.
        step: &'static str,
        /// Where.
        place: Place,
        /// Why it failed.
        source: Cause,
    },
    /// A file on this side.
    #[error("cannot {step} {}", path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No thread for it.
    #[error("cannot start the threads that speak to object storage")]
    Threads(#[source] io::Error),
}

impl ObjectsError {
    /// Whether there was nothing at the place: another try will not help.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Storage { source: Cause::Nothing | Cause::NoBucket, .. })
    }

    /// Whether the storage may do the same some other time.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Storage { source: Cause::Changed | Cause::Other(_), .. })
    }
}

/// What the storage says, told apart as far as a reader can do something about it.
#[derive(Debug, Error)]
pub enum Cause {
    /// An empty place.
    #[error("there is nothing")]
    Nothing,
    /// A bucket that does not exist.
    #[error("there is no such bucket")]
    NoBucket,
    /// Keys, tokens or rights.
    #[error("the credentials are refused ({0}); AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY say who asks")]
    Denied(String),
    /// An object that became another one meanwhile.
    #[error("it changed while it was being read; another try reads it as it is")]
    Changed,
    /// A key that would be a file elsewhere, or none.
    #[error("the key {0:?} would be a file outside of its folder")]
    Stray(String),
    /// The environment does not say how to reach it.
    #[error("the AWS_ variables do not say how to reach it: {0}")]
    Settings(String),
    /// Everything else, in the storage's words.
    #[error("{0}")]
    Other(String),
}

impl From<object_store::Error> for Cause {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as Store;
        let said = said(&error);
        let code = |codes: &[&str]| codes.iter().find(|code| said.contains(**code)).map(|code| (*code).to_owned());
        if said.contains("NoSuchBucket") {
            return Self::NoBucket;
        }
        let denied = ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "InvalidToken"];
        if let Some(code) = code(&denied) {
            return Self::Denied(code);
        }
        match error {
            Store::NotFound { .. } => Self::Nothing,
            Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => {
                Self::Denied(code(&["403", "401"]).unwrap_or_else(|| "no right".to_owned()))
            }
            Store::Precondition { .. } => Self::Changed,
            Store::InvalidPath { source } => Self::Stray(key_of(&source)),
            _ => stray(&error).unwrap_or(Self::Other(said)),
        }
    }
}

/// A key in a listing that cannot be a file's name; the library wraps it.
fn stray(error: &object_store::Error) -> Option<Cause> {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let found = causes.into_iter().find_map(|cause| cause.downcast_ref::<object_store::path::Error>());
    found.map(|flaw| Cause::Stray(key_of(flaw)))
}

fn key_of(flaw: &object_store::path::Error) -> String {
    use object_store::path::Error as Flaw;
    match flaw {
        Flaw::EmptySegment { path } | Flaw::BadSegment { path, .. } | Flaw::NonUnicode { path, .. } => path.clone(),
        other => other.to_string(),
    }
}

/// An error with its causes in one line, each text once.
fn said(error: &object_store::Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let whole = causes.fold(error.to_string(), |line, cause| {
        let cause = cause.to_string();
        if line.contains(&cause) { line } else { format!("{line}: {cause}") }
    });
    whole.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn at(step: &'static str, place: &Place) -> impl FnOnce(object_store::Error) -> ObjectsError + use<> {
    let place = place.clone();
    move |error| ObjectsError::Storage { step, place, source: error.into() }
}

pub(crate) fn on(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ObjectsError + use<> {
    let path = path.to_owned();
    move |source| ObjectsError::File { step, path, source }
}
