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

use super::{
    Format, Server,
    outcome::{UNKNOWN, cells, columns, file, percent},
    say,
};
use crate::{
    artifacts::summary::{EvalFile, read_optional},
    failure::Failure,
    palette::{Entry, entries, parse_cost, parse_rule},
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
    let rule = args.rule.map(PaletteRule::name).unwrap_or_default().to_owned();
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
    let entries = entries(&law, ledger.table(), rule, args.at_most);
    let eval: Option<EvalFile> =
        read_optional(&run_dir.join("eval.json")).map_err(|error| Failure::Other(format!("eval.json: {error}")))?;
    Ok(entries.into_iter().map(|entry| entry.evaluated(eval.as_ref(), run_dir)).collect())
}

fn table(entries: &[Entry]) -> String {
    let rule = entries.first().map_or("value", |entry| entry.rule.name());
    let header = ["bin", "stitch", "path", "MACs", "params", rule, "accuracy", "file"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(entries.iter().map(row)).collect();
    columns(&that_say_something(&rows))
}

fn row(entry: &Entry) -> Vec<String> {
    [vec![entry.choice.budget.to_string()], cells(entry).to_vec(), vec![percent(entry.accuracy), file(entry)]].concat()
}

/// Without the columns that no row knows.
fn that_say_something(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let known = |column: usize| rows.iter().skip(1).any(|row| row[column] != UNKNOWN);
    let kept: Vec<usize> = (0..rows[0].len()).filter(|&column| known(column)).collect();
    rows.iter().map(|row| kept.iter().map(|&column| row[column].clone()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use esta_engine::palette::Choice;
    use esta_proto::{BudgetId, StitchId};

    use super::*;

    fn entry(accuracy: Option<f64>) -> Entry {
        let choice = Choice { budget: BudgetId(1), stitch: StitchId(7), macs: 2_000_000, params: 30_000, value: 0.5 };
        Entry { choice, path: "s[0]>m[1]".into(), rule: PaletteRule::Snip, accuracy, file: None }
    }

    #[test]
    fn accuracies_are_shown_where_any_is_known() {
        let measured = table(&[entry(Some(0.6814)), entry(None)]);
        assert_eq!(
            measured,
            "bin  stitch  path         MACs   params       snip  accuracy\n  \
             1       7  s[0]>m[1]  2.00 M  30.00 k  5.0000e-1   68.14 %\n  \
             1       7  s[0]>m[1]  2.00 M  30.00 k  5.0000e-1         -\n"
        );
        assert!(!table(&[entry(None)]).contains("accuracy"));
    }
}
