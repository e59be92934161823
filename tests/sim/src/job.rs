//! The job that is simulated: two small anchors, steps of a few slots, a checkpoint now and then.

use std::{num::NonZeroU64, sync::Arc};

use esta_engine::{
    law::Law,
    order::{DataOrder, EpochCache, Visit},
    run::{Ledger, Report, StepRecord, StepTimings, Teller},
    spec::JobSpec,
    table::Outcome,
};
use esta_proto::{Digest, SlotId, Step, StitchId};

/// Samples of the training set: an epoch ends in the middle of a step.
pub const SAMPLES: u64 = 101;

const SPEC: &str = r#"{
    "name": "sim", "seed": 7,
    "family": { "anchors": [
        { "name": "a", "weights": "a", "arch": { "image_size": 8, "patch_size": 4, "embed_dim": 4, "depth": 3, "num_heads": 2 } },
        { "name": "b", "weights": "b", "arch": { "image_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 3, "num_heads": 2 } }
    ] },
    "budgets": { "gap": 2000 },
    "sampling": { "slots": 4, "lookahead": 1 },
    "train": { "max_steps": 150, "batch_size": 8, "save_steps": 10, "save_total_limit": 2 },
    "data": { "num_classes": 3, "train": { "layout": "idx", "path": "x" } }
}"#;

/// The law of the job with this lookahead.
#[must_use]
pub fn law(lookahead: u32) -> Arc<Law> {
    changed(|spec| spec.sampling.lookahead = lookahead)
}

/// The law of the job with so many steps of so many slots and a checkpoint every few hundred of them.
#[must_use]
pub fn long(steps: u64, slots: u32) -> Arc<Law> {
    changed(|spec| {
        (spec.train.max_steps, spec.train.save_steps) = (Some(steps), 500);
        (spec.sampling.slots, spec.train.batch_size) = (slots, 2 * slots);
    })
}

/// The same with steps of many seconds, so heartbeats and what waits for them are rarer.
#[must_use]
pub fn slow(steps: u64, slots: u32) -> Arc<Law> {
    changed(|spec| {
        (spec.train.max_steps, spec.train.save_steps) = (Some(steps), 500);
        (spec.sampling.slots, spec.train.batch_size) = (slots, 2 * slots);
        (spec.timeouts.heartbeat, spec.timeouts.keepalive) = (4.0, 15.0);
    })
}

fn changed(change: impl FnOnce(&mut JobSpec)) -> Arc<Law> {
    let mut spec: JobSpec = serde_json::from_str(SPEC).expect("the job parses");
    change(&mut spec);
    Arc::new(Law::new(spec).expect("the job is valid"))
}

/// The adapters of a rank, as far as anybody can tell them apart: everything that was applied, in order.
pub type Chain = Digest;

/// What a slot reports: a function of everything it depends on, the adapters and what it `read` above all.
#[must_use]
pub fn slot(chain: Chain, step: Step, read: &[Visit], slot: SlotId, stitch: StitchId) -> Outcome {
    let visits: Vec<u8> = read.iter().flat_map(|visit| [visit.epoch, visit.index]).flat_map(u64::to_le_bytes).collect();
    let hash = hash(&[&chain.0, &step.0.to_le_bytes(), &visits, &slot.0.to_le_bytes(), &stitch.0.to_le_bytes()]);
    let number =
        |at: usize| 0.1 + f64::from(u32::from_le_bytes(hash.0[at..at + 4].try_into().expect("four bytes"))) / 1e9;
    // One step in about a hundred has a gradient that is not finite.
    let valid = slot.0 != 0 || hash.0[12] > 2;
    Outcome { score: number(0), loss: number(4), grad_norm: number(8), valid }
}

/// The order in which the samples of a job are visited.
#[must_use]
pub fn order(law: &Law) -> EpochCache {
    let len = NonZeroU64::new(SAMPLES).expect("there are samples");
    EpochCache::new(DataOrder { seed: law.spec.seed, len })
}

/// What a slot of a step reads that begins with this sample.
#[must_use]
pub fn reads(law: &Law, order: &mut EpochCache, first_sample: u64, slot: SlotId) -> Vec<Visit> {
    let each = u64::from(law.spec.train.batch_size / law.spec.sampling.slots);
    let first = first_sample + u64::from(slot.0) * each;
    (first..first + each).map(|counter| order.sample(counter)).collect()
}

/// The adapters after a step whose slots came to these outcomes.
#[must_use]
pub fn apply(chain: Chain, step: Step, outcomes: &[Outcome]) -> Chain {
    let bits: Vec<u8> = outcomes.iter().flat_map(|outcome| outcome.score.to_bits().to_le_bytes()).collect();
    hash(&[&chain.0, &step.0.to_le_bytes(), &bits])
}

fn hash(parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// The records of a run that nothing disturbs: one process, one step after another.
#[must_use]
pub fn calm(law: &Arc<Law>) -> Vec<StepRecord> {
    let total = law.total_steps(SAMPLES);
    let mut ledger = Ledger::new(law.clone(), total);
    let (mut chain, mut order) = (Chain::default(), order(law));
    let mut records = Vec::new();
    for step in (0..total).map(Step) {
        let plan = ledger.plan(step).expect("a plan is drawn in the moment its table exists");
        let draws = (0..).map(SlotId).zip(&plan.draws);
        let outcomes: Vec<Outcome> = draws
            .map(|(number, draw)| {
                let read = reads(law, &mut order, plan.first_sample, number);
                slot(chain, step, &read, number, draw.stitch)
            })
            .collect();
        chain = apply(chain, step, &outcomes);
        let report = Report { step, plan: plan.digest, reduced: chain, outcomes, timings: StepTimings::default() };
        ledger.accept(&report, Teller::Rank);
        records.extend(ledger.commit_ready(step.next(), |_| None));
    }
    records
}
