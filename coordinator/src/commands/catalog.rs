//! `catalog` (HANDS): the stitches of a job.

use clap::Args;
use esta_config::JobArgs;
use esta_engine::{catalog::Stitch, law::Law};

use super::{Format, law, outcome::columns, say};
use crate::{failure::Failure, palette::show_cost};

/// Arguments of `catalog`.
#[derive(Debug, Args)]
pub struct CatalogArgs {
    #[command(flatten)]
    job: JobArgs,
    /// How the list is written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

pub(super) fn catalog(args: &CatalogArgs) -> Result<(), Failure> {
    let law = law(&args.job)?;
    match args.format {
        Format::Json => {
            let stitches: Vec<&Stitch> = law.catalog.stitches().collect();
            say(&serde_json::to_string_pretty(&stitches).expect("a stitch has no key that JSON lacks"))
        }
        Format::Table => say(&table(&law)),
    }
}

fn table(law: &Law) -> String {
    let latency = law.catalog.knows_latencies().then_some("latency");
    let header =
        ["id", "path", "MACs", "params"].into_iter().chain(latency).chain(["bin"]).map(str::to_owned).collect();
    let row = |stitch: &Stitch| {
        let (macs, params) = (show_cost(stitch.macs), show_cost(stitch.params));
        let mut row = vec![stitch.id.to_string(), stitch.path(&law.spec.family), macs, params];
        row.extend(stitch.latency.map(|latency| latency.to_string()));
        row.push(stitch.budget.to_string());
        row
    };
    let rows: Vec<_> = std::iter::once(header).chain(law.catalog.stitches().map(row)).collect();
    columns(&rows)
}
