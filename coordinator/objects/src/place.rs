//! Where something is in object storage.

use std::{fmt, str::FromStr};

use thiserror::Error;

const SCHEME: &str = "s3://";

/// A bucket and what is asked of it: an object, or a folder of objects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    key: String,
}

/// A text that names no place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no place in object storage, s3://BUCKET/PREFIX: {flaw}")]
pub struct PlaceError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub flaw: &'static str,
}

impl Place {
    /// Whether a text means object storage and no file.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The place that a text names, if it means object storage and no file.
    ///
    /// # Errors
    /// [`PlaceError`] where it does, and names none.
    pub fn of(text: &str) -> Result<Option<Self>, PlaceError> {
        if Self::is_meant(text) { text.parse().map(Some) } else { Ok(None) }
    }

    /// The bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The key, or the beginning of keys; empty for the whole bucket.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its last name, as a file would be called.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(&self.bucket)
    }

    /// What is called so in this folder.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        let key = if self.key.is_empty() { name.to_owned() } else { format!("{}/{name}", self.key) };
        Self { bucket: self.bucket.clone(), key }
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let flawed = |flaw| PlaceError { text: text.to_owned(), flaw };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| flawed("it does not begin with s3://"))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
        if bucket.len() < 3 || bucket.len() > 63 || !bucket.chars().all(sound) {
            return Err(flawed("a bucket has 3 to 63 lower-case letters, digits, dots and hyphens"));
        }
        let key = key.strip_suffix('/').unwrap_or(key);
        if !key.is_empty() && !key.split('/').all(is_sound_name) {
            return Err(flawed("a name in its path is empty, . or .., or has a control character"));
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.key.is_empty() { "" } else { "/" };
        write!(f, "{SCHEME}{}{slash}{}", self.bucket, self.key)
    }
}

/// Whether a file below a folder may be called so.
pub(crate) fn is_sound_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.chars().any(|c| c.is_control() || c == '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        text.parse().expect("a place")
    }

    #[test]
    fn a_place_is_a_bucket_and_a_key() {
        let models = place("s3://esta-runs/models/ti.safetensors");
        assert_eq!((models.bucket(), models.key()), ("esta-runs", "models/ti.safetensors"));
        assert_eq!(
            (models.name(), models.to_string().as_str()),
            ("ti.safetensors", "s3://esta-runs/models/ti.safetensors")
        );
    }

    #[test]
    fn a_folder_may_end_with_a_slash_and_a_bucket_stands_alone() {
        assert_eq!(place("s3://runs.a/b/c/"), place("s3://runs.a/b/c"));
        for text in ["s3://runs", "s3://runs/"] {
            let whole = place(text);
            assert_eq!((whole.key(), whole.name(), whole.to_string().as_str()), ("", "runs", "s3://runs"));
            assert_eq!(whole.join("a").to_string(), "s3://runs/a");
        }
        assert_eq!(place("s3://runs/a").join("b/c").to_string(), "s3://runs/a/b/c");
    }

    #[test]
    fn what_names_no_place_says_why() {
        let flaw = |text: &str| text.parse::<Place>().expect_err("no place").to_string();
        assert!(flaw("/data/a").contains("does not begin with s3://"));
        for text in ["s3://", "s3:///a", "s3://Ab1/c", "s3://a_b/c", "s3://ab"] {
            assert!(flaw(text).contains("a bucket has 3 to 63"), "{text}");
        }
        for text in ["s3://runs/../x", "s3://runs/a//b", "s3://runs/a/./b", "s3://runs/a\nb", "s3://runs/a//"] {
            assert!(flaw(text).contains("a name in its path"), "{text}");
        }
    }

    #[test]
    fn a_file_is_no_place() {
        for path in ["weights/a", "/data", "s3/a", "./s3:/a"] {
            assert_eq!(Place::of(path), Ok(None));
        }
        assert!(Place::of("s3://runs/a").is_ok_and(|place| place.is_some()));
        assert!(Place::of("s3://?").is_err());
    }
}
