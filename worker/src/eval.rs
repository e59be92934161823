//! Held-out loss and accuracy of stitches (HANDS): what a report's plots and regrets rest on.

pub mod counts;
pub mod probe;
pub mod speech;

use std::{num::NonZeroU32, path::Path, time::Instant};

use esta_data::{DataError, HeldOut};
use esta_engine::{
    memory::{JUDGED_SIDE_BY_SIDE, JUDGED_TOKENS, Pass, deployed},
    palette::Choice,
    spec::{EvalStitches, JobSpec, PaletteRule},
};
use esta_model::{Input, Network, StitchError, StitchedNet};
use esta_proto::{Step, StitchId};
use esta_text::TextSet;
use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};
use thiserror::Error;

use self::{counts::TextCounts, probe::Probe, speech::Speech};
use crate::{
    places::{DataPlaceError, data_here},
    trainer::{Family, tensors},
};

/// Why stitches cannot be evaluated.
#[derive(Debug, Error)]
pub enum EvalError {
    /// The held-out samples.
    #[error("the held-out samples do not load")]
    Data(#[from] DataError),
    /// The same, in object storage.
    #[error("the held-out samples do not load")]
    DataPlace(#[from] DataPlaceError),
    /// The job has none.
    #[error("data.eval: the job names no held-out samples")]
    NoSamples,
    /// A stitch.
    #[error("a stitch cannot be evaluated")]
    Stitch(#[from] StitchError),
}

/// One stitch on the held-out images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StitchResult {
    /// Which stitch.
    pub stitch: StitchId,
    /// Share of the images classified rightly, or of the texts answered exactly.
    pub accuracy: f64,
    /// The same on samples of even and of odd index: an oracle chosen on one half is scored on the other.
    pub halves: [f64; 2],
    /// Mean cross entropy, of images or of learned tokens.
    pub loss: f64,
    /// Images classified rightly, or texts answered exactly.
    pub correct: u64,
    /// Tokens of held-out texts per second, in batches of `eval.batch_size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Bytes that the merged model is planned to take with one such batch (`esta_engine::memory::deployed`); computed, not
    /// measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planned_memory: Option<u64>,
    /// What else was measured, where the job asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// A deployed model on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exported {
    /// Which stitch.
    pub stitch: StitchId,
    /// Its folder, relative to the run's.
    pub path: String,
}

/// `eval.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Applied steps of the checkpoint that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// What the classes of the held-out images are called, by their numbers; empty where the files do not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Held-out images or texts.
    pub images: u64,
    /// What became of the records of the training texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_texts: Option<TextCounts>,
    /// What became of those of the held-out texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_out_texts: Option<TextCounts>,
    /// One per evaluated stitch, ascending by id.
    pub results: Vec<StitchResult>,
    /// What else was measured of language models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speech: Option<Speech>,
    /// Models on disk.
    pub exports: Vec<Exported>,
    /// What the evaluation took.
    pub seconds: f64,
    /// Peak resident memory of the worker's process before the evaluation, in bytes; where the system says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// Processor time of the worker's process before the evaluation, all threads, in seconds; where the system says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
}

impl Evaluation {
    /// Writes `eval.json` into the folder of a run or of a checkpoint, in one piece or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, folder: &Path) -> std::io::Result<()> {
        let (partial, path) = (folder.join(".eval.json.tmp"), folder.join("eval.json"));
        std::fs::write(&partial, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(partial, path)
    }
}

/// The largest pass that an evaluation on these texts can make.
#[must_use]
pub fn largest_pass(spec: &JobSpec, texts: &TextSet) -> Pass {
    let rows = texts.len().min(u64::from(spec.eval.batch_size.max(1)));
    let tokens = texts.lengths().into_iter().max().map_or(0, u64::from);
    Pass { rows, tokens, learned: rows * texts.learned_lengths().max().unwrap_or(0) }
}

/// The stitches that a job evaluates at its end, ascending.
#[must_use]
pub fn chosen(family: &Family, palettes: &[(PaletteRule, Vec<Choice>)]) -> Vec<StitchId> {
    let catalog = &family.law.catalog;
    let mut stitches: Vec<StitchId> = match family.law.spec.eval.stitches {
        EvalStitches::None => Vec::new(),
        EvalStitches::All => catalog.stitches().map(|stitch| stitch.id).collect(),
        EvalStitches::Palette => {
            let picked = palettes.iter().flat_map(|(_, choices)| choices).map(|choice| choice.stitch);
            picked.chain(catalog.stitches().filter(|stitch| stitch.is_anchor()).map(|stitch| stitch.id)).collect()
        }
    };
    stitches.sort_unstable();
    stitches.dedup();
    stitches
}

/// Evaluates stitches of a family on its job's held-out images, every image once; `done` hears of each finished stitch.
///
/// # Errors
/// [`EvalError`].
pub fn evaluate(
    family: &Family,
    net: &StitchedNet,
    stitches: &[StitchId],
    mut done: impl FnMut(usize, &StitchResult),
) -> Result<Evaluation, EvalError> {
    let started = Instant::now();
    let held_out = HeldOut::open(&*data_here(&family.law.spec.data)?, &family.intake)?.ok_or(EvalError::NoSamples)?;
    let mut results = Vec::with_capacity(stitches.len());
    for (number, &stitch) in stitches.iter().enumerate() {
        let result = tch::no_grad(|| evaluate_stitch(family, net, stitch, &held_out))?;
        done(number, &result);
        results.push(result);
    }
    let seconds = started.elapsed().as_secs_f64();
    if family.law.spec.eval.probe_images > 0 {
        let probes = tch::no_grad(|| probe::measure(family, net, stitches))?;
        results.iter_mut().zip(probes).for_each(|(result, probe)| result.probe = Some(probe));
    }
    let speech = tch::no_grad(|| speech::measure(family, net, stitches, &held_out))?;
    let images = held_out.len();
    let held_out_texts = held_out.texts().map(|texts| TextCounts::from(texts.report()));
    let classes = held_out.classes().to_vec();
    Ok(Evaluation { images, classes, held_out_texts, results, speech, seconds, ..Evaluation::default() })
}

fn evaluate_stitch(
    family: &Family,
    net: &StitchedNet,
    stitch: StitchId,
    held_out: &HeldOut,
) -> Result<StitchResult, EvalError> {
    let started = Instant::now();
    let Judged { loss, right } = judge(family, held_out, net.network(stitch)?, None)?;
    let mut result = summarise(stitch, loss, &right);
    if let Some(texts) = held_out.texts() {
        result.tokens_per_second = Some(texts.report().tokens as f64 / started.elapsed().as_secs_f64().max(1e-9));
        let (law, stitch) = (&family.law, family.law.catalog.get(stitch));
        result.planned_memory = stitch.and_then(|stitch| deployed(law, stitch, largest_pass(&law.spec, texts)));
    }
    Ok(result)
}

/// What a network says of held-out samples.
pub(crate) struct Judged {
    /// Mean cross entropy of images or of learned tokens.
    pub loss: f64,
    /// Per sample whether it is right.
    pub right: Vec<u8>,
}

/// Runs a network over all held-out samples, ended after some of its blocks or where it ends.
fn judge(family: &Family, held_out: &HeldOut, network: &Network, blocks: Option<usize>) -> Result<Judged, EvalError> {
    let (mut loss, mut judged) = (0.0, 0);
    let mut right = Vec::with_capacity(held_out.len() as usize);
    let side_by_side = if family.shard.is_some() { JUDGED_SIDE_BY_SIDE as usize } else { 1 };
    let mut chunks = held_out.chunks(chunk(family));
    loop {
        let batches = chunks.by_ref().take(side_by_side);
        let batches: Vec<(Input, Tensor)> =
            batches.map(|batch| Ok(tensors(&batch?, family.device))).collect::<Result<_, DataError>>()?;
        if batches.is_empty() {
            return Ok(Judged { loss: loss / judged.max(1) as f64, right });
        }
        let (inputs, labels): (Vec<Input>, Vec<Tensor>) = batches.into_iter().unzip();
        let mut labels = labels.iter();
        network.evaluate(&inputs, blocks, |input, logits| {
            let labels = labels.next().expect("every input has labels");
            loss += summed_loss(&logits, labels);
            judged += labels.numel();
            let hits = logits.argmax(-1, false).eq_tensor(labels).to_kind(Kind::Uint8).to_device(tch::Device::Cpu);
            let hits = Vec::<u8>::try_from(hits).expect("bytes become bytes");
            match input {
                Input::Images(_) => right.extend(hits),
                Input::Texts(texts) => right.extend(wholly_right(&hits, &texts.counts)),
            }
        });
    }
}

/// Texts of which every learned token is the likeliest after the ones before it: exactly those that greedy text answers
/// token by token as the set does, its end among them.
fn wholly_right(hits: &[u8], counts: &[i64]) -> Vec<u8> {
    let mut rest = hits;
    let whole = |count: &i64| {
        let (own, others) = rest.split_at(*count as usize);
        rest = others;
        u8::from(own.iter().all(|hit| *hit == 1))
    };
    counts.iter().map(whole).collect()
}

/// Images or texts per forward pass.
fn chunk(family: &Family) -> NonZeroU32 {
    NonZeroU32::new(family.law.spec.eval.batch_size).unwrap_or(NonZeroU32::MIN)
}

/// Cross entropy of logits [B, K] with labels `[B]`, summed in double precision; some rows at a time, since a vocabulary is wide.
fn summed_loss(logits: &Tensor, labels: &Tensor) -> f64 {
    let rows = JUDGED_TOKENS.cast_signed();
    let parts = logits.split(rows, 0).into_iter().zip(labels.split(rows, 0));
    let loss = |(logits, labels): (Tensor, Tensor)| {
        let logits = logits.to_kind(Kind::Double);
        logits.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Sum, -100, 0.0).double_value(&[])
    };
    parts.map(loss).sum()
}

fn summarise(stitch: StitchId, loss: f64, right: &[u8]) -> StitchResult {
    let share = |start: usize, step: usize| {
        let part = right.iter().skip(start).step_by(step);
        let (hits, all) = part.fold((0_u64, 0_u64), |(hits, all), hit| (hits + u64::from(*hit), all + 1));
        if all == 0 { 0.0 } else { hits as f64 / all as f64 }
    };
    let correct = right.iter().map(|hit| u64::from(*hit)).sum();
    StitchResult {
        stitch,
        accuracy: share(0, 1),
        halves: [share(0, 2), share(1, 2)],
        loss,
        correct,
        tokens_per_second: None,
        planned_memory: None,
        probe: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_right_when_all_its_learned_tokens_are() {
        assert_eq!(wholly_right(&[1, 1, 0, 1, 1, 1], &[2, 2, 0, 2]), [1, 0, 1, 1]);
    }

    #[test]
    fn a_loss_is_the_same_in_parts_as_in_one() {
        let rows = 2 * JUDGED_TOKENS.cast_signed() + 7;
        let logits = Tensor::arange(rows * 5, (Kind::Float, tch::Device::Cpu)).sin().view([rows, 5]);
        let labels = Tensor::arange(rows, (Kind::Int64, tch::Device::Cpu)).remainder(5);
        let logs = logits.to_kind(Kind::Double).log_softmax(-1, Kind::Double);
        let whole = -logs.gather(1, &labels.view([rows, 1]), false).sum(Kind::Double).double_value(&[]);
        assert!((summed_loss(&logits, &labels) - whole).abs() < 1e-12 * whole);
        assert_eq!(summed_loss(&logits.narrow(0, 0, 0), &labels.narrow(0, 0, 0)), 0.0);
    }

    #[test]
    fn halves_are_the_even_and_the_odd_samples() {
        let result = summarise(StitchId(4), 2.0, &[1, 0, 1, 0, 0]);
        assert_eq!((result.accuracy, result.halves, result.loss, result.correct), (0.4, [2.0 / 3.0, 0.0], 2.0, 2));
    }
}
