//! `run` (HANDS): a coordinator and its workers on one machine.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use clap::Args;
use esta_client::DeviceKind;
use esta_config::JobArgs;

use super::{
    children::{Crew, Farewell, Gone},
    exposure::ExposureArgs,
    law,
    sitting::{Interrupts, Sitting, answer_for},
};
use crate::{
    coordinator::{Front, Opened},
    failure::Failure,
    leader::Ending,
    rpc::Entrance,
    store::record_in,
};

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    job: JobArgs,
    /// Worker processes to start on this machine.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: u32,
    /// Where the workers' tensors live; with cuda every worker gets a device of its own.
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
    /// Stop, as at a signal, when standard input ends: for a program that starts runs and must not leave any behind.
    #[arg(long)]
    leash: bool,
    #[command(flatten)]
    exposure: ExposureArgs,
}

/// What happened next to a run with children.
enum Next {
    Ended(Ending),
    Gone(Gone),
    Interrupted,
}

pub(super) async fn run(args: RunArgs) -> Result<(), Failure> {
    let devices = args.device.for_each(args.workers)?;
    let interrupts = Interrupts::listen()?;
    let mut interrupts = if args.leash { interrupts.on_leash()? } else { interrupts };
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let law = Arc::new(law(&args.job)?);
    record_in(&law.spec.run_dir())?;
    let mut front = Front::open(Entrance::open(loopback), law.clone()).await?;
    let shown = args.exposure.show(&front)?;
    shown.announce()?;
    let opened = Opened::open(law.clone(), Path::new(&law.spec.run_dir()))?;
    if opened.recovered().complete {
        // Nobody is needed any more: its results are here, or are made of the record.
        return answer_for(&law, &opened, &front)?.show(&law);
    }
    let mut sitting = Sitting::begin(law, &front, opened, args.workers)?;
    let mut crew = Crew::start(&format!("http://{}", front.address()), args.workers, devices.as_deref())?;
    let (ending, deserted) = loop {
        let next = tokio::select! {
            ending = sitting.ended() => Next::Ended(ending),
            Some(gone) = crew.next_gone() => Next::Gone(gone),
            () = interrupts.next() => Next::Interrupted,
        };
        match next {
            Next::Ended(ending) => break (ending, None),
            Next::Interrupted => {
                sitting.stop();
                crew.end();
                break (sitting.ended().await, None);
            }
            Next::Gone(gone) => {
                if crew.is_empty() {
                    // A run that completed in this moment is complete all the same; of any other this is the last line.
                    sitting.stop();
                    break (sitting.ended().await, Some(gone));
                }
                gone.log();
            }
        }
    };
    let farewell = match &ending {
        Ending::Complete | Ending::Failed(_) => Farewell::Told,
        Ending::Store(_) | Ending::Stopped | Ending::Deposed | Ending::Broken(_) => Farewell::Untold,
    };
    front.close().await;
    crew.dismiss(farewell).await;
    let concluded = sitting.papers.conclude(ending, &front);
    match (concluded, deserted) {
        (Err(Failure::Interrupted), Some(gone)) => Err(Failure::Workers(gone.to_string())),
        (concluded, _) => concluded,
    }
}
