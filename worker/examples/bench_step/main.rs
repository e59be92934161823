//! A worker's step under the clock, one slot, no coordinator: `scripts/bench/` runs it beside the same step in plain
//! PyTorch, in turn, and watches the memory of both. Arguments: device, threads. It greets with a line once its libraries
//! are at work. First line in: the case as JSON, answered by what is trained. Then each `steps N` is answered by the
//! milliseconds of N steps, `warm N` likewise for steps of one image, which touch all that steps keep, and `reduce N` by
//! those of N all-reduces between two ranks. Steps are traced and metrics exported as in a run, where the environment says so.

mod reduce;

use std::{
    collections::BTreeMap,
    error::Error,
    io::{BufRead, Write},
    ops::Range,
    time::{Duration, Instant, SystemTime},
};

use clap::ValueEnum;
use esta_data::BatchTicket;
use esta_engine::{
    arch::{LlamaArch, VitArch},
    catalog::Stitch,
    pace::Pace,
    plan::{Plan, RankPlan},
    run::{Report, StepTimings},
    sampler::{Draw, Reason},
    spec::{JobSpec, Mode, Precision, Reduction},
};
use esta_proto::{BudgetId, Generation, Step};
use esta_telemetry::{Program, trace};
use esta_worker::{
    telemetry::{Meters, Part, Traced},
    trainer::{DeviceKind, Job, State, Stepper, open_device},
};
use serde::Deserialize;
use serde_json::json;
use tch::{Device, Kind, Tensor};

/// What is timed.
#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    anchors: Vec<VitArch>,
    /// Language models instead.
    #[serde(default)]
    speakers: Vec<LlamaArch>,
    #[serde(default)]
    classes: u32,
    /// Tokens of a text.
    #[serde(default)]
    tokens: u32,
    /// Segments of the stitch: anchor, first and last block.
    path: Vec<(u32, u32, u32)>,
    images: u32,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    reduce: Reduction,
    /// Of matrices.
    #[serde(default)]
    precision: Precision,
    /// A file of digits, or of documents: real batches, prepared ahead on a loader thread as in a run.
    digits: String,
    #[serde(default)]
    texts: String,
    /// A folder with the tokenizer of the documents.
    #[serde(default)]
    tokenizer: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, threads] = &arguments[..] else { return Err("the arguments are device and threads".into()) };
    let device = DeviceKind::from_str(device, false)?;
    let _telemetry = esta_telemetry::start(Program {
        service: "bench",
        version: env!("CARGO_PKG_VERSION"),
        filter: "warn",
        logs: std::io::stderr,
    });
    tch::set_num_threads(threads.parse()?);
    load_libraries(open_device(device)?);
    answer(&json!({}))?;
    let mut lines = std::io::stdin().lock().lines();
    let case: Case = serde_json::from_str(&lines.next().ok_or("the first line is the case")??)?;
    let mut bench = Bench::new(&case, device)?;
    answer(&bench.describe())?;
    for line in lines {
        let line = line?;
        let (what, count) = line.split_once(' ').ok_or("a request is a word and a number")?;
        let count: u64 = count.parse()?;
        answer(&match what {
            "steps" => bench.steps(count)?,
            "warm" => bench.warm(count)?,
            "reduce" => json!({ "ms": reduce::milliseconds(&bench.buffer()?, count)? }),
            _ => return Err(format!("{what} is no request").into()),
        })?;
    }
    Ok(())
}

/// What a process holds after a first product and its gradient is its libraries', not a model's.
fn load_libraries(device: Device) {
    let matrix = Tensor::randn([64, 64], (Kind::Float, device)).set_requires_grad(true);
    matrix.matmul(&matrix).sum(Kind::Float).backward();
}

fn answer(value: &serde_json::Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}

struct Bench {
    job: Job,
    state: State,
    stepper: Stepper,
    meters: Meters,
    stitch: Stitch,
    next: u64,
    ahead: BatchTicket,
}

impl Bench {
    fn new(case: &Case, device: DeviceKind) -> Result<Self, Box<dyn Error>> {
        let job = Job::from_scratch(spec(case)?, device)?;
        let path = |stitch: &&Stitch| {
            stitch.segments.iter().map(|part| (part.anchor.0, part.first, part.last)).eq(case.path.iter().copied())
        };
        let stitch = job.family.law.catalog.stitches().find(path).ok_or("the space has no such stitch")?.clone();
        let state = State::fresh(&job)?;
        let stepper = Stepper::new(&job);
        let ahead = job.prefetcher.request(0..u64::from(case.images));
        Ok(Self { job, state, stepper, meters: Meters::new(), stitch, next: 0, ahead })
    }

    fn plan(&self) -> RankPlan {
        let draw = Draw { stitch: self.stitch.id, budget: BudgetId(0), probability: 1.0, reason: Reason::Uniform };
        let plan =
            Plan::new(Step(self.next), Step(self.next), self.samples().start, vec![draw], &self.job.family.law.layout);
        plan.shares(&self.job.family.law.catalog, &Pace::default(), &[1.0], &BTreeMap::new()).swap_remove(0)
    }

    /// Counters of the coming step's samples.
    fn samples(&self) -> Range<u64> {
        let size = u64::from(self.job.family.law.spec.train.batch_size);
        self.next * size..(self.next + 1) * size
    }

    fn describe(&self) -> serde_json::Value {
        let layout = &self.job.family.law.layout;
        let touched: u64 = layout.touched(self.stitch.id).iter().map(|id| layout.groups[id.index()].numel()).sum();
        let spec = &self.job.family.law.spec;
        let catalog = self.job.family.law.catalog.stitches().count();
        json!({ "trained": touched, "catalog": catalog, "precision": spec.train.precision })
    }

    fn steps(&mut self, count: u64) -> Result<serde_json::Value, Box<dyn Error>> {
        self.timed(count, |bench| {
            let coming = bench.job.prefetcher.request(bench.samples());
            std::mem::replace(&mut bench.ahead, coming)
        })
    }

    fn warm(&mut self, count: u64) -> Result<serde_json::Value, Box<dyn Error>> {
        self.timed(count, |bench| bench.job.prefetcher.request(0..1))
    }

    /// Steps on the batches of `ticket`, asked for once the step is planned.
    fn timed(
        &mut self,
        count: u64,
        ticket: impl Fn(&mut Self) -> BatchTicket,
    ) -> Result<serde_json::Value, Box<dyn Error>> {
        let (mut ms, mut slot_ms, mut loss, mut bytes) = (Vec::new(), Vec::new(), f64::NAN, 0);
        for _ in 0..count {
            let begin = Instant::now();
            let plan = self.plan();
            self.next += 1;
            let ticket = ticket(self);
            let mut timings = StepTimings::default();
            let traced = begin_trace(&plan);
            let told = traced.as_ref();
            let buffer = self.stepper.accumulate(&self.job, &self.state, &plan, vec![ticket], &mut timings, told)?;
            bytes = buffer.bytes();
            let (applied, began) = (Instant::now(), SystemTime::now());
            let report = self.stepper.apply(&mut self.state, &plan, buffer);
            timings.apply = applied.elapsed();
            let report = Report { timings, ..report };
            if let Some(traced) = traced {
                traced.phase("apply", began);
                traced.end(Ok(1));
            }
            self.meters.stepped(&report, bytes as u64);
            ms.push(begin.elapsed().as_secs_f64() * 1e3);
            slot_ms.push(report.timings.compute().as_secs_f64() * 1e3);
            loss = report.outcomes[0].loss;
        }
        Ok(json!({ "ms": ms, "slot_ms": slot_ms, "loss": loss, "bytes": bytes }))
    }

    /// A step's buffer where ranks of one machine reduce it.
    fn buffer(&mut self) -> Result<Tensor, Box<dyn Error>> {
        let ticket = self.job.prefetcher.request(self.samples());
        let (plan, mut timings) = (self.plan(), StepTimings::default());
        let buffer = self.stepper.accumulate(&self.job, &self.state, &plan, vec![ticket], &mut timings, None)?;
        Ok(buffer.tensor().to_device(Device::Cpu))
    }
}

/// A rank's part in a step whose trace is kept, as a session would have heard of it.
fn begin_trace(plan: &RankPlan) -> Option<Traced> {
    let step = trace::Context::of_step("bench", plan.step)?;
    let part = Part { step, own: step.child(), rank: None, worker: "bench".into() };
    Some(Traced::begin(part, Generation(1), plan, Duration::ZERO))
}

fn spec(case: &Case) -> Result<JobSpec, serde_json::Error> {
    let named = |key: &str, number: usize, shape: serde_json::Value| {
        let mut anchor = json!({ "name": number.to_string(), "weights": "-" });
        anchor[key] = shape;
        anchor
    };
    let vits = case.anchors.iter().enumerate().map(|(number, arch)| named("arch", number, json!(arch)));
    let speakers = case.speakers.iter().enumerate().map(|(number, arch)| named("config", number, json!(arch)));
    let (data, space) = match case.speakers.is_empty() {
        true => {
            (json!({ "num_classes": case.classes, "train": { "layout": "digits_csv", "path": case.digits } }), "esta")
        }
        false => {
            let text = json!({ "tokenizer": case.tokenizer, "max_length": case.tokens });
            (json!({ "text": text, "train": { "layout": "text", "path": case.texts } }), "proportional")
        }
    };
    serde_json::from_value(json!({
        "name": "bench",
        "output_dir": std::env::temp_dir().join("esta-bench"),
        "mode": case.mode,
        "family": {
            "anchors": vits.chain(speakers).collect::<Vec<_>>(),
            "space": { "kind": space },
            // How well the stitching layers start is nothing that is measured.
            "stitch_init": { "samples": 1, "ridge": 1e-3 },
        },
        "budgets": { "gap": 1e6 },
        "sampling": { "slots": 1 },
        "reduce": { "kind": case.reduce },
        "train": { "max_steps": 1_000_000, "batch_size": case.images, "precision": case.precision },
        "data": data,
    }))
}
