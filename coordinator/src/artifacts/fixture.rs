//! A believable run without tensors, for tests: the real law draws, and made-up losses and scores answer.

use std::{path::Path, sync::Arc, time::Duration};

use esta_engine::{
    catalog::Stitch,
    law::Law,
    palette,
    run::{Ledger, Report, StepRecord, StepTimings, Teller},
    spec::{JobSpec, PaletteRule},
    table::Outcome,
};
use esta_proto::{Digest, LeaderEpoch, Step};
use serde_json::json;

use super::{
    Artifacts, atomic,
    summary::{EvalEntry, EvalFile, ExportEntry},
};

/// A two-way family of three small anchors.
pub fn spec(name: &str, max_steps: u64) -> JobSpec {
    let anchor = |name: &str, width: u32| {
        json!({"name": name, "weights": format!("anchors/{name}"), "arch": {
            "image_size": 28, "patch_size": 4, "in_chans": 1, "embed_dim": width, "depth": 6, "num_heads": 2}})
    };
    serde_json::from_value(json!({
        "name": name,
        "family": {"anchors": [anchor("ti", 32), anchor("s", 64), anchor("b", 96)], "space": {"kind": "twoway"}},
        "budgets": {"gap": 4e6},
        "sampling": {"anchor_floor": 0.1},
        "train": {"max_steps": max_steps, "batch_size": 32, "logging_steps": 10},
        "data": {"num_classes": 10,
            "train": {"layout": "idx", "path": "train-images.gz", "split": {"count": 1000}},
            "eval": {"layout": "idx", "path": "test-images.gz"}},
    }))
    .expect("a valid specification")
}

/// Runs a ledger over made-up outcomes and hands every record with the clock to `each`.
pub fn train(law: &Law, total: u64, mut each: impl FnMut(&StepRecord, &Ledger, Duration)) -> Ledger {
    let mut ledger = Ledger::new(Arc::new(law.clone()), total);
    while ledger.committed() < Step(total) {
        let step = ledger.committed();
        let plan = ledger.plan(step).expect("drawn ahead");
        let outcomes =
            (0..).zip(&plan.draws).map(|(slot, draw)| outcome(law, step.0, slot, law.catalog.get(draw.stitch)));
        let outcomes = outcomes.collect();
        let (reduced, timings) = (Digest::default(), StepTimings::default());
        ledger.accept(&Report { step, plan: plan.digest, reduced, outcomes, timings }, Teller::Rank);
        for record in ledger.commit_ready(step.next(), |_| None) {
            each(&record, &ledger, Duration::from_millis(90 * (step.0 + 1)));
        }
    }
    ledger
}

/// A whole run in a folder: every file of the coordinator, and the worker's `eval.json` over the whole catalog.
pub fn run(run_dir: &Path, spec: JobSpec) -> Law {
    let total = spec.train.max_steps.expect("given in steps");
    let law = Law::new(spec).expect("a valid specification");
    let mut artifacts = Artifacts::open(run_dir, &law, LeaderEpoch(1), Step(0)).expect("opened");
    artifacts.set_samples(1000);
    let ledger =
        train(&law, total, |record, ledger, clock| artifacts.step(record, ledger.table(), clock).expect("written"));
    let choose = |rule| (rule, palette::palette(&law.catalog, ledger.table(), rule));
    let palettes = PaletteRule::ALL.map(choose);
    atomic::replace_json(&run_dir.join("eval.json"), &eval(&law, &palettes[0].1)).expect("written");
    artifacts.finish(&palettes, ledger.table()).expect("written");
    law
}

fn eval(law: &Law, exported: &[palette::Choice]) -> EvalFile {
    let entry = |stitch: &Stitch| {
        let accuracy = quality(law, stitch);
        let correct = (accuracy * 5000.0).round();
        let halves = [accuracy + 0.006 * wave(stitch.id.0, 8), accuracy - 0.006 * wave(stitch.id.0, 8)];
        EvalEntry {
            stitch: stitch.id,
            accuracy: correct / 5000.0,
            loss: Some(2.4 * (1.0 - accuracy)),
            correct: Some(correct as u64),
            halves: Some(halves),
            tokens_per_second: None,
            planned_memory: None,
        }
    };
    let export = |choice: &palette::Choice| ExportEntry {
        stitch: choice.stitch,
        path: format!("models/stitch-{:03}", choice.stitch.0),
    };
    EvalFile {
        images: 5000,
        train_texts: None,
        held_out_texts: None,
        results: law.catalog.stitches().map(entry).collect(),
        exports: exported.iter().map(export).collect(),
        speech: None,
        seconds: Some(48.0),
    }
}

/// Accuracy grows with cost and differs inside a budget.
fn quality(law: &Law, stitch: &Stitch) -> f64 {
    let largest = law.catalog.stitches().map(|stitch| stitch.macs).max().expect("not empty");
    let size = (stitch.macs as f64 / largest as f64).powf(0.35);
    let crossings = 0.02 * stitch.layers.len() as f64;
    (0.55 + 0.41 * size - crossings + 0.035 * wave(stitch.id.0, 1)).min(0.995)
}

fn outcome(law: &Law, step: u64, slot: u32, stitch: Option<&Stitch>) -> Outcome {
    let stitch = stitch.expect("drawn from the catalog");
    let (quality, progress) = (quality(law, stitch), (-(step as f64) / 160.0).exp());
    let noise = wave(slot + 7 * step as u32, stitch.id.0);
    let loss = 2.3 * progress + 1.6 * (1.0 - quality) * (1.0 - progress) + 0.08 * noise;
    Outcome {
        score: 1e-4 * (0.4 + quality + 0.3 * noise + 0.3 * wave(stitch.id.0, 3)).max(0.05),
        loss: loss.max(0.01),
        grad_norm: 1.5 * progress + 0.3,
        valid: step != 37,
    }
}

/// A number in -1..1 that looks like chance and is none.
fn wave(a: u32, b: u32) -> f64 {
    let mixed = a.wrapping_mul(0x9e37_79b9) ^ b.wrapping_mul(0x85eb_ca6b);
    let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2c1b_3c6d);
    f64::from(mixed ^ (mixed >> 12)) / f64::from(u32::MAX) * 2.0 - 1.0
}
