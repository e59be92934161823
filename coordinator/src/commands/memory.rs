//! `memory` (HANDS): what a worker of a language-model job needs, and on which cards it fits.

use clap::Args;
use esta_config::JobArgs;
use esta_engine::{
    law::Law,
    memory::{Bytes, MemoryPlan, Pass},
    spec::{JobSpec, Precision, Shard},
};

use super::{law, outcome::columns, say};
use crate::failure::Failure;

/// Arguments of `memory`.
#[derive(Debug, Args)]
pub struct MemoryArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Memory of the cards in question, in GB.
    #[arg(long, value_name = "GB", value_delimiter = ',', default_value = "24,40,80,141")]
    cards: Vec<f64>,
    /// Ranks of a node, for the rows of `model.shard: node`.
    #[arg(long, value_name = "N", default_value_t = 8)]
    ranks: u32,
}

pub(super) fn memory(args: &MemoryArgs) -> Result<(), Failure> {
    let law = law(&args.job)?;
    let Some(plan) = plan(&law) else {
        return Err(Failure::Other("memory is planned for language models; this family sees images".to_owned()));
    };
    let pass = Pass::at_most(&law.spec);
    say(&format!(
        "one worker, texts of {} tokens, all of them learned: {plan}\n\n{}",
        pass.tokens,
        columns(&table(&law.spec, args))
    ))
}

fn plan(law: &Law) -> Option<MemoryPlan> {
    MemoryPlan::of(law, Pass::at_most(&law.spec), Pass::held_out_at_most(&law.spec))
}

/// A way to use less memory than by default.
#[derive(Debug, Clone, Copy)]
struct Way {
    precision: (Precision, &'static str),
    checkpointing: bool,
    shard: Shard,
}

/// Sharding comes with checkpoints.
fn ways() -> impl Iterator<Item = Way> {
    let kept = [(false, Shard::None), (true, Shard::None), (true, Shard::Node)];
    let precisions = [(Precision::F32, "f32"), (Precision::Bf16, "bf16")].into_iter();
    precisions.flat_map(move |precision| kept.map(|(checkpointing, shard)| Way { precision, checkpointing, shard }))
}

/// What the job's own switches make of it, and on which cards it fits.
fn table(spec: &JobSpec, MemoryArgs { cards, ranks, .. }: &MemoryArgs) -> Vec<Vec<String>> {
    let header = ["precision", "checkpointing", "blocks", "texts of a pass", "needs"].map(str::to_owned);
    let fits = cards.iter().map(|card| format!("{card} GB"));
    let mut rows = vec![header.into_iter().chain(fits).collect::<Vec<_>>()];
    let slot = spec.train.batch_size / spec.sampling.slots;
    let passes: Vec<u32> = [1, 2, 4, 8, 16].into_iter().filter(|passes| slot.is_multiple_of(*passes)).collect();
    for Way { precision: (precision, name), checkpointing, shard } in ways() {
        for &passes in &passes {
            let mut spec = spec.clone();
            spec.train.precision = precision;
            spec.train.gradient_checkpointing = checkpointing;
            spec.train.gradient_accumulation_steps = passes;
            spec.model.shard = shard;
            let Some(plan) = Law::new(spec).ok().and_then(|law| plan(&law)) else { continue };
            let blocks = match shard {
                Shard::None => "on each".to_owned(),
                Shard::Node => format!("over {ranks}"),
            };
            let switch = if checkpointing { "yes" } else { "no" };
            let mut row = vec![name.to_owned(), switch.to_owned(), blocks, (slot / passes).to_string()];
            row.push(Bytes(plan.peak(*ranks)).to_string());
            row.extend(cards.iter().map(|card| verdict(plan.peak(*ranks), *card).to_owned()));
            rows.push(row);
        }
    }
    rows
}

/// A twentieth of a card is the driver's and the allocator's.
fn verdict(needs: u64, card: f64) -> &'static str {
    if needs as f64 <= 0.95e9 * card { "fits" } else { "no" }
}
