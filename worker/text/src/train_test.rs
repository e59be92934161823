use std::collections::BTreeSet;

use super::*;
use crate::tokenizer::Special;

fn corpus() -> Vec<String> {
    let one =
        |n: u32| format!("The header <file{}.h> declares open{n}().\n\treturns -1 on error; see error({n}).", n % 7);
    (0..200).map(one).chain(["na\u{ef}ve \u{1f600} banana bananas".to_owned()]).collect()
}

fn files(folder: &Path) -> [Vec<u8>; 2] {
    ["tokenizer.json", "tokenizer_config.json"].map(|name| fs::read(folder.join(name)).unwrap())
}

#[test]
fn the_same_texts_in_any_order_give_the_same_files() {
    let [a, b] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    train_tokenizer(corpus(), 400, a.path()).unwrap();
    train_tokenizer(corpus().into_iter().rev(), 400, b.path()).unwrap();
    assert_eq!(files(a.path()), files(b.path()));
}

#[test]
fn every_text_survives_and_common_words_are_one_token() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = train_tokenizer(corpus(), 400, folder.path()).unwrap();
    for text in ["The header", " \u{1f600}\u{0}\r\n tabs\t", "na\u{ef}ve <|x|>"] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text, Special::Add).unwrap()), text);
    }
    assert_eq!(tokenizer.encode(" declares", Special::Add).unwrap().len(), 1);
    assert!(tokenizer.len() <= 400, "{} tokens", tokenizer.len());
}

#[test]
fn the_end_of_text_is_token_zero_and_fills_rows() {
    let folder = tempfile::tempdir().unwrap();
    let tokenizer = train_tokenizer(corpus(), 300, folder.path()).unwrap();
    assert_eq!((tokenizer.eos_ids(), tokenizer.pad_id(), tokenizer.bos_id()), (&[0][..], Some(0), None));
    assert_eq!(tokenizer.encode(END, Special::None).unwrap(), [0]);
}

#[test]
fn a_vocabulary_without_room_for_all_bytes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = train_tokenizer(corpus(), 256, folder.path()).unwrap_err();
    assert_eq!(error.to_string(), "a byte-level vocabulary needs 257 tokens at least, not 256");
}

#[test]
fn merges_are_those_of_the_tokenizers_crate() {
    use tokenizers::models::bpe::{BPE, BpeTrainer};
    use tokenizers::{AddedToken, Trainer};

    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .min_frequency(2)
        .vocab_size(400)
        .special_tokens(vec![AddedToken::from(END, true)])
        .build();
    trainer.initial_alphabet = ByteLevel::alphabet();
    let words = count_words(corpus()).unwrap();
    let repeated = words.iter().flat_map(|(word, &count)| std::iter::repeat_n(word.as_str(), count as usize));
    trainer.feed(repeated.collect::<Vec<_>>().into_iter(), |word| Ok(vec![word.to_owned()])).unwrap();
    let mut model = BPE::default();
    trainer.train(&mut model).unwrap();
    let theirs: BTreeSet<String> = model.get_vocab().into_keys().collect();

    let folder = tempfile::tempdir().unwrap();
    train_tokenizer(corpus(), 400, folder.path()).unwrap();
    let ours = tokenizers::Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
    let ours: BTreeSet<String> = ours.get_vocab(false).into_keys().collect();
    assert_eq!(ours.difference(&theirs).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn documents_without_text_are_named_by_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("corpus.jsonl");
    fs::write(&corpus, "{\"text\": \"to be\"}\n\n{\"text\": \"\"}\n").unwrap();
    assert_eq!(read_documents(&corpus).unwrap(), ["to be", ""]);
    fs::write(&corpus, "{\"text\": \"to be\"}\n\n{\"txt\": \"or not\"}\n").unwrap();
    assert_eq!(
        read_documents(&corpus).unwrap_err().to_string(),
        format!("{}, line 3: not usable as an example", corpus.display())
    );
}
