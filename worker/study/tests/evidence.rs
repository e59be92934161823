//! What is committed as evidence follows from the committed results: the page, the README's tables, and their words.

use std::{fs, path::PathBuf, sync::LazyLock};

use esta_page::numbers::signed;
use esta_study::{
    evidence::{COMMITTED, Evidence},
    page::{About, RuleLine},
    summary::{AnchorEffect, ClaimSummary, Effect, Outcome, Verdict, verdict},
};

static ALL: LazyLock<[Evidence; 2]> = LazyLock::new(|| {
    COMMITTED.map(|name| {
        let study = root().join(format!("configs/studies/{name}.yaml"));
        let results = root().join(format!("docs/evidence/{name}.jsonl"));
        Evidence::read(&study, &results).unwrap_or_else(|error| panic!("{name}: {error}"))
    })
});

/// The study of the paper's claims.
static EVIDENCE: LazyLock<&Evidence> = LazyLock::new(|| &ALL[0]);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The README's section on the study.
fn readme() -> String {
    let text = read("README.md");
    let (_, from) = text.split_once("## The paper's claims, measured again").expect("the section is there");
    from.split("\n## ").next().expect("split gives one").to_owned()
}

fn claim(arm: &str, against: &str) -> &'static ClaimSummary {
    let mut claims = EVIDENCE.summary.claims.iter();
    claims.find(|claim| claim.claim.arm == arm && claim.claim.against == against).expect("the study claims it")
}

/// An effect and its verdict as two cells of a row of the README.
fn cells(effect: Option<&Effect>) -> String {
    let said = match verdict(effect) {
        Verdict::Holds => "holds",
        Verdict::Reversed => "reversed",
        Verdict::Open => "open",
        Verdict::NotJudged | Verdict::Unknown => panic!("the study is whole"),
    };
    format!("{} | {said}", figures(effect))
}

fn figures(effect: Option<&Effect>) -> String {
    let effect = effect.expect("the study is whole");
    format!("{} ± {:.2}", signed(effect.mean, 2), effect.reach().expect("six targets"))
}

fn assert_says(text: &str, wanted: &str, what: &str) {
    assert!(text.contains(wanted), "README, {what}: {wanted:?} is not there");
}

#[test]
fn the_committed_pages_are_those_that_the_committed_results_make() {
    for (name, evidence) in COMMITTED.into_iter().zip(&*ALL) {
        let committed = read(&format!("docs/evidence/{name}.html"));
        // How and when it was made is its own.
        let figures = |page: &str| page.split("<h2>How to reproduce</h2>").next().expect("split gives one").to_owned();
        let about = About { machine: "2 cores".into(), device: "cpu".into(), ..About::default() };
        let (made, kept) = (figures(&evidence.page(&about)), figures(&committed));
        let differs = made.lines().zip(kept.lines()).find(|(made, kept)| made != kept);
        assert!(
            made == kept,
            "`cargo run --release -p esta-study --example evidence_page` makes it anew: {differs:#?}"
        );
    }
}

#[test]
fn every_run_and_every_angle_of_the_studies_is_there() {
    for evidence in &*ALL {
        let (wanted, there) = evidence.summary.cells;
        assert_eq!((there, evidence.results.len()), (wanted, wanted), "{}", evidence.study.name);
        let angles = evidence.study.angles.iter().len() * evidence.study.targets.len();
        assert_eq!(evidence.angles.len(), angles, "angles of other jobs are not taken");
    }
}

#[test]
fn the_readme_says_every_claims_figures() {
    let text = readme();
    for summary in ALL.iter().flat_map(|evidence| &evidence.summary.claims) {
        let (own, one) = (summary.own.as_ref(), summary.one_rule.as_ref());
        let time = own.and_then(|effect| effect.time).expect("times are known");
        let row = format!("| {} | {} | {time:.2} |", cells(own), cells(one));
        assert_says(&text, &row, &format!("{} over {}", summary.claim.arm, summary.claim.against));
    }
}

#[test]
fn the_readme_says_what_palettes_reach_at_each_anchors_cost() {
    let text = readme();
    for (arm, against) in [("paper", "alone-lora"), ("best", "alone-mlp"), ("best", "alone-full")] {
        let anchors = &claim(arm, against).at_anchors;
        let of = |at: &AnchorEffect| figures(at.own.as_ref());
        let row = anchors.iter().map(of).collect::<Vec<_>>().join(" | ");
        assert_says(&text, &format!("| {row} |"), &format!("{arm} over {against}"));
    }
}

#[test]
fn the_readme_says_what_rules_lose() {
    let text = readme();
    let points = |value: f64| format!("{value:.2}").replace('-', "−");
    let [one_way, two_way] = EVIDENCE.rules.as_slice() else { panic!("two spaces") };
    let told =
        ["auto", "loss", "snip", "train-loss", "slice-loss", "kl-largest", "smooth", "largest", "random", "shuffled"];
    for rule in told {
        let line: &RuleLine = one_way.lines.iter().find(|line| line.rule == rule).expect("it was tried");
        let [mean, split] = [line.mean, line.split].map(|value| value.map_or_else(|| "-".to_owned(), points));
        let tau = line.tau.map_or_else(|| "-".to_owned(), points);
        assert_says(&text, &format!(" | {mean} | {split} | {tau} |"), rule);
    }
    let arms = one_way.arms.iter().chain(&two_way.arms);
    for arm in arms.filter(|arm| ["paper", "best", "paper-2w", "best-2w"].contains(&arm.arm.as_str())) {
        let lost = [arm.auto, arm.snip, arm.best_control]
            .map(|loss| format!("{} / {}", points(loss.mean), points(loss.split)));
        let ratio = |own: f64, other: f64| points(own / other);
        let ratios = [ratio(arm.auto.mean, arm.best_control.mean), ratio(arm.auto.split, arm.best_control.split)];
        let row = format!("| {} | {} | {} |", lost.join(" | "), arm.control, ratios.join(" / "));
        assert_says(&text, &row, &arm.arm);
    }
}

#[test]
fn nothing_is_called_equal_that_is_not_within_a_tenth() {
    let close = |ratio: f64| (0.9..=1.1).contains(&ratio);
    for evidence in &*ALL {
        let images = |arm: &str| -> u64 {
            let outcomes =
                evidence.summary.arm(arm).expect("an arm").outcomes.values().flat_map(|seeds| seeds.values());
            outcomes.map(|outcome: &Outcome| outcome.costs.images).sum()
        };
        for summary in &evidence.summary.claims {
            let (claim, time) = (&summary.claim, summary.own.as_ref().and_then(|effect| effect.time));
            if claim.words.contains("equal samples") {
                let ratio = images(&claim.arm) as f64 / images(&claim.against) as f64;
                assert!(close(ratio), "{}: {ratio:.2} of the images", claim.words);
            }
            let says_time = claim.words.contains("equal time");
            assert!(!says_time || time.is_some_and(close), "{}: {time:?} of the time", claim.words);
            let says_more = claim.words.contains("as much time and more");
            assert!(!says_more || time.is_some_and(|ratio| ratio <= 1.0), "{}: {time:?} of the time", claim.words);
        }
    }
}
