//! Exports through their files: what is written and read back computes what the run computed, and nothing is lost.

#[path = "export/fixture.rs"]
mod fixture;
#[path = "export/run.rs"]
mod run;

use std::{fs, path::Path, process::Command};

use clap::Parser;
use esta_engine::{palette::Choice, spec::PaletteRule, table::Row};
use esta_model::{Input, ParamStore, Phase, SourceHead, Weights, read_vit, tensor_shapes};
use esta_proto::{BudgetId, StitchId};
use esta_worker::{commands::Cli, exit, export::Models};
use fixture::{CLASSES, Family, distance, forward, frozen, images, law, plain_forward, read_json, start};
use serde_json::json;

/// Every space of the tiny family, with every part of the adaptation alive somewhere.
fn families() -> Vec<(&'static str, Family)> {
    let some = json!({ "targets": ["q", "v", "o", "fc1", "fc2"], "lora_alpha": 4.0, "lora_r": 2, "stitch_r": 3 });
    vec![
        ("twoway", Family::trained(json!({ "family": { "space": { "kind": "twoway" } }, "pst": some }))),
        ("esta", Family::trained(json!({ "pst": { "lora_r": 2, "stitch_r": 0, "bias": "stitch-layer" } }))),
        ("everything", Family::trained(json!({ "mode": "snnet" }))),
        ("bf16", Family::trained(json!({ "train": { "precision": "bf16" } }))),
    ]
}

#[test]
fn every_stitch_computes_from_its_files_what_it_computed_in_the_run() {
    for (name, family) in families() {
        let dir = tempfile::tempdir().unwrap();
        let models = family.models();
        for stitch in family.stitches() {
            let folder = dir.path().join(stitch.to_string());
            models.write_stitch(stitch, &[], &folder).unwrap();
            let off = distance(&plain_forward(&folder), &family.logits(stitch));
            assert!(off < 1e-5, "{name}, stitch {stitch}: off by {off:e}");
        }
    }
}

#[test]
fn a_lone_anchor_has_timms_names_shapes_and_words() {
    let family = Family::trained(json!({}));
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("anchor");
    family.models().write_stitch(StitchId(1), &[], &folder).unwrap();
    let arch = family.law.catalog.anchors[1].as_vit().unwrap();
    let mut expected = tensor_shapes(arch, Some(CLASSES));
    expected.sort();
    let weights = Weights::read(&folder).unwrap();
    let found: Vec<_> = weights.iter().map(|(name, tensor)| (name.to_owned(), tensor.size())).collect();
    assert_eq!(found, expected);
    read_vit(&folder, arch, SourceHead::Keep(CLASSES)).expect("our own reader of timm's checkpoints takes it");
    let config = read_json(&folder.join("config.json"));
    assert_eq!(config["architecture"], "vit_base_patch16_224");
    let args = json!({ "img_size": 8, "patch_size": 4, "in_chans": 1, "embed_dim": 12, "depth": 3, "num_heads": 3, "mlp_ratio": 4 });
    assert_eq!(config["model_args"], args);
    assert_eq!(config["num_classes"], CLASSES);
    assert_eq!(config["pretrained_cfg"]["input_size"], json!([1, 8, 8]));
    assert_eq!(config["pretrained_cfg"]["crop_mode"], "squash");
}

#[test]
fn a_stitched_config_says_path_cost_input_and_who_chose_it() {
    let family = Family::trained(json!({ "data": { "normalize": { "values": { "mean": [0.1], "std": [0.3] } } } }));
    let stitch = family.law.catalog.get(StitchId(2)).unwrap();
    let choice = Choice {
        budget: BudgetId(1),
        stitch: stitch.id,
        macs: stitch.macs,
        params: stitch.params,
        latency: None,
        value: 0.5,
    };
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("stitch");
    family.models().write_stitch(stitch.id, &[(PaletteRule::Loss, vec![choice])], &folder).unwrap();
    let config = read_json(&folder.join("config.json"));
    assert_eq!((config["macs"].as_u64(), config["params"].as_u64()), (Some(stitch.macs), Some(stitch.params)));
    assert_eq!(config["segments"].as_array().unwrap().len(), 2);
    assert_eq!(config["segments"][0]["anchor"], "a");
    assert_eq!(config["chosen"], json!([{ "rule": "loss", "budget": 1, "value": 0.5 }]));
    assert_eq!(config["preprocess"]["mean"].to_string(), "[0.1]");
    assert_eq!(config["input_size"], json!([1, 8, 8]));
    let weights = Weights::read(&folder).unwrap();
    let total: usize = weights.iter().map(|(_, tensor)| tensor.numel()).sum();
    assert_eq!(total as u64, stitch.params, "the file holds exactly the parameters that the catalog counts");
}

#[test]
fn a_palette_exports_every_chosen_stitch_once() {
    let family = Family::trained(json!({}));
    let choice = |stitch| {
        let (budget, stitch) = (BudgetId(0), StitchId(stitch));
        Choice { budget, stitch, macs: 1, params: 1, latency: None, value: 1.0 }
    };
    let palettes = [(PaletteRule::Snip, vec![choice(3), choice(0)]), (PaletteRule::Loss, vec![choice(3), choice(2)])];
    let dir = tempfile::tempdir().unwrap();
    let exported = family.models().write_palette(&palettes, dir.path(), "export").unwrap();
    let paths: Vec<&str> = exported.iter().map(|model| model.path.as_str()).collect();
    assert_eq!(paths, ["export/stitch-0", "export/stitch-2", "export/stitch-3"]);
    for path in paths {
        let mut files: Vec<_> =
            fs::read_dir(dir.path().join(path)).unwrap().map(|file| file.unwrap().file_name()).collect();
        files.sort();
        assert_eq!(files, ["README.md", "config.json", "model.safetensors", "modeling_stitched_vit.py"]);
    }
    let config = read_json(&dir.path().join("export/stitch-3/config.json"));
    assert_eq!(config["chosen"].as_array().unwrap().len(), 2);
}

#[test]
fn a_bundle_restores_the_whole_run() {
    for (name, family) in families() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("bundle");
        family.models().write_bundle(&[], &folder).unwrap();
        let bundle = Weights::read(&folder).unwrap();
        let store = ParamStore::new(&family.law.layout, start(&bundle)).unwrap();
        for stitch in family.stitches() {
            let logits = forward(&family.law, &store, &bundle, family.law.spec.train.precision, stitch);
            let off = distance(&logits, &family.run_logits(stitch));
            assert!(off == 0.0, "{name}, stitch {stitch}: off by {off:e}");
        }
    }
}

#[test]
fn a_bundle_lists_the_catalog_with_costs_and_values() {
    let family = Family::trained(json!({ "family": { "space": { "kind": "twoway" } }, "palette": { "rule": "loss" } }));
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("bundle");
    let row = Row { importance: Some(0.25), loss: Some(1.5), visits: 3, ..Row::default() };
    family.models().write_bundle(&[(StitchId(4), row)], &folder).unwrap();
    let config = read_json(&folder.join("config.json"));
    assert_eq!(config["rule"], "loss");
    let entries = config["stitches"].as_array().unwrap();
    assert_eq!(entries.len(), family.stitches().len());
    for (entry, stitch) in entries.iter().zip(family.law.catalog.stitches()) {
        assert_eq!((entry["id"].as_u64(), entry["macs"].as_u64()), (Some(stitch.id.0.into()), Some(stitch.macs)));
        assert_eq!(entry["layers"].as_array().unwrap().len(), stitch.layers.len());
        let values = if stitch.id.0 == 4 { json!({ "snip": 0.25, "loss": -1.5 }) } else { json!({}) };
        assert_eq!(entry["values"], values);
    }
}

/// ViT-Ti and ViT-S with their 34 stitches: 6.1 % on top of the anchors, half of it the stitching layers themselves.
#[test]
fn a_bundle_is_a_few_per_cent_larger_than_its_anchors() {
    let anchors = ["vit_tiny_patch16_224", "vit_small_patch16_224"];
    let anchor = |name| json!({ "name": name, "preset": name, "weights": "-" });
    let law = law(json!({
        "family": { "anchors": anchors.map(anchor), "space": { "kind": "esta" } },
        "pst": { "lora_r": 8, "stitch_r": 16 },
        "budgets": { "gap": 1e9 },
    }));
    let frozen = frozen(&law.catalog);
    let anchors: u64 = law
        .catalog
        .anchors
        .iter()
        .map(|arch| {
            tensor_shapes(arch.as_vit().unwrap(), Some(CLASSES))
                .iter()
                .map(|(_, shape)| 4 * shape.iter().product::<i64>() as u64)
                .sum::<u64>()
        })
        .sum();
    let store = ParamStore::new(&law.layout, start(&frozen)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("bundle");
    Models::new(&law, &store, frozen).unwrap().write_bundle(&[], &folder).unwrap();
    let bundle = fs::metadata(folder.join("model.safetensors")).unwrap().len();
    let layers: i64 = law.catalog.layers.iter().map(|_| (192 + 1) * 384).sum();
    let more = 4 * (law.layout.trainable_params_without_heads() + layers as u64);
    let header = bundle.checked_sub(anchors + more).expect("everything is there");
    assert!(header < 400_000, "{header} bytes for names: something is stored twice");
    let share = bundle as f64 / anchors as f64 - 1.0;
    assert!(share < 0.065, "{bundle} bytes for anchors of {anchors}: {:.1} % more", 100.0 * share);
}

#[test]
fn the_command_exports_a_run_from_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (_, state) = run::write(dir.path());
    let export = |args: &[&str]| {
        let run_dir = dir.path().to_str().unwrap();
        Cli::try_parse_from([&["esta-worker", "export", "--run-dir", run_dir], args].concat()).unwrap().command.run()
    };

    export(&["--stitch", "2"]).unwrap();
    let logits = state.net.forward(StitchId(2), &Input::from(&images()), Phase::Eval).unwrap();
    let off = distance(&plain_forward(&dir.path().join("export/stitch-2")), &logits);
    assert!(off < 1e-5, "off by {off:e}");

    let refused = |args: &[&str]| format!("{:#}", export(args).unwrap_err());
    assert!(refused(&["--palette"]).contains("palette.json"), "the run has none yet");
    assert!(refused(&["--bundle", "--checkpoint", "7"]).contains("step 7"));
    assert!(refused(&["--stitch", "99"]).contains("stitch 99 is not in the catalog"));
    assert!(refused(&["--stitch", "0", "--adapter"]).contains("adapters are made of language models only"));
    assert!(refused(&["--stitch", "0", "--pad-heads"]).contains("only language models have their heads filled up"));

    let choice = json!({ "budget": 0, "stitch": 1, "macs": 1, "params": 1, "value": 0.5, "path": "b" });
    let palette = json!({ "rule": "snip", "palettes": [{ "rule": "snip", "choices": [choice] }] });
    fs::write(dir.path().join("palette.json"), palette.to_string()).unwrap();
    let row = json!({ "stitch": 1, "budget": 0, "importance": 0.5, "visits": 1, "real_visits": 1, "loss": 2.0, "grad_norm": 1.0 });
    fs::write(dir.path().join("table.json"), json!({ "version": 3, "rows": [row] }).to_string()).unwrap();
    let out = dir.path().join("elsewhere");
    export(&["--palette", "--out", out.to_str().unwrap()]).unwrap();
    assert_eq!(read_json(&out.join("stitch-1/config.json"))["chosen"][0]["value"], 0.5);
    export(&["--bundle", "--checkpoint", "0", "--out", out.to_str().unwrap()]).unwrap();
    let bundle = read_json(&out.join("bundle/config.json"));
    assert_eq!(bundle["stitches"][1]["values"], json!({ "snip": 0.5, "loss": -2.0 }));
}

#[test]
fn the_command_needs_the_anchors_of_a_run_and_none_of_its_images() {
    let dir = tempfile::tempdir().unwrap();
    run::write(dir.path());
    let path = |name: &str| dir.path().join(name);
    let export = || {
        let run_dir = dir.path().to_str().unwrap();
        Cli::try_parse_from(["esta-worker", "export", "--run-dir", run_dir, "--stitch", "2"]).unwrap().command.run()
    };
    fs::remove_file(path("images")).unwrap();
    fs::remove_file(path("labels")).unwrap();
    export().unwrap();
    assert!(path("export/stitch-2/model.safetensors").is_file());

    fs::remove_file(path("a.safetensors")).unwrap();
    fs::remove_file(path("b.safetensors")).unwrap();
    let error = export().unwrap_err();
    let absent = ["a", "b"].map(|name| format!("{name:?} at {}", path(&format!("{name}.safetensors")).display()));
    let line = format!("{error:#}");
    assert!(
        line.contains(&format!("needs its anchors; not there: {}: anchor \"a\" does", absent.join(", "))),
        "{line}"
    );
    assert_eq!(exit::of(&error), exit::WEIGHTS);
}

/// `make test-all` loads what this writes with PyTorch alone (check_export.py), at `ESTA_EXPORT_GOLDEN`; everywhere
/// else it is written to a folder that goes, and the modelling file is compiled.
#[test]
fn the_modelling_file_is_python_and_golden_exports_are_written_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let golden = std::env::var_os("ESTA_EXPORT_GOLDEN");
    let root = golden.as_deref().map_or(dir.path(), Path::new);
    for (name, family) in families() {
        write_golden(&root.join(name), &family);
    }
    let file = root.join("twoway/bundle/modeling_stitched_vit.py");
    let compile = "import ast, sys; ast.parse(open(sys.argv[1], encoding='utf-8').read())";
    let output = Command::new("python3").args(["-c", compile]).arg(&file).output();
    let output = output.expect("python3 is among the tools that the tests need");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A bundle, all stitches, and what they should compute.
fn write_golden(folder: &Path, family: &Family) {
    let (models, catalog) = (family.models(), &family.law.catalog);
    let rated = |stitch: &esta_engine::catalog::Stitch| {
        let row = Row {
            importance: Some(f64::from(stitch.id.0 * 7 % 5)),
            loss: Some(1e6 / stitch.macs as f64),
            ..Row::default()
        };
        (stitch.id, row)
    };
    models.write_bundle(&catalog.stitches().map(rated).collect::<Vec<_>>(), &folder.join("bundle")).expect("writable");
    let mut expected = Weights::new("golden");
    expected.insert("images", images());
    for stitch in family.stitches() {
        models.write_stitch(stitch, &[], &folder.join(format!("stitch-{stitch}"))).expect("writable");
        expected.insert(format!("logits.{stitch}"), family.logits(stitch));
    }
    expected.save(&folder.join("expected.safetensors")).expect("writable");
}
