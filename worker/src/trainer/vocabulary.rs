//! The one vocabulary of a family of language models (HANDS): tokenizers are compared by what they hold, not by name.

use std::path::{Path, PathBuf};

use esta_config::hub;
use esta_engine::law::Law;
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

/// The tokenizer of a job: the one that `data.text.tokenizer` names, or the first anchor's. Each anchor that brings a tokenizer
/// brings the same, and none has fewer embeddings than there are tokens; more are padding.
///
/// # Errors
/// [`VocabularyError`].
pub fn of(law: &Law) -> Result<Tokenizer, VocabularyError> {
    let named = law.spec.data.text.as_ref().and_then(|text| text.tokenizer.as_deref());
    let anchors = &law.spec.family.anchors;
    let (place, model) = match named {
        Some(model) => ("data.text.tokenizer".to_owned(), model),
        None => (format!("anchor {:?}", anchors[0].name), anchors[0].weights.as_str()),
    };
    let tokenizer = Tokenizer::open(&folder(model)).map_err(|source| VocabularyError::Tokenizer { place, source })?;
    for (anchor, arch) in anchors.iter().zip(&law.catalog.anchors) {
        let own = folder(&anchor.weights);
        if own.join("tokenizer.json").is_file() {
            check_same(&tokenizer, &anchor.name, &own)?;
        }
        let (rows, tokens) = (arch.as_llama().map_or(0, |arch| arch.vocab_size), tokenizer.len());
        if rows < tokens {
            return Err(VocabularyError::Rows { anchor: anchor.name.clone(), rows, tokens });
        }
    }
    Ok(tokenizer)
}

fn check_same(tokenizer: &Tokenizer, anchor: &str, folder: &Path) -> Result<(), VocabularyError> {
    let place = format!("anchor {anchor:?}");
    let own = Tokenizer::open(folder).map_err(|source| VocabularyError::Tokenizer { place, source })?;
    match tokenizer.compare(&own) {
        None => Ok(()),
        Some(difference) => Err(VocabularyError::Mismatch { anchor: anchor.to_owned(), difference }),
    }
}

fn folder(model: &str) -> PathBuf {
    hub::locate(model).unwrap_or_else(|| PathBuf::from(model))
}
