//! Texts for workers (HANDS): files -> examples -> prompts and answers -> tokens, free of libtorch.
//!
//! ```text
//! DatasetSpec -> records -> words -> Prompter -> Example -> TextSet -> TokenBatch   training and evaluation
//!                                       ^
//!                 Tokenizer, ChatTemplate         generation asks the same Prompter
//! ```
//! A batch is a function of (spec, tokenizer, indices) alone. A prompt has one tokenisation: the one it is trained with
//! is the one a model is asked with.

#![allow(clippy::single_range_in_vec_init, reason = "learned tokens are ranges, often a single one")]

mod baselines;
mod batch;
mod chat;
mod error;
mod example;
mod message;
mod origin;
mod prompter;
mod question;
mod records;
mod report;
mod select;
mod set;
mod tokenizer;
mod train;
mod words;

pub use baselines::{Baselines, baselines};
pub use batch::TokenBatch;
pub use chat::ChatTemplate;
pub use error::{Flaw, TemplateError, TextError};
pub use example::Example;
pub use message::Message;
pub use origin::{Origin, Position};
pub use prompter::{Prompt, Prompter, ends_of};
pub use question::Question;
pub use report::{Reason, Skipped, TextReport};
pub use set::TextSet;
pub use tokenizer::{Decoding, Special, Tokenizer};
pub use train::{read_documents, train_tokenizer};
