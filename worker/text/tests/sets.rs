//! Files to sequences: what is read, what is refused, what is counted.

#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod support;

use std::io::Write;

use esta_text::{Origin, Position, Reason, Special, TextError, TextSet};
use flate2::write::GzEncoder;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{Folder, alpaca, chat, in_words, lines, open, set, text, trained};

fn answers(set: &TextSet) -> Vec<&str> {
    set.questions().iter().map(|question| question.answer.as_str()).collect()
}

#[test]
fn lists_lines_and_gzip_hold_the_same_examples() {
    let tokenizer = trained().tokenizer();
    let folder = Folder::new();
    let records = [alpaca("a", "", "one"), json!({"instruction": "b", "input": null, "output": "two"})];
    let mut zipped = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(lines(&records).as_bytes()).unwrap();
    let files = [
        folder.write("list.json", format!("\n {}", json!(records))),
        folder.write("lines.jsonl", format!("\u{feff}\n{}\n\n", lines(&records).replace('\n', "\r\n"))),
        folder.write("zipped.jsonl.gz", zipped.finish().unwrap()),
    ];
    for file in files {
        let set = open(&tokenizer, "alpaca", &file, json!({})).unwrap();
        assert_eq!(answers(&set), ["one", "two"], "{}", file.display());
    }
}

#[test]
fn a_folder_is_read_in_byte_order_of_its_names() {
    let tokenizer = trained().tokenizer();
    let folder = Folder::new();
    for (name, answer) in [("b.jsonl", "third"), ("a.json", "second"), ("B.jsonl", "first"), ("notes.txt", "never")] {
        folder.write(name, lines(&[alpaca("q", "", answer)]));
    }
    let set = open(&tokenizer, "alpaca", folder.path(), json!({})).unwrap();
    assert_eq!(answers(&set), ["first", "second", "third"]);
    assert!(matches!(open(&tokenizer, "alpaca", Folder::new().path(), json!({})), Err(TextError::NoFiles { .. })));
}

#[test]
fn a_flawed_line_is_named_with_its_file() {
    let tokenizer = trained().tokenizer();
    let cases = [
        (r#"{"instruction": "x" "output": 1}"#, "malformed JSON at column 21: expected `,` or `}`"),
        ("\"x\"", "a string (x), expected an object"),
        (r#"{"instruction": "x"}"#, "`output` is missing, expected a text"),
        (r#"{"instruction": 5, "output": "y"}"#, "`instruction` is a number (5), expected a text"),
        (r#"{"instruction": "x", "output": " "}"#, "no answer: `output` is empty"),
    ];
    for (line, expected) in cases {
        let folder = Folder::new();
        let file = folder.write("set.jsonl", format!("\n{}{line}\n", lines(&[alpaca("q", "", "a")])));
        let said = in_words(&open(&tokenizer, "alpaca", &file, json!({})).unwrap_err());
        assert_eq!(said, format!("{}, line 3: not usable as an example: {expected}", file.display()));
    }
}

#[test]
fn flawed_conversations_and_documents_say_what_is_missing() {
    let tokenizer = trained().tokenizer();
    let folder = Folder::new();
    let cases = [
        ("chat", json!([{"messages": "x"}]), "`messages` is a string (x), expected a list of messages"),
        ("chat", json!([{"messages": [{"role": "user", "content": "x"}]}]), "no answer: no message of the assistant"),
        ("chat", json!([chat(&["x", " "])]), "no answer: a message of the assistant is empty"),
        ("text", json!([{"text": "\n"}]), "the document is empty"),
    ];
    for (layout, list, expected) in cases {
        let file = folder.write("set.json", list.to_string());
        let said = in_words(&open(&tokenizer, layout, &file, json!({"template": "chat"})).unwrap_err());
        assert_eq!(said, format!("{}, item 1: not usable as an example: {expected}", file.display()));
    }
}

#[test]
fn a_broken_list_is_refused_under_every_policy_with_its_line() {
    let tokenizer = trained().tokenizer();
    let folder = Folder::new();
    let file = folder.write("set.json", format!("\n[{},\n{{]", alpaca("q", "", "a")));
    let said = in_words(&open(&tokenizer, "alpaca", &file, json!({"flawed": "skip"})).unwrap_err());
    assert!(
        said.starts_with(&format!("{}, line 3: not a JSON list of examples: malformed JSON", file.display())),
        "{said}"
    );
}

#[test]
fn skipped_examples_are_counted_by_reason_with_the_first_place() {
    let tokenizer = trained().tokenizer();
    let folder = Folder::new();
    let good = lines(&[alpaca("q", "", "a")]);
    let empty = lines(&[alpaca("q", "", "")]);
    let file = folder.write("set.jsonl", format!("{good}{empty}{{\n{empty}nonsense\n{good}"));
    let set = open(&tokenizer, "alpaca", &file, json!({"flawed": "skip"})).unwrap();
    let report = set.report();
    let first = |reason| (report.skipped[&reason].count, report.skipped[&reason].first.clone());
    let line = |line| Origin { path: file.clone(), position: Position::Line(line) };
    assert_eq!((report.read, report.kept), (6, 2));
    assert_eq!(first(Reason::Malformed), (2, line(3)));
    assert_eq!(first(Reason::Empty), (2, line(2)));
    let shown = report.to_string();
    assert!(shown.starts_with("2 sequences of 6 records, "), "{shown}");
    assert!(shown.ends_with("line 2: no answer: `output` is empty)"), "{shown}");
}

#[test]
fn a_set_of_which_nothing_remains_is_refused_with_the_reasons() {
    let tokenizer = trained().tokenizer();
    let folder = Folder::new();
    let file = folder.write("set.jsonl", lines(&[alpaca("q", "", "")]));
    let said = open(&tokenizer, "alpaca", &file, json!({"flawed": "skip"})).unwrap_err().to_string();
    assert!(said.contains(": no examples (1 empty (first: "), "{said}");
    let nothing = folder.write("nothing.jsonl", "");
    let said = open(&tokenizer, "alpaca", &nothing, json!({})).unwrap_err().to_string();
    assert_eq!(said, format!("{}: no examples", nothing.display()));
}

#[test]
fn examples_too_long_are_cut_left_out_or_refused() {
    let tokenizer = trained().tokenizer();
    let folder = Folder::new();
    let file = folder.write("set.jsonl", lines(&[alpaca("q", "", "a"), alpaca("q", "", "the answer is the answer")]));
    let whole = open(&tokenizer, "alpaca", &file, json!({})).unwrap();
    let limit = whole.lengths()[0];
    let limited = |policy: &str| open(&tokenizer, "alpaca", &file, json!({"max_length": limit, "over_long": policy}));
    let cut = limited("truncate").unwrap();
    assert_eq!((cut.lengths(), cut.report().truncated), (vec![limit, limit], 1));
    assert_eq!(cut.prompt_ids(1), whole.prompt_ids(1));
    assert_ne!(cut.example(1).ids.last(), Some(&0), "the end was cut off");
    let left_out = limited("skip").unwrap();
    assert_eq!((left_out.len(), left_out.report().skipped[&Reason::OverLong].count), (1, 1));
    let refused = limited("refuse").unwrap_err().to_string();
    let found = whole.lengths()[1];
    assert_eq!(refused, format!("{}, line 2: {found} tokens, more than max_length = {limit}", file.display()));
    let prompts = json!({"max_length": whole.prompt_ids(0).len()});
    assert!(matches!(open(&tokenizer, "alpaca", &file, prompts), Err(TextError::Empty { .. })));
}

#[test]
fn documents_follow_each_other_and_fill_every_sequence() {
    let tokenizer = trained().tokenizer();
    let folder = Folder::new();
    let documents = ["the answer is the answer", "Which header declares open?"];
    let file = folder.write("set.jsonl", lines(&documents.map(|text| json!({"text": text}))));
    let set = open(&tokenizer, "text", &file, json!({"max_length": 4})).unwrap();
    let mut stream = Vec::new();
    for document in documents {
        stream.extend(tokenizer.encode(document, Special::None).unwrap());
        stream.push(0);
    }
    let sequences: Vec<Vec<u32>> = (0..set.len()).map(|index| set.example(index).ids).collect();
    let expected: Vec<Vec<u32>> = stream.chunks(4).filter(|ids| ids.len() > 1).map(<[u32]>::to_vec).collect();
    assert_eq!(sequences, expected);
    assert_eq!(set.example(0).learned, [1..4]);
    assert_eq!((set.question(0), set.prompt_ids(0)), (None, &[][..]));
}

#[test]
fn a_split_takes_its_count_of_sound_examples_and_shares_none() {
    let tokenizer = trained().tokenizer();
    let folder = Folder::new();
    let records: Vec<Value> = (0..10).map(|n| alpaca("q", "", &format!("answer {n}"))).collect();
    let file = folder.write("set.jsonl", format!("nonsense\n{}", lines(&records)));
    let part = |split: Value| TextSet::open(&text(json!({"flawed": "skip"})), &set("alpaca", &file, split), &tokenizer);
    let (here, there) = (part(json!({"count": 4})).unwrap(), part(json!({"skip": 4, "count": 6})).unwrap());
    let mut all: Vec<&str> = answers(&here).into_iter().chain(answers(&there)).collect();
    all.sort_unstable();
    assert_eq!(all, (0..10).map(|n| format!("answer {n}")).collect::<Vec<_>>());
    let said = part(json!({"count": 11})).unwrap_err().to_string();
    assert!(said.ends_with("split skips 0 and takes 11 of 10 examples"), "{said}");
}

#[test]
fn layouts_of_images_are_refused() {
    let tokenizer = trained().tokenizer();
    let error = open(&tokenizer, "parquet", Folder::new().path(), json!({})).unwrap_err();
    assert!(matches!(error, TextError::Layout { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every learned token of every row is read once, from the position before it, and nothing else is.
    #[test]
    fn batches_agree_with_their_examples(
        outputs in prop::collection::vec("[a-z \u{e9}]{0,12}z", 1..6),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..5),
        all in any::<bool>(),
        limit in 60_u32..140,
    ) {
        let tokenizer = trained().tokenizer();
        let folder = Folder::new();
        let records: Vec<Value> = outputs.iter().map(|output| alpaca("q", "", output)).collect();
        let file = folder.write("set.jsonl", lines(&records));
        let spec = json!({"loss_on": if all { "all" } else { "answers" }, "max_length": limit});
        let Ok(set) = open(&tokenizer, "alpaca", &file, spec) else { return Ok(()) };
        let indices: Vec<u64> = picks.iter().map(|pick| pick.index(set.len() as usize) as u64).collect();
        let batch = set.batch(&indices);
        prop_assert_eq!(batch.rows, indices.len());
        prop_assert_eq!(batch.ids.len(), batch.rows * batch.width);
        let (mut reads, mut labels, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (row, &index) in indices.iter().enumerate() {
            let example = set.example(index);
            prop_assert_eq!(example.ids.len(), set.lengths()[index as usize] as usize);
            for (at, &id) in batch.ids[row * batch.width..(row + 1) * batch.width].iter().enumerate() {
                prop_assert_eq!(id, example.ids.get(at).map_or(0, |&id| i64::from(id)));
            }
            for token in example.learned.iter().cloned().flatten() {
                reads.push((row * batch.width) as i64 + i64::from(token) - 1);
                labels.push(i64::from(example.ids[token as usize]));
            }
            counts.push(example.learned.iter().map(ExactSizeIterator::len).sum::<usize>());
        }
        prop_assert_eq!(&batch.reads, &reads);
        prop_assert_eq!(&batch.labels, &labels);
        prop_assert_eq!(&batch.counts, &counts);
        prop_assert!(reads.is_sorted());
        let learned: usize = (0..set.len()).map(|index| set.batch(&[index]).reads.len()).sum();
        prop_assert_eq!(set.report().learned, learned as u64);
    }
}
