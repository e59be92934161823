//! A worker's step under the clock, one slot, no coordinator: `scripts/bench/` runs it beside the same step in plain
//! PyTorch, in turn. First line in: the case as JSON. First line out: what is trained. Then each `steps N` is answered by
//! the milliseconds of N steps, and each `reduce N` by those of N all-reduces between two ranks.

mod reduce;

use std::{
    error::Error,
    io::{BufRead, Write},
    time::Instant,
};

use esta_data::BatchTicket;
use esta_engine::{
    arch::VitArch,
    catalog::Stitch,
    plan::{Plan, RankPlan},
    sampler::{Draw, Reason},
    spec::{JobSpec, Mode, Reduction},
};
use esta_proto::{BudgetId, Step};
use esta_worker::trainer::{DeviceKind, Job, State, Stepper, Timings};
use serde::Deserialize;
use serde_json::json;

/// What is timed.
#[derive(Deserialize)]
struct Case {
    anchors: Vec<VitArch>,
    classes: u32,
    /// Segments of the stitch: anchor, first and last block.
    path: Vec<(u32, u32, u32)>,
    images: u32,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    reduce: Reduction,
    /// A file of digits: real batches, prepared ahead on a loader thread as in a run.
    digits: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut lines = std::io::stdin().lock().lines();
    let case: Case = serde_json::from_str(&lines.next().ok_or("the first line is the case")??)?;
    tch::set_num_threads(1);
    let mut bench = Bench::new(&case)?;
    answer(&bench.describe())?;
    for line in lines {
        let line = line?;
        let (what, count) = line.split_once(' ').ok_or("a request is a word and a number")?;
        let count: u64 = count.parse()?;
        answer(&match what {
            "steps" => bench.steps(count)?,
            "reduce" => json!({ "ms": reduce::milliseconds(&bench.buffer()?, count)? }),
            _ => return Err(format!("{what} is no request").into()),
        })?;
    }
    Ok(())
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
    stitch: Stitch,
    next: u64,
    ahead: BatchTicket,
}

impl Bench {
    fn new(case: &Case) -> Result<Self, Box<dyn Error>> {
        let job = Job::from_scratch(spec(case)?, DeviceKind::Cpu)?;
        let path = |stitch: &&Stitch| {
            stitch.segments.iter().map(|part| (part.anchor.0, part.first, part.last)).eq(case.path.iter().copied())
        };
        let stitch = job.law.catalog.stitches().find(path).ok_or("the space has no such stitch")?.clone();
        let state = State::fresh(&job)?;
        let stepper = Stepper::new(&job);
        let ahead = job.prefetcher.request(0..u64::from(case.images));
        forget_peak();
        Ok(Self { job, state, stepper, stitch, next: 0, ahead })
    }

    fn plan(&self) -> RankPlan {
        let draw = Draw { stitch: self.stitch.id, budget: BudgetId(0), probability: 1.0, reason: Reason::Uniform };
        let plan = Plan::new(Step(self.next), Step(self.next), self.first(), vec![draw], &self.job.law.layout);
        plan.shares(&self.job.law.catalog, 1).swap_remove(0)
    }

    fn first(&self) -> u64 {
        self.next * u64::from(self.job.law.spec.train.batch_size)
    }

    fn describe(&self) -> serde_json::Value {
        let layout = &self.job.law.layout;
        let touched: u64 = layout.touched(self.stitch.id).iter().map(|id| layout.groups[id.index()].numel()).sum();
        json!({ "trained": touched, "catalog": self.job.law.catalog.stitches().count() })
    }

    fn steps(&mut self, count: u64) -> Result<serde_json::Value, Box<dyn Error>> {
        let (mut ms, mut slot_ms, mut loss, mut bytes) = (Vec::new(), Vec::new(), f64::NAN, 0);
        for _ in 0..count {
            let begin = Instant::now();
            let plan = self.plan();
            self.next += 1;
            let coming =
                self.job.prefetcher.request(self.first()..self.first() + u64::from(self.job.law.spec.train.batch_size));
            let ticket = std::mem::replace(&mut self.ahead, coming);
            let mut timings = Timings::default();
            let buffer = self.stepper.accumulate(&self.job, &self.state, &plan, vec![ticket], &mut timings)?;
            bytes = buffer.bytes();
            let report = self.stepper.apply(&mut self.state, &plan, buffer);
            ms.push(begin.elapsed().as_secs_f64() * 1e3);
            slot_ms.push(timings.compute.as_secs_f64() * 1e3);
            loss = report.outcomes[0].loss;
        }
        Ok(json!({ "ms": ms, "slot_ms": slot_ms, "loss": loss, "bytes": bytes, "peak_rss": peak_rss() }))
    }

    /// A step's buffer, as it is reduced.
    fn buffer(&mut self) -> Result<tch::Tensor, Box<dyn Error>> {
        let size = u64::from(self.job.law.spec.train.batch_size);
        let ticket = self.job.prefetcher.request(0..size);
        let buffer =
            self.stepper.accumulate(&self.job, &self.state, &self.plan(), vec![ticket], &mut Timings::default())?;
        Ok(buffer.tensor())
    }
}

fn spec(case: &Case) -> Result<JobSpec, serde_json::Error> {
    let anchor =
        |(number, arch): (usize, &VitArch)| json!({ "name": number.to_string(), "arch": arch, "weights": "-" });
    serde_json::from_value(json!({
        "name": "bench",
        "output_dir": std::env::temp_dir().join("esta-bench"),
        "mode": case.mode,
        "family": {
            "anchors": case.anchors.iter().enumerate().map(anchor).collect::<Vec<_>>(),
            "stitch_init": { "samples": 16, "ridge": 1e-3 },
        },
        "budgets": { "gap": 1e6 },
        "sampling": { "slots": 1 },
        "reduce": { "kind": case.reduce },
        "train": { "max_steps": 1_000_000, "batch_size": case.images },
        "data": { "num_classes": case.classes, "train": { "layout": "digits_csv", "path": case.digits } },
    }))
}

/// Peak resident bytes since [`forget_peak`]; 0 where the system does not say.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).map_or(0, |kib: u64| kib * 1024)
}

/// Loading and fitting are not what is measured.
fn forget_peak() {
    // Where the system has no such file the peak covers the loading, too.
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}
