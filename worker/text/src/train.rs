//! A byte-level BPE tokenizer made on the spot (HANDS), for small models that are pre-trained here.
//!
//! The tokenizers crate has a trainer, but it walks hash maps whose order differs between processes, and where a token
//! can be made by two merges its queue holds entries that compare equal; which of them comes first is then left to
//! chance. This one counts exactly, breaks every tie by the tokens' ids, and depends on the texts alone.

mod bpe;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::error::TextError;
use crate::message::excerpt;
use crate::records;
use crate::tokenizer::Tokenizer;
use crate::words::text;

/// Ends texts and fills rows; token 0.
const END: &str = "<|endoftext|>";

const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + \
                             eos_token + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}\
                             {% endif %}";

/// The documents of a file, or of a folder's files, as a set of layout `text` holds them: what a tokenizer is trained on.
///
/// # Errors
/// [`TextError`] of a file that cannot be read and of the first record that holds no text.
pub fn read_documents(path: &Path) -> Result<Vec<String>, TextError> {
    let mut documents = Vec::new();
    records::each(path, &mut |origin, record| {
        let document = record.and_then(|record| text(&record, "text"));
        documents.push(document.map_err(|flaw| TextError::Flawed { origin, flaw })?);
        Ok(())
    })?;
    Ok(documents)
}

/// Trains a tokenizer of at most `vocab_size` tokens and writes it into `folder` as `tokenizer.json` and
/// `tokenizer_config.json`, which transformers loads as a `PreTrainedTokenizerFast`. Texts that hold no more pairs of
/// tokens twice give fewer tokens. The order of the texts does not matter.
///
/// # Errors
/// [`TextError`] when the vocabulary cannot hold all bytes, or a file cannot be written.
pub fn train_tokenizer(
    texts: impl IntoIterator<Item = String>,
    vocab_size: usize,
    folder: &Path,
) -> Result<Tokenizer, TextError> {
    let alphabet = alphabet();
    let least = 1 + alphabet.len();
    if vocab_size < least {
        return Err(TextError::Vocabulary { asked: vocab_size, least });
    }
    let words = count_words(texts)?;
    let first: Vec<String> = std::iter::once(END.to_owned()).chain(alphabet.iter().map(char::to_string)).collect();
    let bpe::Learned { tokens, merges } = bpe::learn(first, &words, vocab_size);
    let vocab: BTreeMap<&String, usize> = tokens.iter().zip(0..).collect();
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{
            "id": 0, "content": END, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    });
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": false,
        "chat_template": CHAT_TEMPLATE,
    });
    write(&folder.join("tokenizer.json"), &tokenizer)?;
    write(&folder.join("tokenizer_config.json"), &config)?;
    Tokenizer::open(folder)
}

/// The characters that stand for the 256 bytes, in order of their code points.
fn alphabet() -> Vec<char> {
    let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    alphabet
}

/// How often each word occurs, as the tokenizer will cut them.
fn count_words(texts: impl IntoIterator<Item = String>) -> Result<BTreeMap<String, u64>, TextError> {
    let cutter = ByteLevel::new(false, true, true);
    let mut words = BTreeMap::new();
    for text in texts {
        let mut cut = PreTokenizedString::from(text.as_str());
        let refused = |source| TextError::Encode { excerpt: excerpt(&text), source };
        cutter.pre_tokenize(&mut cut).map_err(refused)?;
        for (word, _, _) in cut.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            match words.get_mut(word) {
                Some(count) => *count += 1,
                None => {
                    words.insert(word.to_owned(), 1);
                }
            }
        }
    }
    Ok(words)
}

fn write(path: &Path, json: &serde_json::Value) -> Result<(), TextError> {
    let failed = |source| TextError::Write { path: path.to_owned(), source };
    fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).map_err(failed)?;
    fs::write(path, format!("{json:#}\n")).map_err(failed)
}

#[cfg(test)]
#[path = "train_test.rs"]
mod tests;
