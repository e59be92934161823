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
    let header = ["id", "path", "MACs", "params", "bin"].map(str::to_owned).to_vec();
    let row = |stitch: &Stitch| {
        let (macs, params) = (show_cost(stitch.macs), show_cost(stitch.params));
        vec![stitch.id.to_string(), stitch.path(&law.spec.family), macs, params, stitch.budget.to_string()]
    };
    let rows: Vec<_> = std::iter::once(header).chain(law.catalog.stitches().map(row)).collect();
    columns(&rows)
}
