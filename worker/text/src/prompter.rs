//! Words to tokens (HANDS), by the one path that training and generation share.
//!
//! - Template `alpaca`: Stanford Alpaca's two published prompts. The prompt is tokenised with the token that the
//!   tokenizer puts in front of a text, the answer apart from it and without one, and the end-of-text token follows. A
//!   tokenizer that glues the answer's first letters to the prompt's last ones would otherwise train on a prompt that
//!   generation never shows.
//! - Template `chat`: the tokenizer's own template, which writes its special tokens itself; none is added. The prompt of
//!   an answer is the rendering of the messages before it with the generation prompt; the answer is what the rendering
//!   with its message adds, up to and with the template's end mark: whoever generates stops there, so what follows it,
//!   mostly a line end, is nobody's to learn. Tokens are those of the rendering as a whole wherever these begin with the
//!   prompt's own tokens; where they do not, the part that was added is tokenised by itself.

use std::ops::Range;

use esta_engine::spec::Template;

use crate::chat::{ChatTemplate, Ending};
use crate::error::{Flaw, TextError};
use crate::message::Message;
use crate::question::Question;
use crate::tokenizer::{Special, Tokenizer};
use crate::words::Words;

/// A prompt, ready for a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
}

/// Makes prompts.
#[derive(Debug, Clone)]
pub struct Prompter<'t> {
    tokenizer: &'t Tokenizer,
    /// None is template `alpaca`.
    chat: Option<ChatTemplate>,
    /// The chat template's end mark, where it has one.
    mark: Option<u32>,
}

/// One sequence before its length is limited.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) ids: Vec<u32>,
    /// Where its answers stand, ascending.
    pub(crate) answers: Vec<Range<u32>>,
    /// The last answer's question.
    pub(crate) question: Question,
}

/// Why words become no tokens.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The example is at fault.
    Flawed(Flaw),
    /// The tokenizer or the job is.
    Failed(TextError),
}

impl From<Flaw> for Refusal {
    fn from(flaw: Flaw) -> Self {
        Self::Flawed(flaw)
    }
}

impl From<TextError> for Refusal {
    fn from(error: TextError) -> Self {
        Self::Failed(error)
    }
}

/// The ids that end what a model says that was adapted under this template, or on documents where there is none.
#[must_use]
pub fn ends_of(tokenizer: &Tokenizer, template: Option<Template>) -> Vec<u32> {
    let prompter = template.and_then(|template| Prompter::new(tokenizer, template).ok());
    prompter.map_or_else(|| tokenizer.eos_ids().to_vec(), |prompter| prompter.ends())
}

/// One answer of a conversation: the rendering that asks for it, and the one that holds it.
struct Turn {
    asked: String,
    told: String,
}

impl<'t> Prompter<'t> {
    /// A prompter for a template.
    ///
    /// # Errors
    /// [`TextError`] when the template is `chat` and the tokenizer has none, or one that does not parse; when it is
    /// `alpaca` and the tokenizer has no end-of-text token.
    pub fn new(tokenizer: &'t Tokenizer, template: Template) -> Result<Self, TextError> {
        let chat = match template {
            Template::Alpaca => tokenizer.end().map(|_| None)?,
            Template::Chat => Some(tokenizer.chat_template()?),
        };
        let mark = chat.as_ref().and_then(|chat| end_mark(tokenizer, chat));
        Ok(Self { tokenizer, chat, mark })
    }

    /// The ids that end an answer: those that end a text, and the chat template's end mark, which need not be one of them.
    #[must_use]
    pub fn ends(&self) -> Vec<u32> {
        let mut ends = self.tokenizer.eos_ids().to_vec();
        if let Some(mark) = self.mark.filter(|mark| !ends.contains(mark)) {
            ends.push(mark);
        }
        ends
    }

    /// The prompt of an instruction; an empty input is none.
    ///
    /// # Errors
    /// [`TextError`] when the template refuses it or it cannot be tokenised.
    pub fn instruction(&self, instruction: &str, input: &str) -> Result<Prompt, TextError> {
        match self.chat {
            None => self.alpaca(instruction, input),
            Some(_) => self.conversation(&[Message::new("user", &asked(instruction, input))]),
        }
    }

    /// The prompt that asks for the assistant's next message.
    ///
    /// # Errors
    /// [`TextError`] when the template is `alpaca`, refuses the messages, or they cannot be tokenised.
    pub fn conversation(&self, messages: &[Message]) -> Result<Prompt, TextError> {
        let text = self.chat.as_ref().ok_or(TextError::Conversation)?.prompt(messages)?;
        let ids = self.tokenizer.encode(&text, Special::None)?;
        Ok(Prompt { text, ids })
    }

    /// The sequences of one record: one, or one per answer where the template rewrites earlier turns.
    pub(crate) fn drafts(&self, words: Words) -> Result<Vec<Draft>, Refusal> {
        match (words, &self.chat) {
            (Words::Instruction { instruction, input, output }, None) => {
                Ok(vec![self.alpaca_draft(instruction, input, output)?])
            }
            (Words::Instruction { instruction, input, output }, Some(chat)) => {
                let messages = [Message::new("user", &asked(&instruction, &input)), Message::new("assistant", &output)];
                let mut drafts = self.chat_drafts(chat, &messages)?;
                drafts.iter_mut().for_each(|draft| {
                    draft.question.instruction.clone_from(&instruction);
                    draft.question.input.clone_from(&input);
                });
                Ok(drafts)
            }
            (Words::Conversation(messages), Some(chat)) => self.chat_drafts(chat, &messages),
            (Words::Conversation(_), None) => Err(TextError::Conversation.into()),
            (Words::Document(_), _) => unreachable!("documents have no template"),
        }
    }

    fn alpaca(&self, instruction: &str, input: &str) -> Result<Prompt, TextError> {
        let text = alpaca_text(instruction, input);
        let ids = self.tokenizer.encode(&text, Special::Add)?;
        Ok(Prompt { text, ids })
    }

    fn alpaca_draft(&self, instruction: String, input: String, output: String) -> Result<Draft, TextError> {
        let Prompt { text: prompt, mut ids } = self.alpaca(&instruction, &input)?;
        let start = count(&ids);
        ids.extend(self.tokenizer.encode(&output, Special::None)?);
        ids.push(self.tokenizer.end()?);
        let answers = vec![start..count(&ids)];
        Ok(Draft { ids, answers, question: Question { prompt, instruction, input, answer: output } })
    }

    fn chat_drafts(&self, chat: &ChatTemplate, messages: &[Message]) -> Result<Vec<Draft>, Refusal> {
        let answers = messages.iter().enumerate().filter(|(_, message)| message.is_answer()).map(|(at, _)| at);
        let places: Vec<usize> = answers.collect();
        let turns = turns(chat, messages, &places)?;
        let steady = turns.windows(2).all(|pair| pair[1].asked.starts_with(&pair[0].told));
        let run = if steady { turns.len() } else { 1 };
        let runs = turns.chunks(run).zip(places.chunks(run));
        runs.map(|(turns, places)| Ok(self.draft(turns, messages, places[places.len() - 1])?)).collect()
    }

    /// The sequence of turns that continue each other; the last answer is the message at `last`.
    fn draft(&self, turns: &[Turn], messages: &[Message], last: usize) -> Result<Draft, TextError> {
        let (mut ids, mut answers, mut done) = (Vec::new(), Vec::new(), 0);
        for turn in turns {
            self.extend(&mut ids, &turn.asked, done)?;
            let start = count(&ids);
            self.extend(&mut ids, &turn.told, turn.asked.len())?;
            answers.push(start..self.answer_end(&ids, start));
            done = turn.told.len();
        }
        let question = Question {
            prompt: turns.last().map(|turn| turn.asked.clone()).unwrap_or_default(),
            instruction: messages[..last].last().map(Message::content).unwrap_or_default(),
            input: String::new(),
            answer: messages[last].content(),
        };
        Ok(Draft { ids, answers, question })
    }

    /// Where the last answer of `ids` ends: behind its end mark, with the sequence where it has none.
    fn answer_end(&self, ids: &[u32], start: u32) -> u32 {
        let behind_mark = self.mark.and_then(|mark| ids.iter().rposition(|&id| id == mark)).map(|at| at as u32 + 1);
        behind_mark.filter(|&end| end > start).unwrap_or(count(ids))
    }

    /// Lengthens the tokens of `text[..done]` to those of `text`, never changing one that stands.
    fn extend(&self, ids: &mut Vec<u32>, text: &str, done: usize) -> Result<(), TextError> {
        let whole = self.tokenizer.encode(text, Special::None)?;
        match whole.starts_with(ids) {
            true => *ids = whole,
            false => ids.extend(self.tokenizer.encode(&text[done..], Special::None)?),
        }
        Ok(())
    }
}

/// The first special token that a template writes behind an answer, seen on a conversation that is made up here; none where
/// the template refuses that or has no such token.
fn end_mark(tokenizer: &Tokenizer, chat: &ChatTemplate) -> Option<u32> {
    const ANSWER: &str = "aphelion";
    let messages = [Message::new("user", "perihelion"), Message::new("assistant", ANSWER)];
    let told = chat.ending(&messages, Ending::Message).ok()?;
    let (_, behind) = told.rsplit_once(ANSWER)?;
    let behind = tokenizer.encode(behind, Special::None).ok()?;
    behind.into_iter().find(|&id| tokenizer.is_special(id))
}

/// The renderings around the answers at `places`, each of which continues its prompt.
fn turns(chat: &ChatTemplate, messages: &[Message], places: &[usize]) -> Result<Vec<Turn>, Flaw> {
    let mut turns = Vec::with_capacity(places.len());
    for (turn, &at) in (1..).zip(places) {
        let asked = chat.ending(&messages[..at], Ending::Prompt).map_err(Flaw::Template)?;
        let told = chat.ending(&messages[..=at], Ending::Message).map_err(Flaw::Template)?;
        if !told.starts_with(&asked) {
            return Err(Flaw::Unsteady { turn });
        }
        turns.push(Turn { asked, told });
    }
    Ok(turns)
}

/// An instruction as a user's message.
fn asked(instruction: &str, input: &str) -> String {
    if input.is_empty() { instruction.to_owned() } else { format!("{instruction}\n\n{input}") }
}

fn alpaca_text(instruction: &str, input: &str) -> String {
    if input.is_empty() {
        return format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the \
             request.\n\n### Instruction:\n{instruction}\n\n### Response:"
        );
    }
    format!(
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a \
         response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### \
         Input:\n{input}\n\n### Response:"
    )
}

fn count(ids: &[u32]) -> u32 {
    u32::try_from(ids.len()).unwrap_or(u32::MAX)
}
