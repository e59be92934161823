//! `serve` (HANDS): leads a run for workers that connect from anywhere.

use std::net::SocketAddr;

use clap::Args;
use esta_config::JobArgs;

use super::{
    law, say,
    sitting::{Interrupts, Sitting},
};
use crate::failure::Failure;

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// Workers the run waits for before its first step.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
}

pub(super) async fn serve(args: ServeArgs) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    let mut sitting = Sitting::begin(law(&args.job)?, args.listen, args.workers).await?;
    say(&format!("listening on {}", sitting.url()))?;
    let ending = tokio::select! {
        ending = sitting.ended() => Some(ending),
        () = interrupts.next() => None,
    };
    let ending = match ending {
        Some(ending) => ending,
        None => {
            sitting.stop();
            sitting.ended().await
        }
    };
    sitting.conclude(ending)
}
