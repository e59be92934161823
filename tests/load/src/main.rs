//! `esta-load`: figures of a coordinator under load, as lines of JSON (HANDS).

use std::path::PathBuf;

use clap::Parser;
use esta_load::{Cast, Crowd, Family, Job, Served, mean, quantile};

/// Drives a coordinator with simulated ranks.
#[derive(Debug, Parser)]
struct Args {
    /// The coordinator's program.
    #[arg(long)]
    coordinator: PathBuf,
    #[arg(long, default_value_t = 1000)]
    ranks: u32,
    #[arg(long, default_value_t = 100)]
    steps: u64,
    #[arg(long, default_value_t = 0)]
    lookahead: u32,
    #[arg(long, default_value_t = 100)]
    sessions: u32,
    #[arg(long, default_value_t = 0)]
    slow: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let job = Job { family: Family::Vit, slots: args.ranks, steps: args.steps, lookahead: args.lookahead };
    let served = Served::start(&args.coordinator, &job, args.ranks, folder.path(), &[]).await?;
    let begin = std::time::Instant::now();
    let door = served.door();
    let mut crowd =
        Crowd::enter(&door, &Cast { sessions: args.sessions, slow: args.slow, ..Cast::of(args.ranks) }).await?;
    println!("joined {:?}", begin.elapsed());
    let mut waits = Vec::new();
    let (mut last, mut bytes, mut t0, mut cpu) = (0, [0; 2], begin, served.processor_time()?);
    while let Some((step, _)) = crowd.ready().await? {
        let new = crowd.take_waits();
        if step.0 == 10 {
            bytes = door.traffic().each_way();
            t0 = std::time::Instant::now();
            cpu = served.processor_time()?;
        }
        if step.0 > 10 {
            waits.extend(new);
        }
        if step.0 == 0 {
            println!("first plans {:?}", begin.elapsed());
        }
        if step.0 + 1 == args.steps {
            let now = door.traffic().each_way();
            let n = (args.steps - 11) * u64::from(args.ranks);
            println!("bytes {:?}", [0, 1].map(|way| (now[way] - bytes[way]) as f64 / n as f64));
            println!(
                "step {:?} cpu {:?} rss {} MiB",
                t0.elapsed() / (args.steps - 11) as u32,
                (served.processor_time()? - cpu) / (args.steps - 11) as u32,
                served.memory()? >> 20
            );
        }
        last = step.0;
        crowd.finish()?;
    }
    println!(
        "last {last} mean {:.3} p50 {:.3} p99 {:.3} ms",
        1e3 * mean(waits.iter().copied()),
        1e3 * quantile(&mut waits, 0.5),
        1e3 * quantile(&mut waits, 0.99)
    );
    served.finish().await
}
