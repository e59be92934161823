//! The one vocabulary of a family of language models (HANDS): tokenizers are compared by what they hold, not by name.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use esta_config::hub;
use esta_engine::{law::Law, spec::JobSpec};
use esta_text::{TextError, Tokenizer};
use thiserror::Error;

/// Why the anchors of a family cannot be spoken to with one tokenizer.
#[derive(Debug, Error)]
pub enum VocabularyError {
    /// It does not open.
    #[error("the tokenizer of {place} does not load")]
    Tokenizer {
        /// The anchor it belongs to, or the key that names it.
        place: String,
        /// Why.
        source: TextError,
    },
    /// Two anchors read text differently: activations of one mean nothing to the other.
    #[error("anchor {anchor:?} has another tokenizer than the job: {difference}")]
    Mismatch {
        /// The anchor's name.
        anchor: String,
        /// The first difference.
        difference: String,
    },
    /// An embedding that lacks rows.
    #[error("anchor {anchor:?} has {rows} embeddings, the tokenizer {tokens} tokens")]
    Rows {
        /// The anchor's name.
        anchor: String,
        /// Rows of its embedding.
        rows: u32,
        /// Tokens.
        tokens: u32,
    },
}

/// The tokenizer of a job: the one that `data.text.tokenizer` names, or the first anchor's. Each anchor that brings a `tokenizer.json`
/// brings the same, and none has fewer embeddings than there are tokens; more are padding.
///
/// # Errors
/// [`VocabularyError`].
pub fn of(law: &Law) -> Result<Tokenizer, VocabularyError> {
    let anchors = &law.spec.family.anchors;
    let tokenizer = Tokenizer::open(&folder_of(&law.spec)).map_err(|source| {
        let place = match named(&law.spec) {
            Some(_) => "data.text.tokenizer".to_owned(),
            None => format!("anchor {:?}", anchors[0].name),
        };
        VocabularyError::Tokenizer { place, source }
    })?;
    for (anchor, arch) in anchors.iter().zip(&law.catalog.anchors) {
        let own = located(&anchor.weights);
        if own.join("tokenizer.json").is_file() {
            check_same(&tokenizer, &anchor.name, &own)?;
        } else if own.is_dir() {
            tell_unread(&anchor.name, &own);
        }
        let (rows, tokens) = (arch.as_llama().map_or(0, |arch| arch.vocab_size), tokenizer.len());
        if rows < tokens {
            return Err(VocabularyError::Rows { anchor: anchor.name.clone(), rows, tokens });
        }
    }
    Ok(tokenizer)
}

/// The folder of a job's tokenizer.
pub fn folder_of(spec: &JobSpec) -> PathBuf {
    located(named(spec).unwrap_or(&spec.family.anchors[0].weights))
}

/// The tokenizer that a job names.
pub(super) fn named(spec: &JobSpec) -> Option<&str> {
    spec.data.text.as_ref()?.tokenizer.as_deref()
}

fn check_same(tokenizer: &Tokenizer, anchor: &str, folder: &Path) -> Result<(), VocabularyError> {
    let place = format!("anchor {anchor:?}");
    let own = Tokenizer::open(folder).map_err(|source| VocabularyError::Tokenizer { place, source })?;
    match tokenizer.compare(&own) {
        None => Ok(()),
        Some(difference) => Err(VocabularyError::Mismatch { anchor: anchor.to_owned(), difference }),
    }
}

/// Says once that an anchor's own tokenizer cannot be compared.
fn tell_unread(anchor: &str, folder: &Path) {
    static TOLD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned()) {
        let folder = folder.display();
        tracing::warn!(anchor, %folder, "no tokenizer.json: whether it reads texts as the job does is not known");
    }
}

/// Where a model lies; the path itself where nothing does, so that whoever opens it says what is missing.
pub(super) fn located(model: &str) -> PathBuf {
    hub::locate(model).unwrap_or_else(|| PathBuf::from(model))
}
