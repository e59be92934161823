//! What a tokenizer begins and ends texts with, and when two are the same.

#![allow(clippy::unwrap_used)]

mod support;

use esta_text::{Special, TextError, Tokenizer};
use serde_json::{Value, json};
use support::{Folder, in_words, trained, with_bos};

const END: u32 = 0;

#[test]
fn a_text_gets_the_front_token_and_never_the_end_token() {
    let tokenizer = with_bos().tokenizer();
    let bos = tokenizer.bos_id().unwrap();
    let bare = tokenizer.encode("the answer", Special::None).unwrap();
    assert_eq!(tokenizer.encode("the answer", Special::Add).unwrap(), [&[bos], &bare[..]].concat());
    assert!(!bare.contains(&bos) && !bare.contains(&END));
    assert_eq!((tokenizer.token(bos).as_deref(), tokenizer.len()), (Some("<s>"), bos + 1));
}

#[test]
fn every_file_that_names_an_end_is_heard_the_tokenizers_first() {
    let folder = with_bos();
    folder.write("generation_config.json", r#"{"eos_token_id": [6, 0, 7], "pad_token_id": 9}"#);
    folder.write("config.json", r#"{"eos_token_id": 8, "bos_token_id": 5}"#);
    let tokenizer = folder.tokenizer();
    assert_eq!(tokenizer.eos_ids(), [END, 6, 7, 8]);
    assert_eq!(tokenizer.pad_id(), Some(END));
    assert_eq!(tokenizer.token(tokenizer.bos_id().unwrap()).as_deref(), Some("<s>"));
}

#[test]
fn a_tokenizer_that_says_it_has_no_front_token_is_believed() {
    let folder = trained();
    folder.write("config.json", r#"{"bos_token_id": 5}"#);
    assert_eq!(folder.tokenizer().bos_id(), Some(5));
    folder.edit("tokenizer_config.json", |json| json["bos_token"] = Value::Null);
    assert_eq!(folder.tokenizer().bos_id(), None);
}

#[test]
fn a_bare_tokenizer_has_no_end_and_says_where_to_name_one() {
    let folder = trained();
    std::fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    let tokenizer = Tokenizer::open(&folder.path().join("tokenizer.json")).unwrap();
    assert!(tokenizer.eos_ids().is_empty());
    assert!(tokenizer.end().unwrap_err().to_string().contains("`eos_token` in tokenizer_config.json"));
    assert!(matches!(tokenizer.chat_template(), Err(TextError::NoChatTemplate { .. })));
}

#[test]
fn unusable_files_are_named() {
    let folder = trained();
    let missing = in_words(&Tokenizer::open(&folder.path().join("nowhere")).unwrap_err());
    assert!(missing.contains("nowhere"), "{missing}");
    folder.write("tokenizer_config.json", "{\n\"eos_token\": }");
    let broken = in_words(&Tokenizer::open(folder.path()).unwrap_err());
    assert!(broken.contains("tokenizer_config.json: not readable as JSON") && broken.contains("line 2"), "{broken}");
    folder.write("tokenizer_config.json", "{}");
    folder.edit("tokenizer.json", |json| json["model"]["type"] = json!("Unheard"));
    let unknown = in_words(&Tokenizer::open(folder.path()).unwrap_err());
    assert!(unknown.contains("tokenizer.json: not usable as a tokenizer"), "{unknown}");
}

/// The same tokenizer as another tool might write it: keys in reverse, merges as one text each, settings that do not act.
fn rewritten(folder: &Folder) -> Folder {
    let other = Folder::new();
    let json: Value = serde_json::from_slice(&std::fs::read(folder.path().join("tokenizer.json")).unwrap()).unwrap();
    let mut model = json["model"].clone();
    let joined = |pair: &Value| json!(format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
    model["merges"] = model["merges"].as_array().unwrap().iter().map(joined).collect();
    model["dropout"] = json!(0.5);
    model.as_object_mut().unwrap().remove("byte_fallback");
    let settings = r#""truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 1,
        "pad_type_id": 0, "pad_token": "x"}"#;
    let reversed: Vec<String> =
        model["vocab"].as_object().unwrap().iter().rev().map(|(token, id)| format!("{}: {id}", json!(token))).collect();
    model.as_object_mut().unwrap().remove("vocab");
    let model = format!("{{\"vocab\": {{{}}}, {}", reversed.join(", "), &model.to_string()[1..]);
    let rest = ["pre_tokenizer", "post_processor", "normalizer", "decoder", "added_tokens"]
        .map(|name| format!("\"{name}\": {}", json[name]));
    other.write(
        "tokenizer.json",
        format!("{{\"model\": {model}, {}, {settings}, \"version\": \"1.0\"}}", rest.join(", ")),
    );
    other
}

#[test]
fn spelling_and_settings_that_do_not_act_leave_the_digest_alone() {
    let folder = with_bos();
    let (here, there) = (folder.tokenizer(), rewritten(&folder).tokenizer());
    assert_eq!(here.compare(&there), None);
    assert_eq!(here.digest(), there.digest());
    let text = "the answer is the answer";
    assert_eq!(here.encode(text, Special::Add).unwrap(), there.encode(text, Special::Add).unwrap());
}

#[test]
fn what_decides_ids_changes_the_digest_and_is_named() {
    let here = trained().tokenizer();
    let changed = |edit: fn(&mut Value)| {
        let folder = trained();
        folder.edit("tokenizer.json", edit);
        let there = folder.tokenizer();
        assert_ne!(here.digest(), there.digest());
        here.compare(&there).expect("a difference")
    };
    let merges = changed(|json| json["model"]["merges"].as_array_mut().unwrap().swap(0, 1));
    assert!(merges.starts_with("merge 0 is ["), "{merges}");
    let shorter = changed(|json| drop(json["model"]["merges"].as_array_mut().unwrap().pop()));
    assert!(shorter.contains(" merges here and "), "{shorter}");
    let swapped = changed(|json| (json["model"]["vocab"]["!"], json["model"]["vocab"]["\""]) = (json!(2), json!(1)));
    assert_eq!(swapped, "token \"!\" is 1 here and 2 there");
    let added = changed(|json| {
        let mut token = json["added_tokens"][0].clone();
        (token["id"], token["content"]) = (json!(0), json!("<x>"));
        json["added_tokens"].as_array_mut().unwrap().push(token);
    });
    assert_eq!(added, format!("token \"<x>\" is absent here and {} there", here.len()));
    let prefix = changed(|json| json["pre_tokenizer"]["add_prefix_space"] = json!(true));
    assert_eq!(prefix, "pre-tokenizer.add_prefix_space is false here and true there");
    let normalizer = changed(|json| json["normalizer"] = json!({"type": "NFC"}));
    assert_eq!(normalizer, r#"normalizer is null here and {"type":"NFC"} there"#);
}

#[test]
fn streamed_pieces_are_whole_characters() {
    let tokenizer = trained().tokenizer();
    let text = "a \u{1f600}\u{4f60} \u{e9}!";
    let ids = tokenizer.encode(text, Special::None).unwrap();
    let mut decoding = tokenizer.decoding();
    let pieces: Vec<String> = ids.iter().map(|&id| decoding.push(id)).collect();
    assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
    assert_eq!(pieces.concat() + &decoding.finish(), text);
    let mut cut = tokenizer.decoding();
    let start: String = ids[..3].iter().map(|&id| cut.push(id)).collect();
    assert_eq!((start.as_str(), cut.finish().as_str()), ("a ", "\u{fffd}"));
}
