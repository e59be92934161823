//! What it costs to be watched (HANDS): traces and metrics to a collector on the same processors, and readers of the page.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, ensure};
use esta_tests::collector::Collector;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use super::{Bench, Stage, milliseconds, row, section, thousands};
use crate::{Cast, Family, Job, quantile};

const RANKS: u32 = 1_000;
const STEPS: u64 = 150;
/// Steps that are left out at the front.
const WARM: u64 = 10;

/// What is done to a run while it runs.
#[derive(Clone, Copy, PartialEq)]
enum Watching {
    Nobody,
    /// This share of the steps is traced, and metrics are pushed.
    Traced(&'static str),
    /// Somebody asks for the state, and somebody else for metrics, one request after the other.
    Read,
}

/// What a run came to, in seconds.
struct Figures {
    waits: Vec<f64>,
    /// Of answers: the state, the metrics.
    answers: [Vec<f64>; 2],
    spans: usize,
}

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    section(&format!(
        "{} ranks in lockstep, strict sampling, watched | not watched; collector, readers and ranks on the same processors",
        thousands(RANKS.into())
    ));
    let mut alone = run(bench, Watching::Nobody).await?;
    for (what, watching, goal) in [
        ("1 % of the steps traced, metrics pushed", Watching::Traced("0.01"), "<= 1.01"),
        ("every step traced, metrics pushed", Watching::Traced("1"), "<= 1.10"),
        ("page and metrics read without pause", Watching::Read, ""),
    ] {
        let mut found = run(bench, watching).await?;
        for q in [0.5, 0.99] {
            let (ours, other) = (quantile(&mut found.waits, q), quantile(&mut alone.waits, q));
            let what = format!("{what}: report to next plan, p{}", 100.0 * q);
            row(&what, &milliseconds(ours), &milliseconds(other), &format!("{:.3}", ours / other), goal);
        }
        if let Watching::Traced(_) = watching {
            row(&format!("{what}: spans that reached the collector"), &found.spans.to_string(), "", "", "");
        }
        for (what, mut answers) in ["/api/state", "/metrics"].into_iter().zip(found.answers) {
            if !answers.is_empty() {
                let count = answers.len();
                let p99 = milliseconds(quantile(&mut answers, 0.99));
                row(&format!("{what} answered, p99 of {count}"), &p99, "", "", "<= 100 ms");
            }
        }
    }
    Ok(())
}

async fn run(bench: &Bench, watching: Watching) -> anyhow::Result<Figures> {
    let job = Job { family: Family::Vit, slots: RANKS, steps: WARM + STEPS, lookahead: 0 };
    let collector = Collector::start()?;
    let environment = match watching {
        Watching::Traced(share) => {
            let mut environment = collector.environment();
            environment.iter_mut().filter(|(name, _)| name == "OTEL_TRACES_SAMPLER_ARG").for_each(|(_, arg)| {
                share.clone_into(arg);
            });
            environment
        }
        Watching::Nobody | Watching::Read => Vec::new(),
    };
    let folder = tempfile::tempdir()?;
    let Stage { mut served, mut crowd, _folder, .. } =
        bench.stage_watched(folder, job, &Cast::of(RANKS), &environment).await?;
    let page = served.heard("page: http://").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<Reader> = match watching {
        Watching::Read => ["/api/state", "/metrics"].map(|path| read(page.clone(), path, stop.clone())).into(),
        Watching::Nobody | Watching::Traced(_) => Vec::new(),
    };
    let mut waits = Vec::new();
    while let Some((step, _)) = crowd.ready().await? {
        let heard = crowd.take_waits();
        if step.0 > WARM {
            waits.extend(heard);
        }
        crowd.finish()?;
    }
    stop.store(true, Ordering::Relaxed);
    let mut answers = [Vec::new(), Vec::new()];
    for (reader, answers) in readers.into_iter().zip(&mut answers) {
        *answers = reader.await.context("a reader broke")??;
    }
    served.finish().await?;
    Ok(Figures { waits, answers, spans: collector.spans().len() })
}

type Reader = JoinHandle<anyhow::Result<Vec<f64>>>;

/// Asks again and again until it is told to stop; answers how long each answer took.
fn read(address: String, path: &'static str, stop: Arc<AtomicBool>) -> Reader {
    tokio::spawn(async move {
        let mut times = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            let mut stream = TcpStream::connect(&address).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            ensure!(answer.starts_with(b"HTTP/1.1 200"), "{path} was answered otherwise");
            times.push(began.elapsed().as_secs_f64());
        }
        Ok(times)
    })
}
