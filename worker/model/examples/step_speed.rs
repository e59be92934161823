//! Times a worker's step (one slot, exact reduction, AdamW) on a stitched path; `step_speed.py` is the same step in plain
//! PyTorch. Arguments: images, front width, end width, steps. Weights are random: the arithmetic is the same.

use std::time::Instant;

use esta_engine::catalog::Catalog;
use esta_engine::groups::GroupLayout;
use esta_engine::spec::{JobSpec, ReduceSpec};
use esta_model::{AdamW, ParamStore, Slot, SlotOptions, Start, StepBuffer, StitchedNet, Weights, random_vit, run_slot};
use esta_proto::SlotId;
use serde_json::json;
use tch::{Device, Kind, Tensor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<u32> = std::env::args().skip(1).map(|argument| argument.parse()).collect::<Result<_, _>>()?;
    let [images, front, end, steps] = arguments[..] else { return Err("images front-width end-width steps".into()) };
    tch::set_num_threads(1);
    let spec = spec(front, end)?;
    let catalog = Catalog::build(&spec)?;
    let layout = GroupLayout::new(&catalog, &spec);
    let frozen = frozen(&catalog);
    let start = Start { seed: 1, weights: &frozen, device: Device::Cpu };
    let mut store = ParamStore::new(&layout, start)?;
    let net = StitchedNet::new(&catalog, &store, &frozen, &spec.pst, spec.train.precision)?;
    let half = catalog.stitches().find(|stitch| stitch.segments[0].last == 3 && !stitch.is_anchor());
    let stitch = half.ok_or("no stitch leaves after block 3")?.id;
    let touched: Vec<_> = layout.touched(stitch).iter().map(|&id| (id, 1)).collect();
    let images = Tensor::randn([i64::from(images), 1, 28, 28], (Kind::Float, Device::Cpu));
    let labels = Tensor::zeros([images.size()[0]], (Kind::Int64, Device::Cpu));
    let mut times = Vec::new();
    for _ in 0..steps {
        let begin = Instant::now();
        let slot = Slot { stitch, images: &images, labels: &labels, dropout_seed: 0 };
        let result = run_slot(&net, &store, &slot, &SlotOptions::default())?;
        let ran = begin.elapsed();
        let mut buffer = StepBuffer::new(&store, &touched, 1, &ReduceSpec::default());
        buffer.add_slot(&store, SlotId(0), &result);
        let reduced = buffer.into_reduced(&store);
        let summed = begin.elapsed();
        AdamW::default().step(&mut store, &reduced, 1e-3)?;
        times.push([begin.elapsed(), ran, summed - ran, begin.elapsed() - summed].map(|time| time.as_secs_f64() * 1e3));
    }
    let median = |part: usize| {
        let mut part: Vec<f64> = times.iter().map(|time| time[part]).collect();
        part.sort_by(f64::total_cmp);
        part[part.len() / 2]
    };
    let [step, slot, sum, update] = [0, 1, 2, 3].map(median);
    println!("step {step:.2} ms: slot {slot:.2}, exact sum {sum:.2}, update {update:.2}");
    Ok(())
}

fn spec(front: u32, end: u32) -> Result<JobSpec, serde_json::Error> {
    let anchor = |width: u32| {
        let arch =
            json!({ "image_size": 28, "patch_size": 7, "in_chans": 1, "embed_dim": width, "depth": 8, "num_heads": 3 });
        json!({ "name": format!("w{width}"), "arch": arch, "weights": "-" })
    };
    serde_json::from_value(json!({
        "name": "speed",
        "family": { "anchors": [anchor(front), anchor(end)] },
        "budgets": { "gap": 1e6 },
        "train": { "max_steps": 1 },
        "data": { "num_classes": 10, "train": { "layout": "idx", "path": "-" } },
    }))
}

fn frozen(catalog: &Catalog) -> Weights {
    let mut frozen = Weights::new("random");
    for (number, arch) in catalog.anchors.iter().enumerate() {
        let mut anchor = random_vit(arch, 10, 1);
        anchor.remove("head.weight");
        anchor.remove("head.bias");
        frozen.absorb(&format!("anchors.{number}."), anchor);
    }
    for layer in &catalog.layers {
        let [from, to] = [layer.from, layer.to].map(|anchor| i64::from(catalog.anchors[anchor.index()].embed_dim));
        let name = format!("stitch_layers.{}", layer.id);
        frozen.insert(format!("{name}.weight"), Tensor::randn([to, from], (Kind::Float, Device::Cpu)) * 0.1);
        frozen.insert(format!("{name}.bias"), Tensor::zeros([to], (Kind::Float, Device::Cpu)));
    }
    frozen
}
