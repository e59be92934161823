//! Other names and alternatives, given in every layer that a job has: a base, a child, `--set`, over either recipe.

use std::{fs, path::Path};

use esta_engine::spec::{BudgetSpec, JobSpec, ParamBins, Precision, Target};
use tempfile::TempDir;

use super::*;
use crate::{tree, typed};

/// A job that gives every key that has another name.
const JOB: &str = "
name: tiny
family:
  anchors:
    - {name: a, weights: a, arch: {image_size: 8, patch_size: 4, embed_dim: 8, depth: 2, num_heads: 2}}
    - {name: b, weights: b, arch: {image_size: 8, patch_size: 4, embed_dim: 16, depth: 2, num_heads: 2}}
pst: {lora_r: 8, targets: [q, k, v]}
train: {max_steps: 10, batch_size: 64, learning_rate: 1e-4}
data: {text: {max_length: 512}, num_classes: 2, train: {layout: idx, path: images, labels: labels}}
";

/// A child of JOB, as it is typed.
fn child(text: &str, overrides: &[&str]) -> Result<JobSpec, String> {
    let folder = folder(&[("tiny.yaml", JOB), ("job.yaml", &format!("base: tiny.yaml\n{text}"))]);
    let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
    let spec = tree(&folder.path().join("job.yaml"), &overrides).and_then(|top| typed::read(&top));
    spec.map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("writes");
    }
    folder
}

fn set(text: &str) -> Result<JobSpec, String> {
    child("", &[text])
}

/// A value that JOB does not give a key.
fn another(own: &str) -> &'static str {
    match own {
        "targets" => "[o]",
        "learning_rate" => "0.5",
        _ => "16",
    }
}

#[test]
fn another_name_of_a_key_is_the_key_in_every_layer_and_over_either_recipe() {
    for (section, alias, own) in ALIASES {
        let (dotted, value) = (section.replace("[]", "[1]"), another(own));
        let ours = set(&format!("{dotted}.{own}={value}")).expect(own);
        assert_ne!(ours, set("seed=42").expect("it is whole"), "{alias}: {value} is another");
        assert_eq!(set(&format!("{dotted}.{alias}={value}")).as_ref(), Ok(&ours), "{alias}");
        assert_eq!(set(&format!("{dotted}={{{alias}: {value}}}")).as_ref(), Ok(&ours), "{alias} in a mapping");
        if section.contains('[') {
            continue; // In a file a list replaces the list below.
        }
        let nested =
            section.split('.').rev().fold(format!("{{{alias}: {value}}}"), |inner, key| format!("{{{key}: {inner}}}"));
        let nested = nested.trim_start_matches('{').strip_suffix('}').expect("it is in braces").to_owned();
        for recipe in ["best", "paper"] {
            let text = format!("recipe: {recipe}\n{nested}\n");
            let ours = child(&format!("recipe: {recipe}\n"), &[&format!("{section}.{own}={value}")]);
            assert_eq!(child(&text, &[]), ours, "{alias} over {recipe}");
        }
    }
}

#[test]
fn two_names_of_one_key_in_one_layer_are_refused_where_the_second_stands() {
    let flaw = child("train: {learning_rate: 1, lr: 2}\n", &[]).expect_err("twice");
    let expected = r#"job.yaml:2:27: train: "lr" is another name of "learning_rate", which is given too"#;
    assert_eq!(flaw, expected);
    let flaw = set("data.text={cutoff_len: 4, max_seq_length: 5}").expect_err("twice");
    assert!(
        flaw.ends_with(r#"data.text: "max_seq_length" is another name of "max_length", which is given too"#),
        "{flaw}"
    );
}

#[test]
fn every_other_name_that_serde_knows_is_in_the_table_or_a_word_of_an_enum() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/src");
    let mut found = 0;
    for folder in ["spec", "arch"] {
        for entry in fs::read_dir(engine.join(folder)).expect("the folder is readable") {
            let text = fs::read_to_string(entry.expect("an entry").path()).expect("a source file");
            for name in text.split("alias = \"").skip(1).filter_map(|rest| rest.split('"').next()) {
                let word = serde_json::Value::from(name);
                let is_word = serde_json::from_value::<Target>(word.clone()).is_ok()
                    || serde_json::from_value::<Precision>(word).is_ok();
                assert!(is_word || ALIASES.iter().any(|(_, alias, _)| *alias == name), "{name} of {folder}");
                found += 1;
            }
        }
    }
    assert!(found >= 10, "only {found} were found");
}

#[test]
fn what_another_program_calls_otherwise_is_answered_with_what_to_write_here() {
    let flaw = child("train: {bf16: true}\n", &[]).expect_err("there is no such key");
    assert_eq!(flaw, r#"job.yaml:2:9: train: unknown key "bf16"; `bf16: true` is `train.precision: bf16` here"#);
    for (theirs, ours) in ELSEWHERE {
        let flaw = set(&format!("train.{theirs}=1")).expect_err(theirs);
        assert_eq!(flaw, format!("--set train.{theirs}=1: train: unknown key {theirs:?}; {ours}"));
    }
}

#[test]
fn an_alternative_of_a_later_layer_takes_the_place_of_the_earlier_one() {
    let bases = ["gap: 1e6", "edges: [1, 2]", "params: {gap: 3}", "params: {edges: [4]}", "latency: {gap: 5ms}"];
    let edges = Ok(BudgetSpec::Edges(vec![7.0, 8.0]));
    let by_params = Ok(BudgetSpec::Params(ParamBins::Gap(9.0)));
    for base in bases {
        let base = format!("{JOB}budgets: {{{base}}}\n");
        let over = |text: &str, overrides: &[&str]| {
            let child = format!("base: base.yaml\n{text}");
            let folder = folder(&[("base.yaml", &base), ("job.yaml", &child)]);
            let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
            let top = tree(&folder.path().join("job.yaml"), &overrides);
            top.and_then(|top| typed::read::<JobSpec>(&top)).map(|job| job.budgets).map_err(|error| error.to_string())
        };
        assert_eq!(over("budgets: {edges: [7, 8]}\n", &[]), edges, "{base}");
        assert_eq!(over("budgets: {gap: null, edges: [7, 8]}\n", &[]), edges, "{base}");
        assert_eq!(over("", &["budgets={edges: [7, 8]}"]), edges, "{base}");
        assert_eq!(over("", &["budgets.edges=[7, 8]"]), edges, "{base}");
        assert_eq!(over("", &["budgets.gap=null", "budgets={edges: [7, 8]}"]), edges, "{base}");
        assert_eq!(over("budgets: {params: {gap: 9}}\n", &[]), by_params, "{base}");
        assert_eq!(over("", &["budgets.params.gap=9"]), by_params, "{base}");
        assert_eq!(over("budgets: {edges: [1]}\n", &["budgets.params.gap=9"]), by_params, "{base}");
        let Ok(BudgetSpec::Latency(latency)) = over("", &["budgets.latency.edges=[1ms, 2ms]"]) else {
            panic!("{base}")
        };
        assert_eq!((latency.gap, latency.edges.map(|edges| edges.len())), (None, Some(2)), "{base}");
    }
}

#[test]
fn a_shape_given_in_another_way_takes_the_place_of_the_earlier_one() {
    let spec = set("family.anchors[0].preset=vit_tiny_patch16_224").expect("it is whole");
    assert_eq!((spec.family.anchors[0].arch.is_none(), spec.family.anchors[1].arch.is_some()), (true, true));
}

#[test]
fn alternatives_beside_each_other_in_one_layer_are_refused_by_their_names() {
    let flaw = child("budgets: {gap: 1, edges: [2]}\n", &[]).expect_err("which of them?");
    assert_eq!(flaw, "job.yaml:2:10: budgets: 2 keys, expected one alone: gap, edges, params, latency");
}

#[test]
fn recipes_have_no_alternatives() {
    for recipe in [include_str!("../recipes/paper.yaml"), include_str!("../recipes/best.yaml")] {
        for (section, _) in ALTERNATIVES {
            let key = section.split(['.', '[']).next().expect("a section");
            assert!(key == "family" || !recipe.contains(&format!("\n{key}:")), "{key}");
        }
        assert!(!recipe.contains("anchors:"), "{recipe}");
    }
}
