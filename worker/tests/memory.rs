//! What a stitched run of language models takes of memory, against what the plan says before anything is loaded: resident
//! memory as the kernel counts it, in a process of its own that gives back what it frees, and what lies at most on a rehearsed
//! device.

use std::{collections::BTreeMap, env, ffi::OsStr, fs, path::Path, process::Command};

use esta_engine::{
    memory::{Bytes, MemoryPlan, Pass},
    pace::Pace,
    plan::{Plan, RankPlan},
    run::StepTimings,
    sampler::{Draw, Reason},
    spec::{AnchorSpec, JobSpec, Precision},
};
use esta_model::random_llama;
use esta_proto::{BudgetId, Step, StitchId};
use esta_text::train_tokenizer;
use esta_worker::{
    eval::{evaluate, largest_pass},
    trainer::{DeviceKind, Job, State, Stepper},
};
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
            "eval": { "layout": "text", "path": path("texts.jsonl") },
        },
        "eval": { "batch_size": ROWS },
    }))
    .expect("a job")
}

#[test]
fn a_stitched_run_of_language_models_takes_the_memory_that_was_planned() {
    let test = "a_stitched_run_of_language_models_takes_the_memory_that_was_planned";
    // glibc maps every larger tensor by itself, and unmaps it when it is freed.
    measured_in_a_process(test, ("MALLOC_MMAP_THRESHOLD_", "65536".as_ref()), |folder| {
        let meter = Meter::resident();
        let job = Job::from_scratch(job(folder), meter.device()).expect("all is there");
        measure(&job, &meter);
    });
}

#[test]
fn it_takes_no_more_of_a_device() {
    let library = esta_rehearsal::library().as_os_str();
    measured_in_a_process("it_takes_no_more_of_a_device", ("LD_PRELOAD", library), |folder| {
        let whole = Job::from_scratch(job(folder), DeviceKind::Cuda).expect("all is there");
        measure(&whole, &Meter::Device);
        let mut little = job(folder);
        little.train.precision = Precision::Bf16;
        little.train.gradient_checkpointing = true;
        little.family.anchors.iter_mut().for_each(|anchor| write(anchor, folder));
        drop(whole);
        measure(&Job::load(little, DeviceKind::Cuda).expect("all is there"), &Meter::Device);
    });
}

/// Writes an anchor as a Hugging Face folder, from which it is read in its own precision.
fn write(anchor: &mut AnchorSpec, folder: &Path) {
    let place = folder.join(&anchor.name);
    let config = anchor.config.clone().expect("it is described");
    fs::create_dir(&place).expect("writable");
    let mut said = serde_json::to_value(&config).expect("a config");
    said["architectures"] = json!(["LlamaForCausalLM"]);
    said["model_type"] = json!("llama");
    fs::write(place.join("config.json"), said.to_string()).expect("writable");
    random_llama(&config, 3).save(&place.join("model.safetensors")).expect("writable");
    anchor.weights = place.display().to_string();
}

/// Runs `measure` in a process of its own, with this variable.
fn measured_in_a_process(test: &str, (name, value): (&str, &OsStr), measure: impl FnOnce(&Path)) {
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
        .args(["--exact", "--nocapture", test])
        .env(MEASURED, folder.path())
        .env(name, value)
        .output()
        .expect("it starts");
    let [said, failed] = [&measured.stdout, &measured.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{said}");
    assert!(measured.status.success(), "{failed}");
}

/// Where memory is counted.
enum Meter {
    /// By the kernel, beyond what the process held before.
    Resident { before: u64 },
    /// On the rehearsed device.
    Device,
}

impl Meter {
    fn resident() -> Self {
        // What a process holds after a first product and its gradient is its libraries', not a model's.
        let matrix = Tensor::randn([64, 64], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        matrix.matmul(&matrix).sum(Kind::Float).backward();
        Self::Resident { before: resident("VmRSS:") }
    }

    fn device(&self) -> DeviceKind {
        match self {
            Self::Resident { .. } => DeviceKind::Cpu,
            Self::Device => DeviceKind::Cuda,
        }
    }

    fn now(&self) -> u64 {
        match self {
            Self::Resident { before } => resident("VmRSS:") - before,
            Self::Device => esta_c10d::used_cuda_memory().expect("there is a device"),
        }
    }

    /// Since it was forgotten.
    fn peak(&self) -> u64 {
        match self {
            Self::Resident { before } => resident("VmHWM:") - before,
            Self::Device => esta_rehearsal::take_peak().expect("there is a device"),
        }
    }

    fn forget_peak(&self) {
        match self {
            Self::Resident { .. } => {
                fs::write("/proc/self/clear_refs", "5").expect("a process may reset its own peak");
            }
            Self::Device => drop(esta_rehearsal::take_peak()),
        }
    }
}

fn measure(job: &Job, meter: &Meter) {
    tch::set_num_threads(1);
    let held_out = largest_pass(&job.family.law.spec, job.train.texts().expect("they speak"));
    let plan =
        MemoryPlan::of(&job.family.law, Pass { rows: ROWS, tokens: TOKENS, learned: ROWS * TOKENS }, Some(held_out))
            .expect("they speak");
    within("anchors alone", meter.now(), plan.anchors);

    meter.forget_peak();
    let mut state = State::fresh(job).expect("it fits");
    // Here few texts are fitted on, and the plan is for any number of them: it is an upper bound.
    let peak = meter.peak();
    println!("fit: {} measured, {} planned", Bytes(peak), Bytes(plan.anchors + plan.fit));
    assert!(peak as f64 <= 1.1 * (plan.anchors + plan.fit) as f64, "the fit took {}, planned {plan}", Bytes(peak));

    meter.forget_peak();
    let mut stepper = Stepper::new(job);
    let stitches: Vec<StitchId> = job.family.law.catalog.stitches().map(|stitch| stitch.id).collect();
    for (step, &stitch) in (0..).map(Step).zip(&stitches) {
        let share = plan_of(job, step, stitch);
        let batch = job.prefetcher.request(step.0 * ROWS..(step.0 + 1) * ROWS);
        let sum =
            stepper.accumulate(job, &state, &share, vec![batch], &mut StepTimings::default(), None).expect("it runs");
        stepper.apply(&mut state, &share, sum);
    }
    within("training", meter.peak(), plan.anchors + plan.layers + plan.training + plan.activations + plan.logits);

    drop(stepper);
    meter.forget_peak();
    evaluate(&job.family, &state.net, &stitches, |_, _| {}).expect("it runs");
    let (peak, planned) = (meter.peak(), plan.anchors + plan.evaluation);
    println!("evaluation: {} measured, {} planned", Bytes(peak), Bytes(planned));
    // To the plan of it where tensors alone are counted. The processor's attention works in single precision, its scores too, whatever
    // it is given, which no kernel of a GPU does; and what a process holds beside tensors weighs as much as a pass here.
    let exact = matches!(meter, Meter::Device) && job.family.law.spec.train.precision == Precision::F32;
    let bound = if exact { planned } else { plan.peak(1) };
    assert!(peak as f64 <= 1.1 * bound as f64, "the evaluation took {}, planned {plan}", Bytes(peak));
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
