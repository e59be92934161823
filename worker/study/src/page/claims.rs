//! Every claim with its effects and verdicts, and all effects in forest plots (HANDS).

use esta_page::{
    markup::{details, escape, figure, legend, missing, section as markup_section},
    numbers::{or_dash, signed_tick},
    plot::{Axis, Effect as Row, Interval, forest, forest_keys},
    table::{captioned_table, table},
};

use super::{
    choices::with_value,
    view::{View, code, counted, points, sentence, wrapped},
};
use crate::{
    plan::Source,
    summary::{AnchorEffect, ClaimSummary, Effect, ONE_RULE, Over, Verdict, student, verdict},
};

const TITLE: &str = "Claims";
const OWN: &str = "each by its own rule";

/// What the second figure of a claim is called.
fn one_rule() -> String {
    format!("one rule for both ({})", ONE_RULE.name())
}

pub fn section(view: &View<'_>) -> String {
    let claims = &view.summary.claims;
    if claims.is_empty() {
        return markup_section(TITLE, "", &missing("This study makes no claims: its file lists none."));
    }
    let lead = format!(
        "An effect is the difference of two arms in points of area under the front, paired by target and seed: the \
         mean over targets of the means over seeds. It is given twice. First each arm answers by the rule that its own \
         job deploys by (<code>palette.rule</code>), which is what a user of the arm gets; then one rule, \
         <code>{}</code>, answers for both, which tells what training is worth apart from selection. Anchors tuned \
         alone answer with the largest that fits, both times. Time is what the first side's training takes over what \
         the second's takes: of the processor, or by the clock on a device. {}{}",
        ONE_RULE.name(),
        judging_words(),
        doubt_words(view)
    );
    let [own, one, pairs, time] = [OWN, &one_rule(), "pairs", "time, over"].map(right);
    let heads = ["", "claim", "whose", &own, &one, &pairs, &time, "touched by choices of ours"];
    let body = table(&heads, heads.len(), &rows(view)) + &at_anchors(view);
    let figures = figure_of(claims, OWN, |claim| claim.own.as_ref())
        + &details(
            &format!("All effects, {}", one_rule()),
            &figure_of(claims, &one_rule(), |claim| claim.one_rule.as_ref()),
        );
    markup_section(TITLE, &lead, &(body + &figures + &by_target(view)))
}

fn judging_words() -> String {
    format!(
        "A claim holds when its effect is further above zero than it may be off, is reversed when it is further below, \
         and is open otherwise. Over several targets an effect may be off by two standard errors over them; over the \
         seeds of a single target by Student's t ({:.2} standard errors of three seeds), and then says nothing of other \
         targets. One target and one seed are not judged.",
        student(2)
    )
}

/// How far two standard errors over so few targets are to be trusted.
fn doubt_words(view: &View<'_>) -> String {
    let effects = || view.summary.claims.iter().flat_map(|claim| [&claim.own, &claim.one_rule]).flatten();
    let most = effects().filter(|effect| effect.over == Over::Targets).map(|effect| effect.targets.len()).max();
    let sources = view.sources().map_or_else(String::new, |(count, words)| {
        format!(
            " The {} come from {} ({}). Those of one source share images or typefaces and are no witnesses of their \
             own, so errors and bootstrap intervals over targets are rather too small.",
            counted(view.study.targets.len(), "target"),
            counted(count, "source"),
            escape(&words)
        )
    });
    most.map_or_else(String::new, |most| coverage_words(most) + &strict_words(view, most)) + &sources
}

/// How sure two standard errors over so many targets are: the share of Student's t within ±2, for 1 to 9 degrees of
/// freedom. More targets come closer to 95 %.
fn coverage_words(targets: usize) -> String {
    const WITHIN: [&str; 9] = ["70", "82", "86", "88", "90", "91", "91", "92", "92"];
    let share = targets.checked_sub(2).and_then(|place| WITHIN.get(place));
    share.map_or_else(String::new, |share| {
        format!(
            " Over {targets} targets two standard errors cover the truth in about {share} % of studies, not in 95 %."
        )
    })
}

/// Which claims would be open if Student's t judged those over targets, too.
fn strict_words(view: &View<'_>, targets: usize) -> String {
    let open = |of: fn(&ClaimSummary) -> Option<&Effect>| {
        let doubtful = |(_, claim): &(usize, &ClaimSummary)| {
            of(claim).is_some_and(|effect| effect.over == Over::Targets && effect.verdict() != effect.strict_verdict())
        };
        let numbers = (1..).zip(&view.summary.claims).filter(doubtful).map(|(number, _)| number.to_string());
        let numbers: Vec<String> = numbers.collect();
        if numbers.is_empty() { "none".to_owned() } else { numbers.join(", ") }
    };
    format!(
        " By Student's t ({:.2} standard errors) these would be open: {} {OWN}, {} with {}.",
        student(targets - 1),
        open(|claim| claim.own.as_ref()),
        open(|claim| claim.one_rule.as_ref()),
        one_rule(),
    )
}

fn rows(view: &View<'_>) -> Vec<Vec<String>> {
    let claims = view.summary.claims.iter().enumerate();
    let row = |(number, summary): (usize, &ClaimSummary)| {
        let claim = &summary.claim;
        let either = summary.own.as_ref();
        let sides = format!("<small>{} over {}</small>", code(&claim.arm), code(&claim.against));
        let choices: Vec<String> = claim.ours.iter().map(|choice| with_value(view, claim, choice)).collect();
        vec![
            (number + 1).to_string(),
            sentence(&format!("{}<br/>{sides}", escape(&claim.words))),
            whose(claim.source).to_owned(),
            finding(summary.own.as_ref()),
            finding(summary.one_rule.as_ref()),
            right(&or_dash(either, |effect| pairs_words(effect, wanted_pairs(view, summary)))),
            right(&or_dash(either.and_then(|effect| effect.time), times)),
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

/// An effect and what it says.
fn finding(effect: Option<&Effect>) -> String {
    right(&format!("{}<br/>{}", or_dash(effect, effect_words), badge(verdict(effect))))
}

/// Mean ± how far it may be off.
pub fn effect_words(effect: &Effect) -> String {
    let over = if effect.over == Over::Seeds { " over seeds" } else { "" };
    let reach = effect.reach().map_or_else(String::new, |reach| format!(" ± {reach:.2}{over}"));
    format!("{}{reach}", points(effect.mean))
}

/// A ratio as `2.10 ×`.
pub fn times(ratio: f64) -> String {
    format!("{ratio:.2} ×")
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

/// The verdict in words.
pub fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "holds",
        Verdict::Reversed => "reversed",
        Verdict::Open => "open",
        Verdict::NotJudged => "not judged: one target, one seed",
        Verdict::Unknown => "not measured",
    }
}

/// The verdict in the colour its effect has in the forest plot.
fn badge(verdict: Verdict) -> String {
    let class = match verdict {
        Verdict::Holds => "badge loss",
        Verdict::Reversed => "badge snip",
        Verdict::Open | Verdict::NotJudged => "badge",
        Verdict::Unknown => return verdict_words(verdict).to_owned(),
    };
    format!("<span class=\"{class}\">{}</span>", verdict_words(verdict))
}

/// Claims about anchors at the cost of each: an area hides that one anchor starves while others gain.
fn at_anchors(view: &View<'_>) -> String {
    let claims: Vec<(usize, &ClaimSummary)> =
        (1..).zip(&view.summary.claims).filter(|(_, claim)| !claim.at_anchors.is_empty()).collect();
    let mut anchors: Vec<&str> = Vec::new();
    for anchor in claims.iter().flat_map(|(_, claim)| &claim.at_anchors) {
        if !anchors.contains(&anchor.anchor.as_str()) {
            anchors.push(&anchor.anchor);
        }
    }
    if anchors.is_empty() {
        return String::new();
    }
    let row = |number: usize, claim: &ClaimSummary, rule: &str, of: fn(&AnchorEffect) -> Option<&Effect>| {
        let cell = |anchor: &&str| {
            let found = claim.at_anchors.iter().find(|at| at.anchor == **anchor);
            or_dash(found.and_then(of), effect_words)
        };
        let sides = format!("{} over {}", escape(&claim.claim.arm), escape(&claim.claim.against));
        [number.to_string(), sides, rule.to_owned()].into_iter().chain(anchors.iter().map(cell)).collect()
    };
    let both = |(number, claim): &(usize, &ClaimSummary)| {
        let own: Vec<String> = row(*number, claim, OWN, |at| at.own.as_ref());
        let one = row(*number, claim, &one_rule(), |at| at.one_rule.as_ref());
        // Where the arm's own rule is the one rule, its figures are the same.
        if own[3..] == one[3..] { vec![own] } else { vec![own, one] }
    };
    let rows: Vec<Vec<String>> = claims.iter().flat_map(both).collect();
    let names: Vec<String> = anchors.iter().map(|anchor| escape(anchor)).collect();
    let heads: Vec<&str> = ["", "arms", "answering"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let caption = "<b>At each anchor's own cost</b> Points of accuracy of what the first side answers there over what \
        the second does, one of them being that anchor tuned alone.";
    captioned_table(caption, &heads, 3, &rows)
}

fn figure_of(claims: &[ClaimSummary], rule: &str, of: fn(&ClaimSummary) -> Option<&Effect>) -> String {
    let words: Vec<(String, String)> =
        (1..).zip(claims).map(|(number, claim)| row_words(number, claim, of(claim))).collect();
    let interval = |effect: &Effect| Interval::around(effect.mean, effect.reach().unwrap_or(0.0));
    let effects: Vec<Row<'_>> = claims
        .iter()
        .zip(&words)
        .map(|(claim, (label, note))| Row { label, interval: of(claim).map(interval), note })
        .collect();
    let axis = Axis { name: "effect, points of area under the front, and how far it may be off", words: signed_tick };
    let keys = forest_keys("holds", "reversed", "open, or not judged");
    let drawing = forest(1040.0, axis, &effects, &format!("effects of all claims, {rule}"));
    figure(&(legend(&keys) + &drawing), &format!("<b>Effects of all claims</b> {rule}"))
}

/// Label and note of a claim's row.
fn row_words(number: usize, summary: &ClaimSummary, effect: Option<&Effect>) -> (String, String) {
    let label = format!("{number}. {} over {}", summary.claim.arm, summary.claim.against);
    let note = effect.map_or_else(
        || verdict_words(Verdict::Unknown).to_owned(),
        |effect| format!("{}, {}", effect_words(effect), counted(effect.pairs, "pair")),
    );
    (label, note)
}

fn by_target(view: &View<'_>) -> String {
    let tables = [
        (OWN.to_owned(), effects_by_target(view, |claim| claim.own.as_ref())),
        (one_rule(), effects_by_target(view, |claim| claim.one_rule.as_ref())),
    ];
    tables.map(|(rule, table)| details(&format!("Effects by target, {rule}"), &table)).concat()
}

fn effects_by_target(view: &View<'_>, of: fn(&ClaimSummary) -> Option<&Effect>) -> String {
    let targets: Vec<&str> = view.study.targets.iter().map(|target| target.name.as_str()).collect();
    let names: Vec<String> = targets.iter().map(|target| escape(target)).collect();
    let heads: Vec<&str> = ["", "arms"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let row = |(number, summary): (usize, &ClaimSummary)| {
        let of_target =
            |target: &&str| or_dash(of(summary).and_then(|effect| effect.targets.get(*target)), |value| points(*value));
        let sides = format!("{} over {}", escape(&summary.claim.arm), escape(&summary.claim.against));
        [number.to_string(), sides].into_iter().chain(targets.iter().map(of_target)).collect()
    };
    let rows: Vec<Vec<String>> = (1..).zip(&view.summary.claims).map(row).collect();
    table(&heads, 2, &rows)
}
