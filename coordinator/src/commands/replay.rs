//! `replay` (HANDS): any plan of a run and the table it was drawn from, derived again from the record.

use std::path::PathBuf;

use clap::Args;
use esta_engine::{
    plan::Plan,
    run::{Ledger, StepRecord},
};
use esta_proto::{Digest, Step};
use serde_json::{Value, json};

use super::{Format, outcome::columns, record::Recorded, say, store::StoreTlsArgs};
use crate::{failure::Failure, store::StoreAddress};

/// Rows of the table that are shown for reading; all of them go to programs.
const SHOWN: usize = 20;

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The run's folder; no coordinator may have its record open.
    #[arg(long, value_name = "DIR", required_unless_present = "store")]
    run_dir: Option<PathBuf>,
    /// Where the record is when not in the run's folder, as for `serve`.
    #[arg(long, value_name = "STORE", env = "ESTA_STORE", conflicts_with = "run_dir")]
    store: Option<StoreAddress>,
    #[command(flatten)]
    store_tls: StoreTlsArgs,
    /// The step whose plan is derived; the last one on record when absent.
    #[arg(long, value_name = "N")]
    step: Option<u64>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What a replay came to.
struct Replay {
    /// The plan as it derives from the record before it.
    plan: Plan,
    /// The step as it was committed; none when it is only due.
    record: Option<StepRecord>,
    /// The ledger whose table the plan was drawn from.
    before: Ledger,
    /// Digest of that ledger's table.
    table: Digest,
    /// Committed steps of the last snapshot, where the replay reaches it: its table was compared.
    compared: Option<Step>,
}

pub(super) async fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    let recorded = Recorded::open(args.run_dir.as_deref(), args.store_tls.reach(args.store.as_ref()).as_ref()).await?;
    let replay = derive(&recorded, args.step)?;
    match args.format {
        Format::Json => say(&format!("{:#}", describe(&recorded, &replay))),
        Format::Table => say(&text(&recorded, &replay)),
    }
}

fn derive(recorded: &Recorded, step: Option<u64>) -> Result<Replay, Failure> {
    let steps = &recorded.recovered.steps;
    let known = steps.len() as u64;
    let step = step.unwrap_or(known.saturating_sub(1));
    if step > known {
        return Err(Failure::Other(format!("step {step} is not on record yet: {known} steps are")));
    }
    // With plans ahead the table behind a plan is older than the step.
    let version = step.saturating_sub(u64::from(recorded.law.spec.sampling.lookahead));
    let [before, drawing] = recorded.ledgers([version, step])?;
    let plan = drawing.plan(Step(step));
    let plan = plan.ok_or_else(|| Failure::Other(format!("the run has no step {step}: it ends before")))?;
    let record = steps.get(step as usize).cloned();
    if let Some(record) = record.as_ref().filter(|record| record.draws != plan.draws) {
        let why = format!("step {} is on record with other draws than derive from the steps before it", record.step);
        return Err(Failure::Diverged(why));
    }
    let compared = compare_snapshot(recorded, drawing)?;
    let table = digest(&before);
    Ok(Replay { plan, record, before, table, compared })
}

/// The snapshot from which a coordinator would go on has to be what its steps make.
fn compare_snapshot(recorded: &Recorded, ledger: Ledger) -> Result<Option<Step>, Failure> {
    let Some(snapshot) = &recorded.recovered.snapshot else { return Ok(None) };
    let (wanted, there) = (snapshot.committed.0, recorded.recovered.steps.len() as u64);
    if wanted > there {
        let why = format!("the snapshot is of {wanted} steps, and {there} are on record");
        return Err(Failure::Diverged(why));
    }
    // One step more than the step asked for, or any before it.
    if wanted > ledger.committed().0 + 1 {
        return Ok(None);
    }
    let from = if wanted < ledger.committed().0 { recorded.ledgers([wanted])? } else { [ledger] };
    let [mut derived] = from;
    if derived.committed().0 < wanted {
        let next = recorded.recovered.steps[derived.committed().index()].clone();
        derived.replay_step(next).map_err(|error| Failure::Diverged(error.to_string()))?;
    }
    if derived.snapshot() != *snapshot {
        let why = format!("the snapshot after {} steps is not what they make", snapshot.committed);
        return Err(Failure::Diverged(why));
    }
    Ok(Some(snapshot.committed))
}

/// Every bit of a table.
fn digest(ledger: &Ledger) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for row in ledger.table().rows() {
        let floats = [row.importance, row.loss, row.grad_norm, row.effect, Some(row.effect_weight)];
        for bits in
            floats.map(|float| float.map_or(u64::MAX, f64::to_bits)).into_iter().chain([row.visits, row.real_visits])
        {
            hasher.update(&bits.to_le_bytes());
        }
    }
    Digest(*hasher.finalize().as_bytes())
}

fn describe(recorded: &Recorded, replay: &Replay) -> Value {
    let path = |stitch| recorded.law.catalog.get(stitch).map(|stitch| stitch.path(&recorded.law.spec.family));
    let slots = replay.plan.draws.iter().enumerate().map(|(slot, draw)| {
        let outcome = replay.record.as_ref().and_then(|record| record.outcomes.get(slot));
        json!({
            "slot": slot,
            "stitch": draw.stitch,
            "path": path(draw.stitch),
            "budget": draw.budget,
            "probability": draw.probability,
            "reason": draw.reason,
            "outcome": outcome,
        })
    });
    json!({
        "step": replay.plan.step,
        "plan_digest": replay.plan.digest,
        "table_version": replay.plan.table_version,
        "table_digest": replay.table,
        "first_sample": replay.plan.first_sample,
        "slots": slots.collect::<Vec<_>>(),
        "committed": replay.record.is_some(),
        "reduced_digest": replay.record.as_ref().map(|record| record.reduced),
        "snapshot_compared": replay.compared,
        "table": replay.before.table().rows(),
    })
}

fn text(recorded: &Recorded, replay: &Replay) -> String {
    let (catalog, family) = (&recorded.law.catalog, &recorded.law.spec.family);
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4e}"));
    let path = |stitch| catalog.get(stitch).map_or_else(String::new, |stitch| stitch.path(family));
    let mut slots = vec![
        ["slot", "stitch", "path", "budget", "probability", "reason", "score", "loss"].map(str::to_owned).to_vec(),
    ];
    for (slot, draw) in replay.plan.draws.iter().enumerate() {
        let outcome = replay.record.as_ref().and_then(|record| record.outcomes.get(slot));
        slots.push(vec![
            slot.to_string(),
            draw.stitch.to_string(),
            path(draw.stitch),
            draw.budget.to_string(),
            format!("{:.4}", draw.probability),
            serde_json::to_value(draw.reason).ok().and_then(|word| Some(word.as_str()?.to_owned())).unwrap_or_default(),
            number(outcome.map(|outcome| outcome.score)),
            number(outcome.map(|outcome| outcome.loss)),
        ]);
    }
    let mut rows: Vec<_> = catalog.stitches().map(|stitch| (stitch, replay.before.table().row(stitch.id))).collect();
    rows.sort_by(|a, b| {
        b.1.importance.unwrap_or(f64::NEG_INFINITY).total_cmp(&a.1.importance.unwrap_or(f64::NEG_INFINITY))
    });
    let mut table = vec![["stitch", "path", "importance", "visits", "loss", "effect"].map(str::to_owned).to_vec()];
    for (stitch, row) in rows.iter().take(SHOWN) {
        table.push(vec![
            stitch.id.to_string(),
            stitch.path(family),
            number(row.importance),
            row.visits.to_string(),
            number(row.loss),
            number(row.effect),
        ]);
    }
    let derived = match &replay.record {
        Some(record) => format!("as on record; reduced to {}", record.reduced),
        None => "not committed yet".to_owned(),
    };
    let snapshot = replay
        .compared
        .map_or_else(String::new, |step| format!("the snapshot after {step} steps is what they make, bit for bit\n"));
    format!(
        "step {}, drawn from the table after {} steps, first sample {}\nplan {} ({derived})\ntable {}\n{snapshot}\n{}\n{} of {} stitches by importance\n{}",
        replay.plan.step,
        replay.plan.table_version,
        replay.plan.first_sample,
        replay.plan.digest,
        replay.table,
        columns(&slots),
        rows.len().min(SHOWN),
        rows.len(),
        columns(&table),
    )
}
