//! Prompts and answers: the same tokens in training as in generation.

#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod support;

use esta_engine::spec::Template;
use esta_text::{Message, Prompter, Reason, Special, TextError, TextSet, Tokenizer, ends_of};
use serde_json::{Value, json};
use support::{Folder, alpaca, chat, in_words, lines, open, trained, with_bos, with_special};

const CHATML: &str = "{% for message in messages %}{{ '<|' + message.role + '|>' + message.content + eos_token }}\
                      {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
/// As Qwen's base models: answers end with a mark that their tokenizers do not call the end of a text.
const OWN_MARK: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\
                        {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
/// As Qwen3: what an answer thought is shown in the last one only.
const FORGETFUL: &str = "{% for message in messages %}{{ '<|' + message.role + '|>' }}\
                         {% if loop.last and message.role == 'assistant' %}{{ '<think></think>' }}{% endif %}\
                         {{ message.content + eos_token }}{% endfor %}\
                         {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

fn templated(template: &str) -> Folder {
    let folder = with_bos();
    folder.write("chat_template.jinja", template);
    folder
}

fn one(tokenizer: &Tokenizer, layout: &str, record: Value, spec: Value) -> TextSet {
    let folder = Folder::new();
    let file = folder.write("set.jsonl", lines(&[record]));
    open(tokenizer, layout, &file, spec).unwrap()
}

/// The learned tokens' texts, one per range.
fn learned(set: &TextSet, tokenizer: &Tokenizer, index: u64) -> Vec<String> {
    let example = set.example(index);
    let spelt = |id: &u32| tokenizer.token(*id).unwrap().replace('\u{120}', " ");
    let of = |range: &std::ops::Range<u32>| {
        example.ids[range.start as usize..range.end as usize].iter().map(spelt).collect()
    };
    example.learned.iter().map(of).collect()
}

#[test]
fn alpaca_prompts_are_stanfords() {
    let tokenizer = trained().tokenizer();
    let prompter = Prompter::new(&tokenizer, Template::Alpaca).unwrap();
    let with = prompter.instruction("Name it.", "a page").unwrap().text;
    assert_eq!(
        with,
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a \
         response that appropriately completes the request.\n\n### Instruction:\nName it.\n\n### Input:\na page\n\n### \
         Response:"
    );
    let without = prompter.instruction("Name it.", "").unwrap().text;
    assert_eq!(
        without,
        "Below is an instruction that describes a task. Write a response that appropriately completes the \
         request.\n\n### Instruction:\nName it.\n\n### Response:"
    );
}

#[test]
fn an_alpaca_prompt_is_trained_on_as_it_is_asked() {
    let tokenizer = with_bos().tokenizer();
    let set = one(&tokenizer, "alpaca", alpaca("Which header?", "a page", "the answer"), json!({}));
    let asked = Prompter::new(&tokenizer, Template::Alpaca).unwrap().instruction("Which header?", "a page").unwrap();
    assert_eq!(set.prompt_ids(0), asked.ids);
    assert_eq!(Some(asked.ids[0]), tokenizer.bos_id());
    let answer = tokenizer.encode("the answer", Special::None).unwrap();
    assert_eq!(set.example(0).ids, [&asked.ids, &answer[..], &[0]].concat());
    assert_eq!(learned(&set, &tokenizer, 0), ["the answer<|endoftext|>"]);
    assert_eq!(set.question(0).unwrap().prompt, asked.text);
}

#[test]
fn loss_on_all_learns_every_token_but_the_first() {
    let tokenizer = with_bos().tokenizer();
    let set = one(&tokenizer, "alpaca", alpaca("Which header?", "", "x"), json!({"loss_on": "all"}));
    let example = set.example(0);
    assert_eq!(example.learned, [1..example.ids.len() as u32]);
}

#[test]
fn every_answer_of_a_steady_conversation_is_learned_in_one_sequence() {
    let tokenizer = templated(CHATML).tokenizer();
    let set = one(&tokenizer, "chat", chat(&["one", "two", "three", "four", "bye"]), json!({"template": "chat"}));
    assert_eq!(set.len(), 1);
    assert_eq!(learned(&set, &tokenizer, 0), ["two<|endoftext|>", "four<|endoftext|>"]);
    let messages =
        [("user", "one"), ("assistant", "two"), ("user", "three")].map(|(role, text)| Message::new(role, text));
    let asked = Prompter::new(&tokenizer, Template::Chat).unwrap().conversation(&messages).unwrap();
    assert_eq!(set.prompt_ids(0), asked.ids);
    assert!(!asked.ids.contains(&tokenizer.bos_id().unwrap()), "the template writes its special tokens itself");
    let question = set.question(0).unwrap();
    assert_eq!((question.instruction.as_str(), question.answer.as_str()), ("three", "four"));
}

#[test]
fn an_answer_ends_with_the_templates_own_mark_and_what_follows_that_is_not_learned() {
    let folder = with_special(templated(OWN_MARK), &["<|im_start|>", "<|im_end|>"]);
    let tokenizer = folder.tokenizer();
    let set = one(&tokenizer, "chat", chat(&["one", "two", "three", "four"]), json!({"template": "chat"}));
    assert_eq!(learned(&set, &tokenizer, 0), ["two<|im_end|>", "four<|im_end|>"]);
    let mark = tokenizer.encode("<|im_end|>", Special::None).unwrap()[0];
    let line_end = tokenizer.encode("\n", Special::None).unwrap();
    let ids = set.example(0).ids;
    assert_eq!(ids[ids.len() - 2..], [mark, line_end[0]], "the rendering is whole");
    assert_eq!(tokenizer.eos_ids(), [0], "the files name another end");
    assert_eq!(Prompter::new(&tokenizer, Template::Chat).unwrap().ends(), [0, mark]);
    assert_eq!(ends_of(&tokenizer, Some(Template::Chat)), [0, mark]);
    assert_eq!(ends_of(&tokenizer, Some(Template::Alpaca)), [0]);
    assert_eq!(ends_of(&tokenizer, None), [0]);
}

#[test]
fn a_mark_that_is_said_in_an_answer_ends_it_no_earlier_and_one_that_is_no_special_token_ends_nothing() {
    let folder = with_special(templated(OWN_MARK), &["<|im_start|>", "<|im_end|>"]);
    let tokenizer = folder.tokenizer();
    let set = one(&tokenizer, "chat", chat(&["one", "<|im_end|> two"]), json!({"template": "chat"}));
    assert_eq!(learned(&set, &tokenizer, 0), ["<|im_end|> two<|im_end|>"]);
    let tokenizer = templated(OWN_MARK).tokenizer();
    let set = one(&tokenizer, "chat", chat(&["one", "two"]), json!({"template": "chat"}));
    assert_eq!(learned(&set, &tokenizer, 0), ["two<|im_end|>\u{10a}"]);
    assert_eq!(Prompter::new(&tokenizer, Template::Chat).unwrap().ends(), [0]);
}

#[test]
fn a_template_that_rewrites_earlier_turns_gives_one_sequence_per_answer() {
    let tokenizer = templated(FORGETFUL).tokenizer();
    let set = one(&tokenizer, "chat", chat(&["one", "two", "three", "four"]), json!({"template": "chat"}));
    let all: Vec<String> = (0..set.len()).flat_map(|index| learned(&set, &tokenizer, index)).collect();
    assert_eq!(all, ["<think></think>two<|endoftext|>", "<think></think>four<|endoftext|>"]);
    assert_eq!((set.report().read, set.report().divided), (1, 1));
    let prompter = Prompter::new(&tokenizer, Template::Chat).unwrap();
    assert_eq!(set.prompt_ids(0), prompter.instruction("one", "").unwrap().ids);
}

#[test]
fn instructions_take_the_chat_template_as_the_users_message() {
    let tokenizer = templated(CHATML).tokenizer();
    let set = one(&tokenizer, "alpaca", alpaca("Name it.", "a page", "x"), json!({"template": "chat"}));
    let question = set.question(0).unwrap();
    assert_eq!(question.prompt, "<|user|>Name it.\n\na page<|endoftext|><|assistant|>");
    assert_eq!((question.instruction.as_str(), question.input.as_str()), ("Name it.", "a page"));
    let asked = Prompter::new(&tokenizer, Template::Chat).unwrap().instruction("Name it.", "a page").unwrap();
    assert_eq!(set.prompt_ids(0), asked.ids);
}

#[test]
fn a_template_that_does_not_continue_its_prompt_is_no_template_to_train_on() {
    let unsteady = "{% for message in messages %}{{ message.content }}{% endfor %}\
                    {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";
    let tokenizer = templated(unsteady).tokenizer();
    let folder = Folder::new();
    let file = folder.write("set.jsonl", lines(&[chat(&["one", "two"])]));
    let error = open(&tokenizer, "chat", &file, json!({"template": "chat"})).unwrap_err();
    let said = in_words(&error);
    assert!(said.ends_with("set.jsonl, line 1: not usable as an example: answer 1: the chat template does not continue its own generation prompt"), "{said}");
}

#[test]
fn a_refusal_of_the_template_is_the_examples_flaw_with_the_templates_line() {
    let strict = "{%- if messages[0].role != 'user' %}\n{{ raise_exception('the user begins') }}\n{%- endif %}\n";
    let tokenizer = templated(&format!("{strict}{CHATML}")).tokenizer();
    let mut wrong = chat(&["one", "two"]);
    wrong["messages"][0]["role"] = json!("system");
    let folder = Folder::new();
    let file = folder.write("set.jsonl", lines(&[chat(&["one", "two"]), wrong]));
    let refused = open(&tokenizer, "chat", &file, json!({"template": "chat"})).unwrap_err();
    assert!(
        in_words(&refused)
            .ends_with("line 2: not usable as an example: the chat template refuses it: line 2: the user begins"),
        "{}",
        in_words(&refused)
    );
    let set = open(&tokenizer, "chat", &file, json!({"template": "chat", "flawed": "skip"})).unwrap();
    let skipped = &set.report().skipped[&Reason::Template];
    assert_eq!((set.len(), skipped.count), (1, 1));
    assert_eq!(skipped.what, "the chat template refuses it: line 2: the user begins");
}

#[test]
fn a_template_that_does_not_parse_or_asks_for_the_date_names_its_line() {
    let tokenizer = templated("{{ bos_token }}\n{% for %}").tokenizer();
    let said = in_words(&tokenizer.chat_template().unwrap_err());
    assert!(said.contains("chat_template.jinja") && said.contains("line 2: syntax error"), "{said}");
    let dated = templated("\n\n{{ strftime_now('%Y') }}").tokenizer();
    let refused = Prompter::new(&dated, Template::Chat).unwrap().instruction("x", "").unwrap_err();
    assert!(in_words(&refused).contains("line 3: unknown function"), "{}", in_words(&refused));
}

#[test]
fn templates_are_found_where_folders_keep_them() {
    let folder = trained();
    let text = |folder: &Folder| {
        let tokenizer = folder.tokenizer();
        let prompter = Prompter::new(&tokenizer, Template::Chat).unwrap();
        prompter.instruction("x", "").unwrap().text
    };
    assert_eq!(text(&folder), "<|user|>\nx<|endoftext|>\n<|assistant|>\n");
    folder.edit("tokenizer_config.json", |json| {
        json["chat_template"] =
            json!([{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "list"}]);
    });
    assert_eq!(text(&folder), "list");
    folder.write("chat_template.jinja", "file");
    assert_eq!(text(&folder), "file");
}

#[test]
fn conversations_need_a_chat_template() {
    let tokenizer = trained().tokenizer();
    let folder = Folder::new();
    let file = folder.write("set.jsonl", lines(&[chat(&["one", "two"])]));
    assert!(matches!(open(&tokenizer, "chat", &file, json!({})), Err(TextError::Conversation)));
}
