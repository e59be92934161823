//! `palette` (HANDS): what would be deployed, from a live run or from a run's folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use esta_engine::{
    law::Law,
    run::Ledger,
    spec::{JobSpec, PaletteRule},
};
use esta_proto::v1::PaletteRequest;

use super::{Format, Server, outcome::columns, say};
use crate::{
    failure::Failure,
    palette::{Entry, entries, parse_cost, parse_rule, rule_name, show_cost},
    store,
};

/// Arguments of `palette`.
#[derive(Debug, Args)]
pub struct PaletteArgs {
    #[command(flatten)]
    server: Server,
    /// Read a run's folder instead of asking a coordinator.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    run_dir: Option<PathBuf>,
    /// Only the best stitch of at most this many MACs, such as 4.6G or 800M.
    #[arg(long, value_name = "COST", value_parser = parse_cost)]
    at_most: Option<u64>,
    /// The rule that chooses: snip or loss; the job's own when absent.
    #[arg(long, value_name = "RULE", value_parser = parse_rule)]
    rule: Option<PaletteRule>,
    /// How the list is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) async fn palette(args: PaletteArgs) -> Result<(), Failure> {
    let entries = match &args.run_dir {
        Some(run_dir) => from_record(run_dir, &args)?,
        None => from_coordinator(&args).await?,
    };
    match (args.format, args.at_most) {
        (Format::Json, _) => say(&serde_json::to_string_pretty(&entries).expect("an entry has no key that JSON lacks")),
        (Format::Table, Some(macs)) if entries.is_empty() => {
            Err(Failure::Other(format!("no visited stitch costs at most {macs} MACs")))
        }
        (Format::Table, _) => say(&table(&entries)),
    }
}

async fn from_coordinator(args: &PaletteArgs) -> Result<Vec<Entry>, Failure> {
    let server = &args.server;
    let rule = args.rule.map(rule_name).unwrap_or_default().to_owned();
    let answer = server.connect().await?.palette(PaletteRequest { at_most: args.at_most, rule }).await;
    let json = answer.map_err(|status| server.refused(&status))?.into_inner().json;
    serde_json::from_str(&json).map_err(|error| server.failed(&error))
}

/// Derives the table again from the record: it is the truth, with or without `palette.json` beside it.
fn from_record(run_dir: &Path, args: &PaletteArgs) -> Result<Vec<Entry>, Failure> {
    let (meta, recovered) = store::read_only(run_dir)?;
    let damaged = |why: String| Failure::Other(format!("the record in {} is damaged: {why}", run_dir.display()));
    let spec: JobSpec = serde_json::from_str(&meta.spec_json).map_err(|error| damaged(error.to_string()))?;
    let law = Arc::new(Law::new(spec).map_err(|error| damaged(error.to_string()))?);
    let total = recovered.samples.map_or(0, |samples| law.total_steps(samples));
    let ledger =
        Ledger::replay(law.clone(), total, recovered.steps).map_err(|error| Failure::Diverged(error.to_string()))?;
    let rule = args.rule.unwrap_or(law.spec.palette.rule);
    Ok(entries(&law, ledger.table(), rule, args.at_most))
}

fn table(entries: &[Entry]) -> String {
    let rule = entries.first().map_or("value", |entry| rule_name(entry.rule));
    let header = ["bin", "stitch", "path", "MACs", "params", rule].map(str::to_owned).to_vec();
    let row = |entry: &Entry| {
        let choice = &entry.choice;
        let costs = [show_cost(choice.macs), show_cost(choice.params), format!("{:.4e}", choice.value)];
        let mut row = vec![choice.budget.to_string(), choice.stitch.to_string(), entry.path.clone()];
        row.extend(costs);
        row
    };
    columns(&std::iter::once(header).chain(entries.iter().map(row)).collect::<Vec<_>>())
}
