//! Every claim with its effect and verdict, and all effects in one forest plot (HANDS).

use esta_page::{
    markup::{details, escape, figure, legend, missing, section as markup_section},
    numbers::{or_dash, signed_tick},
    plot::{Axis, Effect as Row, Interval, forest, forest_keys},
    table::table,
};

use super::view::{View, code, counted, points, sentence, wrapped};
use crate::{
    plan::Source,
    summary::{ClaimSummary, Effect, Verdict},
};

const TITLE: &str = "Claims";

pub fn section(view: &View<'_>) -> String {
    let claims = &view.summary.claims;
    if claims.is_empty() {
        return markup_section(TITLE, "", &missing("This study makes no claims: its file lists none."));
    }
    let lead = format!(
        "An effect is the difference of two arms in points of area under the front, paired by target and seed: the \
         mean over targets of the means over seeds, ± two standard errors over targets. Time is what the first \
         side's training takes over what the second's takes: of the processor, or by the clock on a device. A claim holds when its effect \
         is further above zero than that, is reversed when it is further below, and is open otherwise, as it is with \
         a single target.{}",
        coverage_words(claims.iter().filter_map(|claim| claim.effect.as_ref()))
    );
    let [effect, pairs, time] = ["effect, points", "pairs", "time"].map(right);
    let heads = ["", "claim", "whose", &effect, &pairs, &time, "verdict", "touched by choices of ours"];
    let body = table(&heads, heads.len(), &rows(view));
    markup_section(TITLE, &lead, &(body + &forest_figure(claims) + &by_target(view)))
}

/// How sure two standard errors over so many targets are: the share of Student's t within ±2, for 1 to 9 degrees of
/// freedom. More targets come closer to 95 %.
fn coverage_words<'a>(effects: impl Iterator<Item = &'a Effect>) -> String {
    const WITHIN: [&str; 9] = ["70", "82", "86", "88", "90", "91", "91", "92", "92"];
    let most = effects.map(|effect| effect.targets.len()).max().unwrap_or(0);
    let share = most.checked_sub(2).and_then(|place| WITHIN.get(place));
    share.map_or_else(String::new, |share| {
        format!(" Over {most} targets two standard errors cover the truth in about {share} % of studies, not in 95 %.")
    })
}

fn rows(view: &View<'_>) -> Vec<Vec<String>> {
    let claims = view.summary.claims.iter().enumerate();
    let row = |(number, summary): (usize, &ClaimSummary)| {
        let claim = &summary.claim;
        let sides = format!("<small>{} over {}</small>", code(&claim.arm), code(&claim.against));
        let choices: Vec<String> = claim.ours.iter().map(|choice| choice_words(choice)).collect();
        vec![
            (number + 1).to_string(),
            sentence(&format!("{}<br/>{sides}", escape(&claim.words))),
            whose(claim.source).to_owned(),
            right(&or_dash(summary.effect.as_ref(), effect_words)),
            right(&or_dash(summary.effect.as_ref(), |effect| pairs_words(effect, wanted_pairs(view, summary)))),
            right(&or_dash(summary.effect.as_ref().and_then(|effect| effect.time), times)),
            verdict(summary.verdict),
            if choices.is_empty() { "–".to_owned() } else { wrapped(&choices.join(", ")) },
        ]
    };
    claims.map(row).collect()
}

/// A number in a column between words.
fn right(cell: &str) -> String {
    format!("<span class=\"n\" style=\"display:block\">{cell}</span>")
}

fn whose(source: Source) -> &'static str {
    match source {
        Source::Paper => "the paper",
        Source::Ours => "ours",
    }
}

/// A key of a job as code, a sentence as it is.
pub fn choice_words(choice: &str) -> String {
    if choice.contains(' ') { escape(choice) } else { code(choice) }
}

/// Mean ± two standard errors.
pub fn effect_words(effect: &Effect) -> String {
    let reach = effect.error.map_or_else(String::new, |error| format!(" ± {:.2}", 2.0 * error));
    format!("{}{reach}", points(effect.mean))
}

/// A ratio as `2.1 ×`.
fn times(ratio: f64) -> String {
    format!("{ratio:.1} ×")
}

fn pairs_words(effect: &Effect, wanted: usize) -> String {
    if effect.pairs == wanted { wanted.to_string() } else { format!("{} of {wanted}", effect.pairs) }
}

/// Pairs there are when every cell has its result.
fn wanted_pairs(view: &View<'_>, summary: &ClaimSummary) -> usize {
    let plan = |name: &str| view.study.arms.iter().find(|arm| arm.name == name);
    let Some((arm, against)) = plan(&summary.claim.arm).zip(plan(&summary.claim.against)) else { return 0 };
    let both = view.study.targets.iter().filter(|target| arm.runs_on(&target.name) && against.runs_on(&target.name));
    both.count() * view.study.seeds.len()
}

/// The verdict in the colour its effect has in the forest plot.
fn verdict(verdict: Verdict) -> String {
    let (class, words) = match verdict {
        Verdict::Holds => ("badge loss", "holds"),
        Verdict::Reversed => ("badge snip", "does not hold: reversed"),
        Verdict::Open => ("badge", "open"),
        Verdict::Unknown => return "not measured".to_owned(),
    };
    format!("<span class=\"{class}\">{words}</span>")
}

fn forest_figure(claims: &[ClaimSummary]) -> String {
    let words: Vec<(String, String)> =
        claims.iter().enumerate().map(|(number, claim)| row_words(number, claim)).collect();
    let interval = |claim: &ClaimSummary| {
        claim.effect.as_ref().map(|effect| Interval::around(effect.mean, 2.0 * effect.error.unwrap_or(0.0)))
    };
    let effects: Vec<Row<'_>> = claims
        .iter()
        .zip(&words)
        .map(|(claim, (label, note))| Row { label, interval: interval(claim), note })
        .collect();
    let axis =
        Axis { name: "effect, points of area under the front (± 2 standard errors over targets)", words: signed_tick };
    let keys = forest_keys("holds", "reversed", "open, or a single target");
    let drawing = forest(1040.0, axis, &effects, "effects of all claims");
    figure(&(legend(&keys) + &drawing), "<b>Effects of all claims</b>")
}

/// Label and note of a claim's row.
fn row_words(number: usize, summary: &ClaimSummary) -> (String, String) {
    let label = format!("{}. {} over {}", number + 1, summary.claim.arm, summary.claim.against);
    let note = summary.effect.as_ref().map_or_else(
        || "not measured".to_owned(),
        |effect| format!("{}, {}", effect_words(effect), counted(effect.pairs, "pair")),
    );
    (label, note)
}

fn by_target(view: &View<'_>) -> String {
    let targets: Vec<&str> = view.study.targets.iter().map(|target| target.name.as_str()).collect();
    let names: Vec<String> = targets.iter().map(|target| escape(target)).collect();
    let heads: Vec<&str> = ["", "arms"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let row = |(number, summary): (usize, &ClaimSummary)| {
        let of = |target: &&str| {
            or_dash(summary.effect.as_ref().and_then(|effect| effect.targets.get(*target)), |value| points(*value))
        };
        let sides = format!("{} over {}", escape(&summary.claim.arm), escape(&summary.claim.against));
        [(number + 1).to_string(), sides].into_iter().chain(targets.iter().map(of)).collect()
    };
    let rows: Vec<Vec<String>> = view.summary.claims.iter().enumerate().map(row).collect();
    details("Effects by target", &table(&heads, 2, &rows))
}
