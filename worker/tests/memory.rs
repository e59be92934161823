//! What a stitched run of language models takes of memory, against what the plan says before anything is loaded: resident
//! memory as the kernel counts it, in a process of its own that gives back what it frees.

use std::{collections::BTreeMap, env, fs, path::Path, process::Command};

use esta_engine::{
    memory::{Bytes, MemoryPlan, Pass},
    pace::Pace,
    plan::{Plan, RankPlan},
    run::StepTimings,
    sampler::{Draw, Reason},
    spec::JobSpec,
};
use esta_proto::{BudgetId, Step, StitchId};
use esta_text::train_tokenizer;
use esta_worker::trainer::{DeviceKind, Job, State, Stepper};
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// Set in the process that is measured: the folder it works in.
const MEASURED: &str = "ESTA_TEST_MEASURED_IN";
/// Texts of a step, each as long as it may be.
const ROWS: u64 = 8;
const TOKENS: u64 = 96;

/// Anchors of some 50 million parameters, so that libtorch's own buffers weigh little beside them.
fn job(folder: &Path) -> JobSpec {
    let anchor = |name: &str, width: u32, depth: u32| {
        json!({ "name": name, "weights": "-", "config": {
            "vocab_size": 304, "hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": depth,
            "num_attention_heads": width / 64, "num_key_value_heads": width / 64, "head_dim": 64,
            "max_position_embeddings": TOKENS,
        } })
    };
    let path = |name: &str| folder.join(name).display().to_string();
    serde_json::from_value(json!({
        "name": "measured",
        "output_dir": path("run"),
        "family": {
            "anchors": [anchor("s", 512, 4), anchor("l", 768, 5)],
            "space": { "kind": "proportional" },
            "stitch_init": { "samples": 1, "ridge": 1e-2 },
        },
        "budgets": { "params": { "gap": 1e7 } },
        "sampling": { "slots": 1 },
        "train": { "max_steps": 10, "batch_size": ROWS },
        "data": {
            "text": { "tokenizer": path("tokenizer"), "max_length": TOKENS, "loss_on": "all" },
            "train": { "layout": "text", "path": path("texts.jsonl") },
        },
    }))
    .expect("a job")
}

#[test]
fn a_stitched_run_of_language_models_takes_the_memory_that_was_planned() {
    if let Some(folder) = env::var_os(MEASURED) {
        return measure(folder.as_ref());
    }
    let folder = tempfile::tempdir().expect("a folder");
    let words = ["open", "read", "write", "close", "seek", "a", "file", "returns", "the", "next"];
    let text = |number: usize| {
        (0..160).map(|place| words[(number + place * place) % words.len()]).collect::<Vec<_>>().join(" ")
    };
    let texts: Vec<String> = (0..24).map(text).collect();
    train_tokenizer(texts.clone(), 290, &folder.path().join("tokenizer")).expect("trained");
    let lines: Vec<String> = texts.iter().map(|text| json!({ "text": text }).to_string()).collect();
    fs::write(folder.path().join("texts.jsonl"), lines.join("\n")).expect("writable");
    let measured = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "--nocapture", "a_stitched_run_of_language_models_takes_the_memory_that_was_planned"])
        .env(MEASURED, folder.path())
        // glibc maps every larger tensor by itself, and unmaps it when it is freed.
        .env("MALLOC_MMAP_THRESHOLD_", "65536")
        .output()
        .expect("it starts");
    let [said, failed] = [&measured.stdout, &measured.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{said}");
    assert!(measured.status.success(), "{failed}");
}

fn measure(folder: &Path) {
    tch::set_num_threads(1);
    // What a process holds after a first product and its gradient is its libraries', not a model's.
    let matrix = Tensor::randn([64, 64], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    matrix.matmul(&matrix).sum(Kind::Float).backward();
    let before = resident("VmRSS:");
    let peak = || resident("VmHWM:") - before;

    let job = Job::from_scratch(job(folder), DeviceKind::Cpu).expect("all is there");
    let plan = MemoryPlan::of(&job.family.law, Pass { rows: ROWS, tokens: TOKENS, learned: ROWS * TOKENS })
        .expect("they speak");
    within("anchors alone", resident("VmRSS:") - before, plan.anchors);

    forget_peak();
    let mut state = State::fresh(&job).expect("it fits");
    // Here few texts are fitted on, and the plan is for any number of them: it is an upper bound.
    println!("fit: {} measured, {} planned", Bytes(peak()), Bytes(plan.anchors + plan.fit));
    assert!(peak() as f64 <= 1.1 * (plan.anchors + plan.fit) as f64, "the fit took {}, planned {plan}", Bytes(peak()));

    forget_peak();
    let mut stepper = Stepper::new(&job);
    let stitches: Vec<StitchId> = job.family.law.catalog.stitches().map(|stitch| stitch.id).collect();
    for (step, stitch) in (0..).map(Step).zip(stitches) {
        let share = plan_of(&job, step, stitch);
        let batch = job.prefetcher.request(step.0 * ROWS..(step.0 + 1) * ROWS);
        let sum =
            stepper.accumulate(&job, &state, &share, vec![batch], &mut StepTimings::default(), None).expect("it runs");
        stepper.apply(&mut state, &share, sum);
    }
    within("training", peak(), plan.anchors + plan.layers + plan.training + plan.activations + plan.logits);
}

/// The whole step for one rank.
fn plan_of(job: &Job, step: Step, stitch: StitchId) -> RankPlan {
    let draw = Draw { stitch, budget: BudgetId(0), probability: 1.0, reason: Reason::Uniform };
    let plan = Plan::new(step, step, step.0 * ROWS, vec![draw], &job.family.law.layout);
    plan.shares(&job.family.law.catalog, &Pace::default(), &[1.0], &BTreeMap::new()).swap_remove(0)
}

fn within(what: &str, measured: u64, planned: u64) {
    println!("{what}: {} measured, {} planned", Bytes(measured), Bytes(planned));
    let ratio = measured as f64 / planned as f64;
    assert!((0.9..=1.1).contains(&ratio), "{what}: {} measured, {} planned", Bytes(measured), Bytes(planned));
}

/// A line of this process's status, in bytes.
fn resident(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let found = status.lines().find_map(|found| found.strip_prefix(line)).expect("Linux counts it");
    1024 * found.split_whitespace().next().and_then(|count| count.parse::<u64>().ok()).expect("a number")
}

fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("a process may reset its own peak");
}
