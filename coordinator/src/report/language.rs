//! Language models: held-out loss against parameters, and one question answered by every size (HANDS).

use esta_engine::{catalog::Stitch, memory::Bytes};
use esta_page::{
    markup::{escape, legend, section as markup_section},
    numbers::{count, or_dash, percent, si, significant, tick},
    plot::{Axis, Mark, Plot, Scale, extent},
    table::table,
};

use super::{evidence::Evidence, front::mark_of};
use crate::artifacts::summary::{AnswerEntry, EvalFile, ExitEntry, SpeechEntry, TextsEntry};

/// Nothing for a family that does not speak.
pub fn section(evidence: &Evidence) -> String {
    let Some(eval) = &evidence.eval else { return String::new() };
    let Some(speech) = &eval.speech else { return String::new() };
    losses(evidence, speech) + &answers(evidence, speech) + &sets(eval)
}

fn losses(evidence: &Evidence, speech: &SpeechEntry) -> String {
    let trivial = match (speech.majority, speech.copy) {
        (Some(majority), Some(copy)) => format!(
            " Exactly right is {} of the most frequent training answers to the same kind of question, and {} of the lines \
             that share most words with it.",
            percent(majority),
            percent(copy)
        ),
        _ => String::new(),
    };
    let lead = format!(
        "Mean cross entropy of the {} tokens that held-out texts ask for; perplexity is its exponential. Planned memory is \
         computed: the merged model's parameters and one batch of the evaluation.{trivial}",
        count(speech.tokens)
    );
    let mut keys = vec![Mark::Dot.key("evaluated stitch"), mark_of(evidence.rule).key("deployed")];
    if !speech.exits.is_empty() {
        keys.push(
            "<span class=\"key\"><svg class=\"k\" viewBox=\"4 0 24 24\"><path class=\"front other\" d=\"M1.0 12.0L31.0 12.0\"/></svg>\
                   the largest anchor ended early</span>"
                .to_owned(),
        );
    }
    if tuned_alone(evidence).next().is_some() {
        keys.push(Mark::Star.key("tuned alone"));
    }
    let heads =
        ["stitch", "path", "parameters", "held-out loss", "perplexity", "exact match", "tokens/s", "planned memory"];
    let rows: Vec<_> = evidence.catalog.stitches().filter_map(|stitch| row(evidence, stitch)).collect();
    let body = legend(&keys) + &scatter(evidence, speech) + &table(&heads, 2, &rows) + &exits(speech);
    markup_section("Held-out loss against size", &lead, &body)
}

fn row(evidence: &Evidence, stitch: &Stitch) -> Option<Vec<String>> {
    let result = evidence.result(stitch.id)?;
    Some(vec![
        stitch.id.to_string(),
        escape(&evidence.path(stitch)),
        count(stitch.params),
        or_dash(result.loss, significant),
        or_dash(result.loss.map(f64::exp), significant),
        percent(result.accuracy),
        or_dash(result.tokens_per_second, significant),
        or_dash(result.planned_memory, |bytes| Bytes(bytes).to_string()),
    ])
}

/// Stitches with their losses.
fn measured(evidence: &Evidence) -> impl Iterator<Item = (&Stitch, f64)> {
    evidence.catalog.stitches().filter_map(|stitch| Some((stitch, evidence.result(stitch.id)?.loss?)))
}

/// Baselines of which parameters and loss are known.
fn tuned_alone(evidence: &Evidence) -> impl Iterator<Item = (&str, u64, f64)> {
    let baselines = evidence.baselines.iter().flatten();
    baselines.filter_map(|baseline| Some((baseline.name.as_str(), baseline.params?, baseline.loss?)))
}

fn scatter(evidence: &Evidence, speech: &SpeechEntry) -> String {
    let exits: Vec<(f64, f64)> = speech.exits.iter().map(|exit| (exit.params as f64, exit.loss)).collect();
    let points = || {
        let stitches = measured(evidence).map(|(stitch, loss)| (stitch.params as f64, loss));
        stitches.chain(tuned_alone(evidence).map(|(_, params, loss)| (params as f64, loss)))
    };
    let (x, y) = (extent(points().map(|point| point.0), 0.04), extent(points().map(|point| point.1), 0.08));
    let least = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let mut plot = Plot::new((1040.0, 420.0), (x.0.max(0.94 * least), x.1), y, Scale::of_costs);
    plot.axes(
        Axis { name: "parameters of the deployed model", words: tick },
        Axis { name: "held-out loss", words: |v| format!("{v:.2}") },
    );
    // An early exit that says nothing yet would squeeze everything else: only what lies in the picture is drawn.
    let shown: Vec<(f64, f64)> =
        exits.into_iter().filter(|(params, loss)| (x.0..=x.1).contains(params) && (y.0..=y.1).contains(loss)).collect();
    plot.line(&shown, "class=\"front other\"", "the largest anchor ended after fewer blocks");
    for (name, params, loss) in tuned_alone(evidence) {
        plot.word((params as f64, loss), name);
        plot.mark((params as f64, loss), Mark::Star, &format!("{name}: {}", significant(loss)));
    }
    let deployed: Vec<_> =
        evidence.deployed().into_iter().flat_map(|palette| &palette.choices).map(|choice| choice.stitch).collect();
    for (stitch, loss) in measured(evidence) {
        let mark = if deployed.contains(&stitch.id) { mark_of(evidence.rule) } else { Mark::Dot };
        let title = format!(
            "stitch {}: {}\nloss {} at {} parameters",
            stitch.id,
            evidence.path(stitch),
            significant(loss),
            si(stitch.params as f64)
        );
        plot.mark((stitch.params as f64, loss), mark, &title);
    }
    plot.finish("held-out loss of every evaluated stitch against its parameters")
}

fn exits(speech: &SpeechEntry) -> String {
    if speech.exits.is_empty() {
        return String::new();
    }
    let row =
        |exit: &ExitEntry| vec![count(exit.blocks), count(exit.params), significant(exit.loss), percent(exit.accuracy)];
    let rows: Vec<_> = speech.exits.iter().map(row).collect();
    let heads = ["blocks of the largest anchor", "parameters", "held-out loss", "exact match"];
    esta_page::markup::details("The largest anchor ended early", &table(&heads, 0, &rows))
}

fn answers(evidence: &Evidence, speech: &SpeechEntry) -> String {
    let Some(question) = &speech.question else { return String::new() };
    let lead = format!(
        "A held-out question. <b>{}</b> The set's answer: <b>{}</b>",
        escape(&question.instruction),
        escape(&question.answer)
    );
    let input = match question.input.is_empty() {
        true => String::new(),
        false => format!("<pre>{}</pre>\n", escape(&question.input)),
    };
    let row = |answer: &AnswerEntry| {
        let stitch = evidence.catalog.get(answer.stitch)?;
        let (path, params) = (escape(&evidence.path(stitch)), si(stitch.params as f64));
        Some(vec![path, escape(&answer.text), params, significant(answer.tokens_per_second)])
    };
    let rows: Vec<_> = speech.answers.iter().filter_map(row).collect();
    let body = input + &table(&["stitch", "its answer", "parameters", "tokens/s"], 2, &rows);
    markup_section("One question, every size", &lead, &body)
}

/// What became of the records of both sets; nothing where that is not known.
fn sets(eval: &EvalFile) -> String {
    let sets = [("to adapt on", &eval.train_texts), ("held out", &eval.held_out_texts)];
    let row = |(name, texts): (&str, &Option<TextsEntry>)| {
        let texts = texts.as_ref()?;
        let numbers = [texts.read, texts.kept, texts.truncated, texts.tokens, texts.learned].map(count);
        Some([vec![name.to_owned(), left_out(texts)], numbers.to_vec()].concat())
    };
    let rows: Vec<_> = sets.into_iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let heads = ["texts", "left out", "records", "sequences", "cut off", "tokens", "learned or judged"];
    markup_section("Texts", "What became of the records of both sets.", &table(&heads, 2, &rows))
}

fn left_out(texts: &TextsEntry) -> String {
    let reasons: Vec<String> =
        texts.left_out.iter().map(|(reason, records)| format!("{} {}", count(*records), escape(reason))).collect();
    if reasons.is_empty() { "none".to_owned() } else { reasons.join(", ") }
}
