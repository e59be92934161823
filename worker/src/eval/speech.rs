//! What else is measured of language models (HANDS): two trivial answers that have to be beaten, the larger anchor ended early,
//! and what each stitch answers to one held-out question.

use std::time::Instant;

use esta_data::{HeldOut, Intake, Loader};
use esta_engine::{catalog::Segment, cost::path_cost};
use esta_model::{Decoder, Network, StitchedNet};
use esta_proto::StitchId;
use esta_text::{TextSet, Tokenizer, baselines, ends_of};
use serde::{Deserialize, Serialize};

use super::{EvalError, Judged, judge};
use crate::{
    generate::{Sampling, answer},
    places::data_here,
    trainer::Family,
};

/// Tokens of a shown answer at most.
const SHOWN: u64 = 96;

/// Language models on held-out texts, beside their stitches' own results.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Speech {
    /// Learned tokens of the held-out texts: what losses are means over.
    pub tokens: u64,
    /// Exact match of the most frequent training answer to the same kind of question; absent for documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority: Option<f64>,
    /// Exact match of the input's line that shares most words with the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy: Option<f64>,
    /// The largest anchor ended after each of its blocks, with its own norm and head.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exits: Vec<Exit>,
    /// One held-out question in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Question>,
    /// What evaluated stitches answer to it, by greedy text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<Answer>,
}

/// An anchor ended early.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// Blocks that run.
    pub blocks: u64,
    /// Parameters of what runs.
    pub params: u64,
    /// Mean cross entropy of learned tokens.
    pub loss: f64,
    /// Share of the texts answered exactly.
    pub accuracy: f64,
}

/// A held-out question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What is asked.
    pub instruction: String,
    /// What it is about.
    pub input: String,
    /// The answer of the set.
    pub answer: String,
}

/// A stitch's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Which stitch.
    pub stitch: StitchId,
    /// What it said, its end left out.
    pub text: String,
    /// How fast, prompt included.
    pub tokens_per_second: f64,
}

/// Measures all of it; none for a family that does not speak.
///
/// # Errors
/// [`EvalError`].
pub fn measure(
    family: &Family,
    net: &StitchedNet,
    stitches: &[StitchId],
    held_out: &HeldOut,
) -> Result<Option<Speech>, EvalError> {
    let (Intake::Texts(tokenizer), Some(texts)) = (&family.intake, held_out.texts()) else { return Ok(None) };
    let mut speech = Speech { tokens: texts.report().learned, ..Speech::default() };
    // Documents ask nothing: their training set need not be read a second time.
    if !texts.questions().is_empty() {
        let train = Loader::open(&*data_here(&family.law.spec.data)?, &family.intake, family.law.spec.seed, 1)?;
        if let Some(trivial) = train.texts().and_then(|train| baselines(train, texts)) {
            (speech.majority, speech.copy) = (Some(trivial.majority), Some(trivial.copy));
        }
    }
    if family.law.spec.eval.exits {
        speech.exits = exits(family, net, held_out)?;
    }
    if let Some(question) = shown(texts) {
        speech.question = texts.question(question).map(|question| Question {
            instruction: question.instruction.clone(),
            input: question.input.clone(),
            answer: question.answer.clone(),
        });
        let template = family.law.spec.data.text.as_ref().map(|text| text.template);
        let asked = Asked { prompt: texts.prompt_ids(question), ends: ends_of(tokenizer, template), tokenizer };
        for &stitch in stitches {
            speech.answers.extend(answer_of(net.network(stitch)?, stitch, &asked));
        }
    }
    Ok(Some(speech))
}

/// The first question whose answer has several words and is not too long to read; else the first.
fn shown(texts: &TextSet) -> Option<u64> {
    let words = |answer: &str| answer.split_whitespace().count();
    let reads_well = |(_, question): &(u64, &esta_text::Question)| (3..=16).contains(&words(&question.answer));
    let questions = || (0..).zip(texts.questions());
    questions().find(reads_well).or_else(|| questions().next()).map(|(index, _)| index)
}

/// The shown question in tokens.
struct Asked<'a> {
    prompt: &'a [u32],
    /// Ids that end its answer.
    ends: Vec<u32>,
    tokenizer: &'a Tokenizer,
}

fn answer_of(network: &Network, stitch: StitchId, asked: &Asked<'_>) -> Option<Answer> {
    let mut decoder = Decoder::new(network)?;
    let (started, mut said) = (Instant::now(), Vec::new());
    answer(&mut decoder, asked.prompt, &asked.ends, (SHOWN, Sampling::GREEDY), |token| {
        said.push(token);
        true
    });
    let tokens_per_second = decoder.seen() as f64 / started.elapsed().as_secs_f64().max(1e-9);
    Some(Answer { stitch, text: asked.tokenizer.decode(&said).trim().to_owned(), tokens_per_second })
}

/// The largest anchor after each of its blocks but the last.
fn exits(family: &Family, net: &StitchedNet, held_out: &HeldOut) -> Result<Vec<Exit>, EvalError> {
    let catalog = &family.law.catalog;
    let Some(anchor) = catalog.stitches().filter(|stitch| stitch.is_anchor()).last() else { return Ok(Vec::new()) };
    let network = net.network(anchor.id)?;
    let depth = catalog.anchors[anchor.end_anchor().index()].depth();
    let exit = |blocks: u32| {
        let Judged { loss, right } = judge(family, held_out, network, Some(blocks as usize))?;
        let accuracy = right.iter().map(|hit| f64::from(*hit)).sum::<f64>() / right.len().max(1) as f64;
        let ended = Segment { anchor: anchor.end_anchor(), first: 0, last: blocks - 1 };
        let params = path_cost(&catalog.anchors, catalog.task, &[ended]).params;
        Ok(Exit { blocks: u64::from(blocks), params, loss, accuracy })
    };
    (1..depth).map(exit).collect()
}
