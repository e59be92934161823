//! `palette` (HANDS): what would be deployed, from a live run or from a run's folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use esta_client::Client;
use esta_engine::{budget::Price, law::Law, spec::PaletteRule};
use esta_proto::v1::PaletteRequest;
use tonic::{Code, Status};

use super::{
    Format,
    live::{Answer, Patience, Server, unintelligible},
    outcome::{UNKNOWN, cells, columns, file, percent, titles},
    pull::{self, PullArgs},
    record::Recorded,
    say,
    store::StoreTlsArgs,
};
use crate::{
    artifacts::summary::{EvalFile, read_optional},
    failure::Failure,
    palette::{Entry, check_answerable, entries, parse_price, parse_rule},
    store::StoreAddress,
};

/// Arguments of `palette`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct PaletteArgs {
    #[command(subcommand)]
    action: Option<PaletteAction>,
    #[command(flatten)]
    server: Server,
    /// Read a run's folder instead of asking a coordinator.
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    run_dir: Option<PathBuf>,
    /// Where the run's record is when not in its folder, as for `serve`.
    #[arg(long, value_name = "STORE", requires = "run_dir")]
    store: Option<StoreAddress>,
    #[command(flatten)]
    store_tls: StoreTlsArgs,
    /// Only the best stitch of at most this latency, such as 12ms or 0.8s, of at most this many parameters, such as 8B or
    /// 350Mparams, or of at most this many MACs, such as 4.6G.
    #[arg(long, value_name = "COST", value_parser = parse_price)]
    at_most: Option<Price>,
    /// Take latencies from this file of `esta-worker profile`. When absent: the job's own where its budgets are latencies,
    /// else latency.json in the run's folder.
    #[arg(long, value_name = "FILE", requires = "run_dir")]
    latency: Option<PathBuf>,
    /// The rule that chooses: snip, loss or auto; the job's own when absent.
    #[arg(long, value_name = "RULE", value_parser = parse_rule)]
    rule: Option<PaletteRule>,
    /// How the list is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// What else can be done with a palette.
#[derive(Debug, Subcommand)]
enum PaletteAction {
    /// Take a finished run's palette away: what describes it, and every exported model.
    Pull(PullArgs),
}

pub(super) async fn palette(args: PaletteArgs) -> Result<(), Failure> {
    if let Some(PaletteAction::Pull(args)) = &args.action {
        return pull::pull(args).await;
    }
    let entries = match &args.run_dir {
        Some(run_dir) => from_record(run_dir, &args).await?,
        None => from_coordinator(&args).await?,
    };
    match (args.format, args.at_most) {
        (Format::Json, _) => say(&serde_json::to_string_pretty(&entries).expect("an entry has no key that JSON lacks")),
        (Format::Table, Some(most)) if entries.is_empty() => Err(Failure::Other(match most {
            Price::Macs(macs) => format!("no visited stitch costs at most {macs} MACs"),
            Price::Params(params) => format!("no visited stitch has at most {params} parameters"),
            Price::Latency(latency) => format!("no visited stitch takes at most {latency}"),
        })),
        (Format::Table, _) => say(&table(&entries)),
    }
}

async fn from_coordinator(args: &PaletteArgs) -> Result<Vec<Entry>, Failure> {
    let rule = args.rule.map(PaletteRule::name).unwrap_or_default().to_owned();
    let mut request = PaletteRequest { rule, ..PaletteRequest::default() };
    match args.at_most {
        Some(Price::Macs(macs)) => request.at_most = Some(macs),
        Some(Price::Params(params)) => request.at_most_params = Some(params),
        Some(Price::Latency(latency)) => request.at_most_milliseconds = Some(latency.millis()),
        None => {}
    }
    let refused = |status: &Status| {
        (status.code() == Code::FailedPrecondition).then(|| Failure::Other(status.message().to_owned()))
    };
    let call = |mut client: Client| {
        let request = request.clone();
        async move { client.palette(request).await }
    };
    let Answer { url, body } = args.server.ask(Patience::Short, call, refused).await?;
    serde_json::from_str(&body.json).map_err(|error| unintelligible(&url, &error))
}

/// Derives the table again from the record: it is the truth, with or without `palette.json` beside it.
async fn from_record(run_dir: &Path, args: &PaletteArgs) -> Result<Vec<Entry>, Failure> {
    let recorded = Recorded::open(Some(run_dir), args.store_tls.reach(args.store.as_ref()).as_ref()).await?;
    let [ledger] = recorded.ledgers([recorded.recovered.steps.len() as u64])?;
    let law = recorded.law;
    let rule = args.rule.unwrap_or(law.spec.palette.rule);
    let law = timed(&law, run_dir, args.latency.as_deref())?;
    check_answerable(&law.catalog, args.at_most, &run_dir.display().to_string()).map_err(Failure::Other)?;
    let entries = entries(&law, ledger.table(), rule, args.at_most);
    let eval: Option<EvalFile> =
        read_optional(&run_dir.join("eval.json")).map_err(|error| Failure::Other(format!("eval.json: {error}")))?;
    Ok(entries.into_iter().map(|entry| entry.evaluated(eval.as_ref(), run_dir)).collect())
}

/// The law with the latencies that are known of its stitches: a given file's, its own, or those in the run's folder.
fn timed(law: &Law, run_dir: &Path, given: Option<&Path>) -> Result<Law, Failure> {
    let beside = run_dir.join("latency.json");
    let file = match given {
        Some(given) => given,
        None if !law.catalog.knows_latencies() && beside.is_file() => &beside,
        None => return Ok(law.clone()),
    };
    let latencies = esta_config::latencies(file, &law.catalog)?;
    Ok(Law { catalog: Arc::new(law.catalog.with_latencies(&latencies)), ..law.clone() })
}

fn table(entries: &[Entry]) -> String {
    let Some(first) = entries.first() else { return "nothing has been visited yet".to_owned() };
    let mut header = vec!["bin".to_owned()];
    header.extend(titles(first.rule, first.choice.latency.is_some()));
    header.extend(["accuracy", "file"].map(str::to_owned));
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(entries.iter().map(row)).collect();
    columns(&that_say_something(&rows))
}

fn row(entry: &Entry) -> Vec<String> {
    [vec![entry.choice.budget.to_string()], cells(entry), vec![percent(entry.accuracy), file(entry)]].concat()
}

/// Without the columns that no row knows.
fn that_say_something(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let known = |column: usize| rows.iter().skip(1).any(|row| row[column] != UNKNOWN);
    let kept: Vec<usize> = (0..rows[0].len()).filter(|&column| known(column)).collect();
    rows.iter().map(|row| kept.iter().map(|&column| row[column].clone()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use esta_engine::{latency::Latency, palette::Choice};
    use esta_proto::{BudgetId, StitchId};

    use super::*;

    fn entry(accuracy: Option<f64>) -> Entry {
        let (budget, stitch) = (BudgetId(1), StitchId(7));
        let choice = Choice { budget, stitch, macs: 2_000_000, params: 30_000, latency: None, value: 0.5 };
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

    #[test]
    fn latencies_are_shown_where_they_are_known() {
        let mut timed = entry(None);
        timed.choice.latency = Latency::from_millis(12.3);
        let expected = "bin  stitch  path         MACs   params   latency       snip\n  \
             1       7  s[0]>m[1]  2.00 M  30.00 k  12.30 ms  5.0000e-1\n";
        assert_eq!(table(&[timed]), expected);
    }
}
