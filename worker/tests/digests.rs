//! RD-3: all ranks hold identical adapters. A chained digest of what was reduced proves it per step, and at checkpoints one of all
//! that a rank holds: what an optimizer makes of one sum may differ from machine to machine.

use std::{collections::BTreeMap, fs, path::Path};

use esta_engine::{
    pace::Pace,
    plan::{Plan, RankPlan},
    run::StepTimings,
    sampler::{Draw, Reason},
    spec::JobSpec,
};
use esta_proto::{BudgetId, Digest, Step, StitchId};
use esta_text::train_tokenizer;
use esta_worker::trainer::{DeviceKind, Job, State, Stepper};
use serde_json::json;

/// Two small decoders that save every other step.
fn job(folder: &Path) -> JobSpec {
    let anchor = |name: &str, width: u32| {
        json!({ "name": name, "weights": "-", "config": {
            "vocab_size": 304, "hidden_size": width, "intermediate_size": width, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": width / 2, "max_position_embeddings": 32,
        } })
    };
    let path = |name: &str| folder.join(name).display().to_string();
    serde_json::from_value(json!({
        "name": "digests",
        "output_dir": path("run"),
        "family": {
            "anchors": [anchor("s", 8), anchor("l", 16)],
            "space": { "kind": "proportional" },
            "stitch_init": { "samples": 1, "ridge": 1e-2 },
        },
        "budgets": { "params": { "gap": 1e3 } },
        "sampling": { "slots": 1 },
        "train": { "max_steps": 4, "batch_size": 2, "save_steps": 2 },
        "data": {
            "text": { "tokenizer": path("tokenizer"), "max_length": 16, "loss_on": "all" },
            "train": { "layout": "text", "path": path("texts.jsonl") },
        },
    }))
    .expect("a job")
}

fn plan(job: &Job, step: u64) -> RankPlan {
    let draw = Draw { stitch: StitchId(0), budget: BudgetId(0), probability: 1.0, reason: Reason::Uniform };
    let plan = Plan::new(Step(step), Step(step), 2 * step, vec![draw], &job.family.law.layout);
    plan.shares(&job.family.law.catalog, &Pace::default(), &[1.0], &BTreeMap::new()).swap_remove(0)
}

/// The digests that a rank reports; one whose `moment` is off applies the first step a little otherwise than its peers.
fn digests(job: &Job, moment_off: f64) -> Vec<Digest> {
    let (mut state, mut stepper) = (State::fresh(job).expect("a state"), Stepper::new(job));
    let step = |step: u64| {
        let plan = plan(job, step);
        let batch = job.prefetcher.request(plan.first_sample..plan.first_sample + 2);
        let mut timings = StepTimings::default();
        let sum = stepper.accumulate(job, &state, &plan, vec![batch], &mut timings, None).expect("it is computed");
        let report = stepper.apply(&mut state, &plan, sum);
        if step == 0 {
            let [_, first_moment, _] = state.store.state();
            let mut one = first_moment.narrow(0, 0, 1);
            one += moment_off;
        }
        report.reduced
    };
    (0..3).map(step).collect()
}

#[test]
fn rd_3_who_applies_a_sum_otherwise_says_so_at_the_next_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let texts: Vec<String> = (0..8).map(|number| format!("text {number} of eight that say next to nothing")).collect();
    train_tokenizer(texts.clone(), 290, &folder.path().join("tokenizer")).expect("trained");
    let lines: Vec<String> = texts.iter().map(|text| json!({ "text": text }).to_string()).collect();
    fs::write(folder.path().join("texts.jsonl"), lines.join("\n")).expect("writable");
    let job = Job::from_scratch(job(folder.path()), DeviceKind::Cpu).expect("all is there");
    let (one, other, same) = (digests(&job, 0.0), digests(&job, 1e-6), digests(&job, 0.0));
    assert_eq!(one, same);
    assert_eq!(one[0], other[0], "what was reduced is the same");
    assert_ne!(one[1], other[1], "two steps are a checkpoint");
}
