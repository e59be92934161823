//! The page as a whole: complete, self-contained, safe, and honest about what is missing.

use std::{fs, path::PathBuf};

use esta_engine::spec::{JobSpec, Mode};
use serde_json::json;
use tempfile::tempdir;

use super::*;
use crate::artifacts::fixture;

/// The fixture run with everything a page can show. `ESTA_REPORT_FIXTURE` keeps it, to be looked at in a browser.
fn full_run(name: &str) -> (Option<tempfile::TempDir>, PathBuf) {
    let kept = std::env::var_os("ESTA_REPORT_FIXTURE").map(|folder| PathBuf::from(folder).join(name));
    let (guard, run_dir) = match kept {
        Some(folder) => (None, folder),
        None => {
            let guard = tempdir().expect("a folder");
            let path = guard.path().join("run");
            (Some(guard), path)
        }
    };
    let law = fixture::run(&run_dir, fixture::spec("quickstart", 1200));
    let alone: Vec<_> = law
        .catalog
        .stitches()
        .filter(|stitch| stitch.is_anchor())
        .zip([0.775, 0.881, 0.952])
        .map(|(anchor, accuracy)| {
            let name = format!("{} alone (LoRA)", law.spec.family.anchors[anchor.id.index()].name);
            json!({"name": name, "anchor": anchor.id, "macs": anchor.macs, "accuracy": accuracy})
        })
        .collect();
    fs::write(run_dir.join("baselines.json"), json!(alone).to_string()).expect("written");
    (guard, run_dir)
}

fn page(run_dir: &Path) -> String {
    fs::read_to_string(write(run_dir).expect("a report")).expect("readable")
}

/// Words of an element's attribute and tag names that would reach out of the page.
fn assert_self_contained(page: &str) {
    for reach in ["<script", "<link", "<img", "<iframe", "src=", "href=", "url(", "@import", "http://", "https://"] {
        assert!(!page.contains(reach), "the page contains {reach}");
    }
}

/// Every element that is opened is closed, in order.
fn assert_well_formed(page: &str) {
    const VOID: [&str; 1] = ["meta"];
    let mut open: Vec<&str> = Vec::new();
    for tag in page.split('<').skip(1).filter(|tag| !tag.starts_with('!')) {
        let inside = tag.split('>').next().expect("split gives one");
        let name = inside.trim_start_matches('/').split([' ', '/']).next().expect("split gives one");
        if inside.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed in the wrong place");
        } else if !inside.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

#[test]
fn a_full_run_makes_a_full_page() {
    let (_guard, run_dir) = full_run("full");
    let page = page(&run_dir);
    assert_self_contained(&page);
    assert_well_formed(&page);
    assert!(!page.contains("class=\"missing\""), "nothing is missing");
    assert!(!page.contains("NaN") && !page.contains("inf\""), "every coordinate is a number");
    let count = |what: &str| page.matches(what).count();
    let stitches = Evidence::read(&run_dir).expect("readable").catalog.stitches().count();
    assert_eq!(count("<g class=\"dot\">"), stitches + 1, "one dot per stitch, one in the legend");
    assert_eq!(count("<g class=\"star\">"), 3 + 1);
    let fronts = ["class=\"front by-snip\"", "class=\"front by-loss other\"", "class=\"front by-auto other\""];
    assert_eq!(fronts.map(count), [1; 3]);
    let rules =
        "<th class=\"n\">snip</th><th class=\"n\">loss</th><th class=\"n\">auto</th><th class=\"n\">largest</th>";
    assert!(page.contains(rules), "a column for every rule's regret by budget");
    for said in ["ti alone (LoRA)", "control: random pick", "models/stitch-", "sampling.epsilon", "39.", "1,200"] {
        assert!(page.contains(said), "the page does not say {said}");
    }
}

#[test]
fn the_value_that_auto_goes_by_is_shown_wherever_it_chooses() {
    let (_guard, run_dir) = full_run("own-part");
    let page = page(&run_dir);
    let table = Evidence::read(&run_dir).expect("readable").table.expect("the run has ended");
    let row = table.rows.iter().find(|entry| entry.row.effect.is_some()).expect("a stitch was visited");
    assert!(page.contains(&palette::own_part(&row.row)), "the table of all stitches has it");
    assert_eq!(page.matches("<th class=\"n\">own part</th>").count(), 2, "in both tables");
    assert_eq!(page.matches(palette::OWN_PART).count(), 1, "what it is is said once");
    assert!(page.contains("aria-label=\"own part of the loss of every stitch by budget\""), "a map of its own");
}

#[test]
fn hostile_names_stay_text() {
    let dir = tempdir().expect("a folder");
    let hostile = "<title><script>alert(1)<script>\"'&";
    let mut spec = fixture::spec(hostile, 40);
    spec.family.anchors[0].name = "<img src=x onerror=alert(2)>".to_owned();
    spec.data.train.path = "</style><b>".to_owned();
    fixture::run(dir.path(), spec);
    let baselines = json!([{"name": "<svg onload=alert(3)>", "macs": 9_000_000, "accuracy": 0.9}]);
    fs::write(dir.path().join("baselines.json"), baselines.to_string()).expect("written");
    let page = page(dir.path());
    for element in ["<script", "<img", "<svg onload", "</style><b>"] {
        assert!(!page.contains(element), "{element} became markup");
    }
    assert_well_formed(&page);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;script&gt;&quot;&#39;&amp;"), "the name is still shown");
}

#[test]
fn a_run_that_has_only_begun_says_what_is_missing() {
    let dir = tempdir().expect("a folder");
    let spec = fixture::spec("begun", 40);
    fs::write(dir.path().join("job.json"), serde_json::to_string(&spec).expect("a tree")).expect("written");
    let page = page(dir.path());
    assert_well_formed(&page);
    for file in ["eval.json", "palette.json", "table.json", "draws.parquet", "metrics.jsonl"] {
        let said = page.lines().any(|line| line.contains("class=\"missing\"") && line.contains(file));
        assert!(said, "no word on {file}");
    }
    assert!(page.contains("esta-worker eval --run-dir RUN --all"), "says how regrets are made");
}

#[test]
fn a_partial_evaluation_gives_a_front_and_no_regrets() {
    let (_guard, run_dir) = full_run("partial");
    let file = run_dir.join("eval.json");
    let mut eval: serde_json::Value = serde_json::from_slice(&fs::read(&file).expect("there")).expect("a tree");
    eval["results"].as_array_mut().expect("a list").truncate(20);
    fs::write(&file, eval.to_string()).expect("written");
    let page = page(&run_dir);
    assert!(page.contains("Regret needs the accuracy of every stitch"));
    assert_eq!(page.matches("<g class=\"dot\">").count(), 20 + 1);
}

#[test]
fn errors_name_the_file() {
    let dir = tempdir().expect("a folder");
    let error = write(dir.path()).expect_err("there is no run");
    assert!(error.to_string().ends_with("job.json"), "{error}");
    fixture::run(dir.path(), fixture::spec("damaged", 40));
    fs::write(dir.path().join("eval.json"), "{\"images\": ").expect("damaged");
    let error = write(dir.path()).expect_err("eval.json is damaged");
    assert!(matches!(&error, ReportError::Read { file, .. } if file.ends_with("eval.json")), "{error}");
}

#[test]
fn a_published_family_fits_the_page() {
    let dir = tempdir().expect("a folder");
    let kept = std::env::var_os("ESTA_REPORT_FIXTURE").map(|folder| PathBuf::from(folder).join("large"));
    let run_dir = kept.unwrap_or_else(|| dir.path().to_owned());
    let mut spec = fixture::spec("vit-small-base-twoway", 2500);
    spec.family.anchors.remove(0);
    for (anchor, preset) in spec.family.anchors.iter_mut().zip(["vit_small_patch16_224", "vit_large_patch16_224"]) {
        (anchor.arch, anchor.preset) = (None, Some(preset.to_owned()));
    }
    spec.budgets = esta_engine::spec::BudgetSpec::Gap(1e9);
    fixture::run(&run_dir, spec);
    let page = page(&run_dir);
    assert_well_formed(&page);
    assert_eq!(page.matches("<g class=\"dot\">").count(), 134 + 1);
    assert!(page.len() < 2_000_000, "{} bytes are too many to open", page.len());
    assert!(page.contains("baselines.json"), "says how stars are made");
}

#[test]
fn anchors_alone_and_a_single_line_can_be_drawn() {
    let dir = tempdir().expect("a folder");
    let spec = JobSpec { mode: Mode::Anchor, ..fixture::spec("anchors", 10) };
    fixture::run(dir.path(), spec);
    let page = page(dir.path());
    assert_well_formed(&page);
    assert!(!page.contains("NaN") && !page.contains("inf\""), "every coordinate is a number");
    assert_eq!(page.matches("<g class=\"dot\">").count(), 3 + 1);
    assert!(!page.contains("sampling.epsilon"), "choices that did not matter are not listed");
}

#[test]
fn language_models_show_their_losses_their_baselines_and_what_they_answer() {
    let (_guard, run_dir) = full_run("speech");
    let file = run_dir.join("eval.json");
    let mut eval: serde_json::Value = serde_json::from_slice(&fs::read(&file).expect("there")).expect("a tree");
    let answers = (0..3).map(|stitch| json!({"stitch": stitch, "text": "<b>40</b>", "tokens_per_second": 9.5}));
    eval["speech"] = json!({
        "tokens": 1234, "majority": 0.25, "copy": 0.125,
        "exits": [{"blocks": 1, "params": 2000, "loss": 3.5, "accuracy": 0.1}],
        "question": {"instruction": "Which </section>?", "input": "<i>", "answer": "42"},
        "answers": answers.collect::<Vec<_>>(),
    });
    fs::write(&file, eval.to_string()).expect("written");
    let page = page(&run_dir);
    assert_well_formed(&page);
    for said in ["1,234 tokens", "25.0", "12.5", "perplexity", "Which &lt;/section&gt;?", "&lt;b&gt;40&lt;/b&gt;"] {
        assert!(page.contains(said), "no word of {said}");
    }
}
