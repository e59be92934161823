//! `report` (HANDS): writes `report.html` again.

use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// A run's folder.
    #[arg(long, value_name = "DIR")]
    run_dir: PathBuf,
}

pub(super) fn report(args: &ReportArgs) -> Result<(), Failure> {
    super::say(&crate::report::write(&args.run_dir)?.display().to_string())
}
