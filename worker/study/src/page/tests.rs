//! The page as a whole, of a study whose figures can be computed by hand.

use esta_engine::table::Row;
use esta_proto::{BudgetId, StitchId};

use super::*;
use crate::{
    angles::DomainAngles,
    cell::{Costs, StitchResult},
    plan::{AnglesPlan, Arm, CellId, Claim, Part, Source, Target},
};

/// Held-out accuracies of `s` at 1,000 MACs, of a stitch at 4,000 and of `l` at 16,000. The middle lies half way by
/// ratio, so the area is the mean of the first two.
type Accuracies = [f64; 3];

/// Two targets, two seeds, three arms, of which `alone` has two parts.
fn study() -> Study {
    let target = |name: &str| Target {
        name: name.into(),
        config: format!("jobs/{name}.yaml").into(),
        words: format!("all of {name}"),
        images_of: "one file".into(),
    };
    let part = |name: &str| Part { name: name.into(), set: vec![format!("only={name}")] };
    let arm = |name: &str, set: &[&str]| Arm {
        name: name.into(),
        set: set.iter().map(|setting| (*setting).to_owned()).collect(),
        ..Arm::default()
    };
    let claim = |arm: &str, against: &str, source, ours: &[&str]| Claim {
        words: format!("{arm} beats {against}"),
        arm: arm.into(),
        against: against.into(),
        source,
        ours: ours.iter().map(|choice| (*choice).to_owned()).collect(),
    };
    Study {
        name: "s".into(),
        title: "A study".into(),
        words: "What is better?".into(),
        targets: vec![target("a"), target("b")],
        seeds: vec![0, 1],
        set: vec!["everywhere=1".into()],
        arms: vec![
            arm("plain", &[]),
            arm("other", &["x=1"]),
            Arm { parts: vec![part("s"), part("l")], ..arm("alone", &["mode=anchor"]) },
        ],
        claims: vec![
            claim("plain", "other", Source::Paper, &["score.q", "a recipe"]),
            claim("alone", "plain", Source::Ours, &["score.q"]),
        ],
        angles: Some(AnglesPlan { source: None, stitches: 32, images: 256 }),
    }
}

fn id(target: &str, arm: &str, part: &str, seed: u64) -> CellId {
    CellId { target: target.into(), arm: arm.into(), part: part.into(), seed }
}

fn stitch(place: usize, accuracy: f64, effect: f64) -> StitchResult {
    StitchResult {
        stitch: StitchId(place as u32),
        path: ["s", "s[0]>l[1]", "l"][place].into(),
        anchor: place != 1,
        budget: BudgetId(place as u32),
        macs: [1_000, 4_000, 16_000][place],
        params: 100,
        accuracy,
        halves: [accuracy; 2],
        row: Row { importance: Some(-effect), effect: Some(effect), ..Row::default() },
        values: Default::default(),
    }
}

fn whole(target: &str, arm: &str, seed: u64, accuracies: Accuracies, train_seconds: f64) -> CellResult {
    let costs = Costs {
        train_seconds,
        cpu_seconds: Some(train_seconds / 2.0),
        eval_seconds: 1.0,
        images: 1_000,
        held_out: 5_000,
        peak_memory: Some(2 << 20),
        trained_params: 500,
        state_bytes: 2_048,
    };
    // The rule orders them as accuracy does.
    let stitches = (0..3).map(|place| stitch(place, accuracies[place], -accuracies[place])).collect();
    CellResult { id: id(target, arm, "", seed), key: String::new(), costs, stitches }
}

/// One anchor of `alone`.
fn part(target: &str, part: &str, seed: u64, accuracy: f64) -> CellResult {
    let place = if part == "s" { 0 } else { 2 };
    let mut result = whole(target, "alone", seed, [accuracy; 3], if part == "s" { 4.0 } else { 7.0 });
    result.id.part = part.into();
    result.costs.peak_memory = Some(if part == "s" { 1 << 20 } else { 3 << 20 });
    result.stitches.retain(|stitch| stitch.stitch.0 == place);
    result
}

/// Ten of sixteen cells.
fn results() -> Vec<CellResult> {
    // Areas 55, 58, 45 and, by what its own rule believes, 40: it takes the middle for worse than the smallest. By the one
    // rule for all it is 46.
    let mut misled = whole("b", "plain", 1, [0.40, 0.52, 0.62], 10.0);
    misled.stitches[1].row.importance = Some(0.0);
    vec![
        whole("a", "plain", 0, [0.50, 0.60, 0.70], 10.0),
        whole("a", "plain", 1, [0.52, 0.64, 0.72], 10.0),
        whole("b", "plain", 0, [0.40, 0.50, 0.60], 10.0),
        misled,
        // Areas 53, 55 and 42.
        whole("a", "other", 0, [0.48, 0.58, 0.70], 15.0),
        whole("a", "other", 1, [0.50, 0.60, 0.70], 15.0),
        whole("b", "other", 0, [0.39, 0.45, 0.60], 15.0),
        // Area 51, and half a palette.
        part("a", "s", 0, 0.51),
        part("a", "l", 0, 0.75),
        part("a", "s", 1, 0.52),
    ]
}

fn about() -> About {
    About {
        command: "esta-worker ablate --study s.yaml".into(),
        version: "1.2.3".into(),
        machine: "2 cores".into(),
        date: "2026-11-24".into(),
        device: "cpu".into(),
    }
}

fn rendered(study: &Study, results: &[CellResult], rules: &[RuleGroup], about: &About) -> String {
    // Nothing is known of their jobs, so that arms answer as a job that says nothing does: by importance.
    let jobs = Jobs::default();
    let summary = Summary::of(study, results, &jobs);
    let angles = angles();
    render(study, &Findings { summary: &summary, results, jobs: &jobs, rules, angles: &angles }, about)
}

fn angles() -> [TargetAngles; 1] {
    let domain = |domain: &str, mean| DomainAngles {
        domain: domain.into(),
        images: 256,
        stitches: 14,
        pairs: 91,
        mean,
        median: 1.5,
        above_90: 0.25,
    };
    let domains = vec![domain("source", 61.25), domain("target", 88.0)];
    [TargetAngles { target: "a".into(), key: "k".into(), domains, drawing: "<svg>\"#%'&</svg>".into() }]
}

fn page_of(study: &Study, results: &[CellResult]) -> String {
    let page = rendered(study, results, &[], &about());
    assert_well_formed(&page);
    assert_self_contained(&page);
    assert!(!page.contains("NaN") && !page.contains("inf"), "every figure is a number");
    page
}

/// The markup of a section.
fn section<'a>(page: &'a str, title: &str) -> &'a str {
    let (_, from) = page.split_once(&format!("<section>\n<h2>{title}</h2>")).expect("the section is there");
    from.split("</section>").next().expect("split gives one")
}

/// The words of every row of a section's tables, cells apart by bars.
fn rows(section: &str) -> Vec<String> {
    let cells = |row: &str| row.split("<td").skip(1).map(|cell| words(&format!("<td{cell}"))).collect::<Vec<_>>();
    let rows = section.split("<tr>").skip(1).filter_map(|row| row.split("</tr>").next());
    rows.map(|row| cells(row).join("|")).filter(|row| !row.is_empty()).collect()
}

fn words(markup: &str) -> String {
    let text: String = markup.split('<').filter_map(|tag| tag.split_once('>')).map(|(_, text)| text).collect();
    text.replace('\u{a0}', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn assert_says(rows: &[String], wanted: &str) {
    assert!(rows.iter().any(|row| row == wanted), "{wanted:?} is not among {rows:#?}");
}

/// Words of an element's attribute and tag names that would reach out of the page.
fn assert_self_contained(page: &str) {
    // A drawing inside an image reaches nothing: its text is encoded whole.
    let page = page.replace("<img alt=", "").replace("src=\"data:image/svg+xml,", "");
    for reach in ["<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "http://", "https://"] {
        assert!(!page.contains(reach), "the page contains {reach}");
    }
}

/// Every element that is opened is closed, in order.
fn assert_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1).filter(|tag| !tag.starts_with('!')) {
        let inside = tag.split('>').next().expect("split gives one");
        let name = inside.trim_start_matches('/').split([' ', '/']).next().expect("split gives one");
        if inside.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed in the wrong place");
        } else if !inside.ends_with('/') && name != "meta" {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

#[test]
fn claims_come_with_effect_pairs_verdict_and_choices() {
    let page = page_of(&study(), &results());
    let claims = section(&page, "Claims");
    let rows = rows(claims);
    // By target +2.5 and +3: their mean, and twice the square root of 0.125 / 2; with one rule +2.5 and, of the seed that
    // both have, +3 again. 5 seconds a run over 7.5.
    assert_says(
        &rows,
        "1|plain beats otherplain over other|the paper|+2.75 ± 0.50holds|+2.75 ± 0.50holds|3 of 4|0.67 ×|score.q, a recipe",
    );
    // One pair of one target; 2 and 3.5 seconds over 5.
    let not_judged = "−4.00not judged: one target, one seed";
    assert_says(
        &rows,
        &format!("2|alone beats plainalone over plain|ours|{not_judged}|{not_judged}|1 of 4|1.10 ×|score.q"),
    );
    assert_says(&rows, "1|plain over other|+2.50|+3.00");
    assert_says(&rows, "2|alone over plain|−4.00|–");
    // The one rule for both is the second figure: rows and legends of two forests.
    assert_eq!(["effect above", "effect around"].map(|side| claims.matches(side).count()), [4, 4]);
    assert!(claims.contains("Over 2 targets two standard errors cover the truth in about 70 % of studies"), "{claims}");
    assert!(claims.contains("(12.71 standard errors) these would be open: 1 each by its own rule, 1 with"), "{claims}");
    assert!(claims.contains("The 2 targets come from 1 source (a, b of one file)"), "{claims}");
    assert_eq!(self::rows(section(&page, "Choices that are ours")), ["score.q||1, 2", "a recipe||1"]);
}

/// The page of one target, where the plain arm is 3, 4, 5, ... points above the other by seed.
fn of_one_target(seeds: u64) -> String {
    let study = Study { seeds: (0..seeds).collect(), ..study() };
    let worth = |seed: u64| [0.53, 0.63, 0.73].map(|share| share + 0.01 * seed as f64);
    let pairs = (0..seeds).flat_map(|seed| {
        [whole("a", "plain", seed, worth(seed), 1.0), whole("a", "other", seed, [0.50, 0.60, 0.70], 1.0)]
    });
    page_of(&study, &pairs.collect::<Vec<_>>())
}

#[test]
fn a_single_target_is_judged_by_its_seeds_and_a_single_pair_is_not() {
    // +3, +4, +5: a standard error of 0.577, 4.30 times.
    let three = of_one_target(3);
    assert_says(
        &rows(section(&three, "Claims")),
        "1|plain beats otherplain over other|the paper|+4.00 ± 2.48 over seedsholds|+4.00 ± 2.48 over seedsholds|3 of 6|1.00 ×|score.q, a recipe",
    );
    assert!(section(&three, "Claims").contains("4.30 standard errors of three seeds"));
    // +3, +4: a standard error of 0.5, 12.71 times.
    assert!(rows(section(&of_one_target(2), "Claims"))[0].contains("|+3.50 ± 6.35 over seedsopen|"));
    assert!(rows(section(&of_one_target(1), "Claims"))[0].contains("|+3.00not judged: one target, one seed|"));
}

#[test]
fn one_rule_for_both_tells_training_from_selection() {
    let page = page_of(&study(), &results());
    let claims = section(&page, "Claims");
    assert!(claims.contains("one rule for both (auto)"), "{claims}");
    // Of the misled seed the other arm has no pair; where it has one, its own rule costs the plain arm 6 points.
    let mut pairs = results();
    pairs.push(whole("b", "other", 1, [0.39, 0.45, 0.60], 15.0));
    let rows = rows(section(&page_of(&study(), &pairs), "Claims"));
    assert!(rows[0].contains("|+1.50 ± 2.00open|+3.00 ± 1.00holds|4|"), "{rows:#?}");
}

#[test]
fn anchors_are_compared_at_their_own_costs() {
    let page = page_of(&study(), &results());
    // Seed 0 of the first target, where the palette's smallest has 50 and its largest 70 per cent, alone 51 and 75.
    assert_says(&rows(section(&page, "Claims")), "2|alone over plain|each by its own rule|+1.00|+5.00");
}

#[test]
fn missing_cells_are_counted_and_named() {
    let page = page_of(&study(), &results());
    let (head, _) = page.split_once("<section>").expect("sections");
    assert!(head.contains("<div class=\"value\">10 of 16</div><div class=\"note\">6 runs are missing</div>"), "{head}");
    let names = ["b--alone-s--0", "b--alone-l--0", "b--other--1", "a--alone-l--1", "b--alone-s--1", "b--alone-l--1"];
    assert!(words(head).contains(&format!("6 cells without a result: {}. Figures", names.join(" "))), "{head}");
}

#[test]
fn twenty_missing_cells_are_named_and_the_others_counted() {
    let study = Study { seeds: (0..7).collect(), ..study() };
    let page = page_of(&study, &results());
    let (head, _) = page.split_once("<section>").expect("sections");
    assert_eq!(head.matches("<code").count(), 20);
    assert!(head.contains("46 cells without a result") && head.contains(" and 26 more."), "{head}");
}

#[test]
fn a_study_without_results_is_a_page_of_dashes() {
    let page = page_of(&study(), &[]);
    assert_says(
        &rows(section(&page, "Claims")),
        "1|plain beats otherplain over other|the paper|–not measured|–not measured|–|–|score.q, a recipe",
    );
    assert_says(&rows(section(&page, "Costs")), "plain|–|–|–|–|–|–|–|–");
    assert_says(&rows(section(&page, "Targets and arms")), "a|all of a|a.yaml|–|–");
    for title in ["Fronts", "Accuracy per budget", "Area under the front", "Selection"] {
        assert!(section(&page, title).contains("class=\"missing\""), "no word on {title}");
    }
}

#[test]
fn budgets_are_answered_with_means_and_half_ranges() {
    let page = page_of(&study(), &results());
    let section = section(&page, "Accuracy per budget");
    let rows = rows(section);
    assert_says(&rows, "1.00 kMACs|s|51.0 % ± 1.0|49.0 % ± 1.0|51.0 %");
    // Two constraints between the anchors: 16 to the power of a third and of two thirds.
    assert_says(&rows, "2.52 kMACs||51.0 % ± 1.0|49.0 % ± 1.0|51.0 %");
    assert_says(&rows, "6.35 kMACs||62.0 % ± 2.0|59.0 % ± 1.0|51.0 %");
    assert_says(&rows, "16.0 kMACs|l|71.0 % ± 1.0|70.0 % ± 0.0|75.0 %");
    assert_says(&rows, "6.35 kMACs||45.0 % ± 5.0|45.0 %|–");
    assert_eq!(section.matches("<b class=\"best\">51.0\u{a0}%</b>").count(), 4, "what reads the same shares the mark");
    assert_eq!(section.matches("<b class=\"best\">75.0\u{a0}%</b>").count(), 1);
}

#[test]
fn areas_stand_beside_what_the_best_rule_could_reach() {
    let page = page_of(&study(), &results());
    let section = section(&page, "Area under the front");
    let rows = rows(section);
    assert_says(&rows, "plain|snip|56.50 of 56.50|42.50 of 45.50|49.50 of 51.00|51.00|4");
    assert_says(&rows, "other|snip|54.00 of 54.00|42.00 of 42.00|48.00 of 48.00|48.00|3 of 4");
    assert_says(&rows, "alone|largest|51.00 of 51.00|–|51.00 1 target|51.00 1 target|1 of 4");
    assert!(section.contains("<b class=\"best\">49.50</b>"), "an arm with one target is not compared: {section}");
}

#[test]
fn costs_are_of_a_palette_and_beside_the_first_arm() {
    let page = page_of(&study(), &results());
    let rows = rows(section(&page, "Costs"));
    assert_says(&rows, "plain|10.0 s|5.0 s|1.00|1,000|2.00 MiB|500|2.00 KiB|1.0 s");
    assert_says(&rows, "other|15.0 s|7.5 s|1.50|1,000|2.00 MiB|500|2.00 KiB|1.0 s");
    assert_says(&rows, "alone|11.0 s|5.5 s|1.10|2,000|3.00 MiB|1,000|4.00 KiB|2.0 s");
}

#[test]
fn fronts_show_arms_of_claims_and_stars_of_anchors_alone() {
    let page = page_of(&study(), &results());
    let fronts = section(&page, "Fronts");
    let count = |what: &str| fronts.matches(what).count();
    assert_eq!(["trace c0", "trace c1", "trace c2"].map(count), [3, 3, 0], "two targets and the legend");
    assert_eq!(["band c0", "band c1", "<g class=\"star\">"].map(count), [2, 2, 3]);
    assert!(fronts.contains("<title>alone: l alone, 75.0 % at 16.0 kMACs</title>"), "{fronts}");
}

#[test]
fn a_run_of_anchors_alone_is_stars_and_takes_no_line() {
    // One cell in mode anchor holds them all: no parts.
    let mut study = study();
    study.arms[2].parts.clear();
    let mut lone = whole("a", "alone", 0, [0.51, 0.0, 0.75], 11.0);
    lone.stitches.retain(|stitch| stitch.anchor);
    let results: Vec<CellResult> = results().into_iter().filter(|r| r.id.arm != "alone").chain([lone]).collect();
    let page = page_of(&study, &results);
    let fronts = section(&page, "Fronts");
    let count = |what: &str| fronts.matches(what).count();
    assert_eq!(["trace c0", "trace c1", "trace c2"].map(count), [3, 3, 0], "two targets and the legend");
    assert_eq!(count("<g class=\"star\">"), 3);
    assert!(!fronts.contains("Not drawn"), "{fronts}");
    assert_says(&rows(section(&page, "Claims")), "2|alone over plain|each by its own rule|+1.00|+5.00");
}

#[test]
fn no_more_arms_are_drawn_than_a_figure_can_tell_apart() {
    let mut study = study();
    let names: Vec<String> = (0..8).map(|number| format!("arm{number}")).collect();
    study.arms.extend(names.iter().map(|name| Arm { name: name.clone(), ..Arm::default() }));
    study.claims = names.iter().map(|name| Claim { arm: name.clone(), ..study.claims[0].clone() }).collect();
    let results: Vec<CellResult> =
        names.iter().map(|name| whole("a", name, 0, [0.5, 0.6, 0.7], 1.0)).chain(results()).collect();
    let page = page_of(&study, &results);
    let fronts = section(&page, "Fronts");
    assert_eq!(fronts.matches("class=\"key\"").count(), 6 + 1, "six lines and a star");
    let (_, others) = fronts.split_once("Not drawn: ").expect("the others are named");
    assert_eq!(words(others.split("</p>").next().expect("split gives one")), "arm4 arm5 arm6 arm7");
}

#[test]
fn what_it_takes_to_make_the_page_again_is_said() {
    let page = page_of(&study(), &results());
    let rows = rows(section(&page, "How to reproduce"));
    for said in [
        "command|esta-worker ablate --study s.yaml",
        "one cell by hand|esta-coordinator run --workers 1 --config a.yaml --set everywhere=1 --set seed=0 (a--plain--0)",
        "seeds|0, 1",
        "version|1.2.3",
        "machine|2 cores",
    ] {
        assert_says(&rows, said);
    }
    let rows = self::rows(section(&page, "Targets and arms"));
    assert_says(&rows, "a|all of a|a.yaml|1.00 kMACs to 16.0 kMACs|5,000");
    assert_says(&rows, "every arm|laid under those of the arms|everywhere=1|all");
    assert_says(&rows, "alone|–|mode=anchors: only=sl: only=l|all");
}

#[test]
fn angles_come_with_both_domains_and_their_drawing_as_an_image() {
    let page = page_of(&study(), &results());
    assert!(page.contains("img-src data:"), "the page lets its images be shown");
    let angles = section(&page, "Angles between gradients");
    let rows = self::rows(angles);
    assert_says(&rows, "a|source|14|256|91|61.2°|1.5°|25 %");
    assert_says(&rows, "a|target|14|256|91|88.0°|1.5°|25 %");
    assert!(angles.contains("src=\"data:image/svg+xml,%3Csvg%3E%22%23%25%27%26%3C/svg%3E\""), "{angles}");
    let without = Study { angles: None, ..study() };
    assert!(!page_of(&without, &results()).contains("Angles between gradients"));
}

#[test]
fn hostile_words_stay_text() {
    let hostile = "</title><script>alert(1)</script>\"'&<img src=x>";
    let (mut study, mut results) = (study(), results());
    (study.title, study.words) = (hostile.into(), hostile.into());
    study.targets[0].words = hostile.into();
    study.targets.iter_mut().for_each(|target| target.images_of = hostile.into());
    study.targets[0].config = format!("jobs/{}", hostile.replace('/', "")).into();
    (study.arms[0].words, study.arms[0].set) = (hostile.into(), vec![hostile.into()]);
    (study.claims[0].words, study.claims[0].ours) = (hostile.into(), vec![hostile.into(), hostile.replace(' ', "")]);
    results.iter_mut().flat_map(|result| &mut result.stitches).for_each(|stitch| stitch.path = hostile.into());
    let about = About {
        command: hostile.into(),
        version: hostile.into(),
        machine: hostile.into(),
        date: hostile.into(),
        device: hostile.into(),
    };
    let line = RuleLine { rule: hostile.into(), words: hostile.into(), note: hostile.into(), ..RuleLine::default() };
    let arm = ArmLine { arm: hostile.into(), control: hostile.into(), ..ArmLine::default() };
    let (title, words, shipped) = (hostile.into(), hostile.into(), hostile.into());
    let rules = [RuleGroup { title, words, shipped, lines: vec![line], arms: vec![arm] }];
    let page = rendered(&study, &results, &rules, &about);
    assert_well_formed(&page);
    assert!(!page.contains("<script") && !page.contains("<img src=x"), "words became markup");
}
