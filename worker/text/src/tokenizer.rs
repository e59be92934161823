//! A tokenizer as Hugging Face folders hold it (HANDS): text to ids and back, and the ids that begin and end texts.
//!
//! `tokenizer.json` holds the tokenizer itself; `tokenizer_config.json`, `special_tokens_map.json`,
//! `generation_config.json`, `config.json` and `chat_template.jinja`, each optional, say what its tokens are for.

mod content;
mod decoding;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tokenizers::{Encoding, PostProcessor, Token};

pub use decoding::Decoding;

use crate::chat::ChatTemplate;
use crate::error::TextError;
use crate::message::excerpt;
use content::Content;
use settings::Settings;

/// Whether a text gets the special tokens that its tokenizer puts in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// It does. A token that the tokenizer would put *behind* it is left out: what is encoded here is to be continued.
    Add,
    /// It does not. A special token that the text itself spells is one nevertheless.
    None,
}

/// A tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
    /// What it puts in front of a text.
    starts: Vec<u32>,
    settings: Settings,
    bos: Option<u32>,
    pad: Option<u32>,
    ends: Vec<u32>,
    len: u32,
}

impl Tokenizer {
    /// Opens a folder that holds `tokenizer.json`, or that file itself with the others beside it. Truncation, padding and
    /// BPE dropout that the file asks for do not act.
    ///
    /// # Errors
    /// [`TextError`] of a file that is missing or holds something else.
    pub fn open(path: &Path) -> Result<Self, TextError> {
        let (file, folder) = match path.is_dir() {
            true => (path.join("tokenizer.json"), path.to_owned()),
            false => (path.to_owned(), path.parent().unwrap_or(Path::new("")).to_owned()),
        };
        let bytes = fs::read(&file).map_err(|source| TextError::Read { path: file.clone(), source })?;
        let inner = load(&file, &bytes)?;
        Ok(Self::new(path, inner, Settings::read(&folder)?))
    }

    fn new(path: &Path, inner: tokenizers::Tokenizer, settings: Settings) -> Self {
        let id = |name: &str| settings.tokens.get(name).and_then(|text| inner.token_to_id(text));
        let mut ends: Vec<u32> = Vec::new();
        for end in id("eos_token").into_iter().chain(settings.eos_ids.iter().copied()) {
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        let bos = id("bos_token").or(settings.bos_id);
        let pad = id("pad_token").or(settings.pad_id);
        let len = inner.get_vocab(true).values().max().map_or(0, |highest| highest + 1);
        Self { path: path.to_owned(), starts: starts(&inner), bos, pad, ends, len, settings, inner }
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// [`TextError::Encode`] when the tokenizer refuses it.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>, TextError> {
        let refused = |source| TextError::Encode { excerpt: excerpt(text), source };
        let encoding = self.inner.encode_fast(text, false).map_err(refused)?;
        Ok(match special {
            Special::Add => [&self.starts, encoding.get_ids()].concat(),
            Special::None => encoding.get_ids().to_vec(),
        })
    }

    /// The text of ids, without special tokens; ids that are no tokens say nothing, and bytes that are no UTF-8 become
    /// U+FFFD.
    #[must_use]
    pub fn decode(&self, ids: &[u32]) -> String {
        self.inner.decode(ids, true).unwrap_or_else(|_| {
            // A decoder that refuses: the tokens as they are spelt are better than none.
            ids.iter().filter_map(|&id| self.inner.id_to_token(id)).collect()
        })
    }

    /// A decoder of ids as they come.
    #[must_use]
    pub fn decoding(&self) -> Decoding<'_> {
        Decoding::new(self)
    }

    /// The ids that end a text: `eos_token` of the tokenizer's own files first, then those that `generation_config.json`
    /// and `config.json` name. Empty when nothing names one.
    #[must_use]
    pub fn eos_ids(&self) -> &[u32] {
        &self.ends
    }

    /// Whether the tokenizer calls this token special.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.inner.id_to_token(id).is_some_and(|token| self.inner.get_added_vocabulary().is_special_token(&token))
    }

    /// The id that follows an answer or a document: the first of [`Self::eos_ids`].
    ///
    /// # Errors
    /// [`TextError::NoEnd`] when there is none.
    pub fn end(&self) -> Result<u32, TextError> {
        self.ends.first().copied().ok_or_else(|| TextError::NoEnd { path: self.path.clone() })
    }

    /// The id that begins a text, whether or not the tokenizer puts it there.
    #[must_use]
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The id that fills rows.
    #[must_use]
    pub fn pad_id(&self) -> Option<u32> {
        self.pad
    }

    /// The highest id it can give, plus one: a model needs as many rows of embeddings at least.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a tokenizer without tokens is of no use to anyone")]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// The text of one token as the vocabulary spells it.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// A hash of all that decides which ids a text becomes: model, vocabulary and merges, added tokens, normalizer,
    /// pre-tokenizer, post-processor. Not of names, order of keys, truncation, padding or dropout.
    #[must_use]
    pub fn digest(&self) -> blake3::Hash {
        Content::of(&self.inner).digest()
    }

    /// The first difference to another tokenizer's content, in one line; none when their digests are equal.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Option<String> {
        Content::of(&self.inner).difference(&Content::of(&other.inner))
    }

    /// Its chat template.
    ///
    /// # Errors
    /// [`TextError::NoChatTemplate`] when its folder has none, [`TextError::ChatTemplate`] when it does not parse.
    pub fn chat_template(&self) -> Result<ChatTemplate, TextError> {
        let (path, source) =
            self.settings.chat.as_ref().ok_or_else(|| TextError::NoChatTemplate { path: self.path.clone() })?;
        ChatTemplate::parse(path, source, &self.settings.tokens)
    }

    /// The texts of its special tokens by name: `bos_token`, `eos_token`, `pad_token` and the like.
    #[must_use]
    pub fn special_tokens(&self) -> &BTreeMap<String, String> {
        &self.settings.tokens
    }
}

fn load(file: &Path, bytes: &[u8]) -> Result<tokenizers::Tokenizer, TextError> {
    let mut json: serde_json::Value =
        serde_json::from_slice(bytes).map_err(|source| TextError::Json { path: file.to_owned(), source })?;
    if let Some(dropout) = json.pointer_mut("/model/dropout") {
        *dropout = serde_json::Value::Null;
    }
    let refused = |source| TextError::Tokenizer { path: file.to_owned(), source };
    let mut inner: tokenizers::Tokenizer = serde_json::from_value(json).map_err(|error| refused(error.into()))?;
    inner.with_truncation(None).map_err(refused)?;
    inner.with_padding(None);
    Ok(inner)
}

/// The ids that the post-processor puts in front of a text, seen on a text of one token that no vocabulary holds.
fn starts(inner: &tokenizers::Tokenizer) -> Vec<u32> {
    const TEXT: u32 = u32::MAX;
    let Some(processor) = inner.get_post_processor() else { return Vec::new() };
    let probe = Encoding::from_tokens(vec![Token::new(TEXT, "x".to_owned(), (0, 1))], 0);
    let Ok(processed) = processor.process(probe, None, true) else { return Vec::new() };
    processed.get_ids().iter().copied().take_while(|&id| id != TEXT).collect()
}
