//! What transformers makes of the same tokenizers, templates and texts: `golden/make.py` wrote what is expected.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use esta_text::{ChatTemplate, Message, Special, Tokenizer};
use serde_json::Value;
use support::in_words;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(golden(name)).unwrap()).unwrap()
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::open(&golden(name)).unwrap()
}

fn ids(case: &Value, name: &str) -> Vec<u32> {
    case[name].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The conversations with their fields in the order of the file.
fn conversations() -> Vec<Vec<Message>> {
    serde_json::from_slice(&fs::read(golden("conversations.json")).unwrap()).unwrap()
}

#[test]
fn texts_become_the_ids_and_ids_the_texts_of_transformers() {
    for case in json("expected.json")["texts"].as_array().unwrap() {
        let tokenizer = tokenizer(case["tokenizer"].as_str().unwrap());
        let text = case["text"].as_str().unwrap();
        let expected = ids(case, "ids");
        assert_eq!(tokenizer.encode(text, Special::Add).unwrap(), expected, "{text:?}");
        assert_eq!(tokenizer.encode(text, Special::None).unwrap(), ids(case, "bare"), "{text:?}");
        assert_eq!(tokenizer.decode(&expected), case["decoded"].as_str().unwrap());
        let mut decoding = tokenizer.decoding();
        let pieces: String = expected.iter().map(|&id| decoding.push(id)).collect();
        assert_eq!(pieces + &decoding.finish(), case["decoded"].as_str().unwrap(), "streamed {text:?}");
    }
}

#[test]
fn conversations_are_rendered_as_transformers_renders_them() {
    let (tokenizer, conversations) = (tokenizer("byte_level"), conversations());
    for case in json("expected.json")["renderings"].as_array().unwrap() {
        let path = golden(&format!("{}.jinja", case["template"].as_str().unwrap()));
        let source = fs::read_to_string(&path).unwrap();
        let template = ChatTemplate::parse(&path, &source, tokenizer.special_tokens()).unwrap();
        let other_line_ends = source.replace('\n', "\r\n");
        let same = ChatTemplate::parse(&path, &other_line_ends, tokenizer.special_tokens()).unwrap();
        let messages = &conversations[case["conversation"].as_u64().unwrap() as usize];
        let rendered = match case["prompt"].as_bool().unwrap() {
            true => template.prompt(messages),
            false => template.render(messages),
        };
        match case["error"].as_str() {
            Some(error) => assert!(in_words(&rendered.unwrap_err()).ends_with(error), "{case}"),
            None => {
                let text = rendered.unwrap();
                assert!([same.prompt(messages).unwrap(), same.render(messages).unwrap()].contains(&text), "{case}");
                assert_eq!(text, case["text"].as_str().unwrap(), "{case}");
                assert_eq!(tokenizer.encode(&text, Special::None).unwrap(), ids(case, "ids"));
            }
        }
    }
}
