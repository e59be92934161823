//! Texts that models are judged by.

mod support;

use esta_data::{HeldOut, Intake, Loader};
use esta_engine::spec::DataSpec;
use esta_text::{TextSet, train_tokenizer};
use serde_json::json;
use support::Folder;

fn learned(set: Option<&TextSet>) -> u64 {
    set.expect("texts").report().learned
}

#[test]
fn held_out_answers_are_judged_alone_whatever_is_learned_in_training() {
    let folder = Folder::new();
    let texts = ["which header declares open", "the answer is a header"].map(str::to_owned);
    let tokenizer = train_tokenizer(texts, 300, &folder.path("tokenizer")).expect("trained");
    let intake = Intake::Texts(tokenizer.into());
    let question = json!({"instruction": "which header declares open", "output": "a header"});
    folder.write("set.jsonl", question.to_string().as_bytes());
    folder.write("documents.jsonl", json!({"text": "the answer is a header"}).to_string().as_bytes());
    let spec = |layout: &str, file: &str, loss_on: &str| -> DataSpec {
        let set = json!({"layout": layout, "path": folder.text(file)});
        let text = json!({"loss_on": loss_on});
        serde_json::from_value(json!({"text": text, "train": set, "eval": set, "validation": set})).expect("a section")
    };
    let opened = |spec: &DataSpec| {
        let train = Loader::open(spec, &intake, 1, 1).expect("readable");
        let held_out = HeldOut::open(spec, &intake).expect("readable").expect("there is one");
        let slice = HeldOut::validation(spec, &intake).expect("readable").expect("there is one");
        [train.texts(), held_out.texts(), slice.texts()].map(learned)
    };
    let [whole, of_all, of_slice] = opened(&spec("alpaca", "set.jsonl", "all"));
    let [answers, of_answers, _] = opened(&spec("alpaca", "set.jsonl", "answers"));
    assert!(answers < whole, "prompts are learned");
    assert_eq!([of_all, of_slice, of_answers], [answers; 3]);
    let [document, of_document, _] = opened(&spec("text", "documents.jsonl", "answers"));
    assert_eq!(document, of_document, "documents are judged as they are");
}
