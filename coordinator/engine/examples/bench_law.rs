//! What the law costs, and what a job costs by formula: rows of `make bench`, one JSON object per line.

use std::{
    collections::BTreeMap,
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};

use esta_engine::{
    catalog::Catalog,
    law::Law,
    pace::Pace,
    plan::Plan,
    spec::{JobSpec, Mode, SpecError},
    table::Table,
};
use esta_proto::Step;
use serde_json::json;

const REPETITIONS: usize = 15;
/// AdamW's two moments, in single precision.
const OPTIMIZER_BYTES: u64 = 8;
/// A gradient in single precision.
const GRADIENT_BYTES: u64 = 4;
/// A gradient while it is summed exactly.
const EXACT_BYTES: u64 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    times()?;
    bytes()?;
    Ok(())
}

fn section(title: &str) {
    println!("{}", json!({ "section": title }));
}

fn row(cells: [&str; 5]) {
    println!("{}", json!({ "row": cells }));
}

fn times() -> Result<(), Box<dyn Error>> {
    section("The law's own time");
    for (name, space) in [("esta", "esta"), ("two-way", "twoway")] {
        let spec = job(Mode::Pst, space, 4)?;
        let stitches = Catalog::build(&spec)?.stitches().count();
        let time = median(|| Law::new(spec.clone()).map(|law| law.catalog.id_bound()))?;
        row([&format!("catalog and layout of ViT-Ti/S/B, {name}: {stitches} stitches"), &short(time), "", "", ""]);
    }
    let law = Law::new(job(Mode::Pst, "esta", 1000)?)?;
    let table = Table::new(law.catalog.id_bound(), law.spec.sampling.momentum);
    let none = vec![0; law.catalog.id_bound()];
    let draw = |step: u64| law.sampler.draw_step(Step(step), &table, &none);
    let time = median(|| Ok(draw(black_box(3)).len()))?;
    row(["1,000 draws", &short(time), "", "", ""]);
    let draws = draw(3);
    let time = median(|| {
        let plan = Plan::new(Step(3), Step(2), 0, draws.clone(), &law.layout);
        Ok(plan.shares(&law.catalog, &Pace::default(), &[1.0; 1000], &BTreeMap::new()).len())
    })?;
    row(["a plan of 1,000 slots and its shares for 1,000 ranks", &short(time), "", "", ""]);
    Ok(())
}

fn bytes() -> Result<(), Box<dyn Error>> {
    section("ViT-Ti/S/B by formula, heads of 10 classes included: ESTA | everything trained");
    let ours = Law::new(job(Mode::Pst, "esta", 4)?)?;
    let full = Law::new(job(Mode::Snnet, "esta", 4)?)?;
    let params = [&ours, &full].map(|law| law.layout.trainable_params());
    row(["trained parameters", &params[0].to_string(), &params[1].to_string(), &ratio(params), ""]);
    let without = [&ours, &full].map(|law| law.layout.trainable_params_without_heads());
    row(["the same without heads", &without[0].to_string(), &without[1].to_string(), &ratio(without), ""]);
    let state = params.map(|params| params * (OPTIMIZER_BYTES + GRADIENT_BYTES));
    row(["optimizer state and gradients", &mebibytes(state[0]), &mebibytes(state[1]), &ratio(state), "<= 0.03"]);
    let reduced = [mean_reduced(&ours, EXACT_BYTES), mean_reduced(&full, GRADIENT_BYTES)];
    let what = "reduced per step of 4 slots, mean: int64 | f32";
    row([what, &mebibytes(reduced[0]), &mebibytes(reduced[1]), &ratio(reduced), ""]);
    let everything = params[0] * EXACT_BYTES;
    let sizes = [reduced[0], everything];
    row(["of which touched | a buffer of all groups", &mebibytes(sizes[0]), &mebibytes(sizes[1]), &ratio(sizes), ""]);
    Ok(())
}

/// Bytes of a step's gradients, mean over the first steps of a run: what its draws touch.
fn mean_reduced(law: &Law, bytes_each: u64) -> u64 {
    let table = Table::new(law.catalog.id_bound(), law.spec.sampling.momentum);
    let none = vec![0; law.catalog.id_bound()];
    let steps = 200;
    let bytes = |step: u64| -> u64 {
        let plan = Plan::new(Step(step), Step(step), 0, law.sampler.draw_step(Step(step), &table, &none), &law.layout);
        plan.touched.iter().map(|(group, _)| law.layout.groups[group.index()].numel() * bytes_each).sum()
    };
    (0..steps).map(bytes).sum::<u64>() / steps
}

fn job(mode: Mode, space: &str, slots: u32) -> Result<JobSpec, serde_json::Error> {
    let anchor = |size: &str| json!({ "name": size, "preset": format!("vit_{size}_patch16_224"), "weights": "-" });
    serde_json::from_value(json!({
        "name": "bench",
        "mode": mode,
        "family": { "anchors": [anchor("tiny"), anchor("small"), anchor("base")], "space": { "kind": space } },
        "sampling": { "slots": slots },
        "train": { "max_steps": 1000, "batch_size": 64 * slots },
        "data": { "num_classes": 10, "train": { "layout": "digits_csv", "path": "-" } },
    }))
}

fn median<T>(mut work: impl FnMut() -> Result<T, SpecError>) -> Result<Duration, Box<dyn Error>> {
    let mut times = Vec::with_capacity(REPETITIONS);
    for _ in 0..REPETITIONS {
        let begin = Instant::now();
        black_box(work()?);
        times.push(begin.elapsed());
    }
    times.sort();
    Ok(times[REPETITIONS / 2])
}

fn short(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn ratio([ours, theirs]: [u64; 2]) -> String {
    format!("{:.4}", ours as f64 / theirs as f64)
}
