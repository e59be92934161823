//! What it costs to be watched (HANDS): traces and metrics to a collector on the same processors, or to one that is not there,
//! and readers of the page, patient ones and others.
//!
//! Every kind of run takes its turn in every round, so that what the machine does meanwhile is every kind's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use esta_tests::{backends::free_address, collector::Collector};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};

use super::{Bench, Stage, milliseconds, row, section, thousands};
use crate::{Cast, Family, Job, mean, quantile};

const RANKS: u32 = 1_000;
const STEPS: u64 = 250;
/// Steps that are left out at the front.
const WARM: u64 = 20;
const ROUNDS: usize = 6;
/// Longer than a state is kept: every answer is made anew.
const SELDOM: Duration = Duration::from_millis(1_100);
/// Readers that take nothing of what they asked for.
const STALLED: usize = 64;

/// What is done to a run while it runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Watching {
    Nobody,
    /// This share of the steps is traced, and metrics are pushed once a second.
    Traced(&'static str),
    /// Every step is traced, to nobody.
    Unheard,
    /// Somebody asks for the state, somebody for metrics and somebody for the page, with this pause between two questions.
    Read(Duration),
    /// Many have asked and take nothing.
    StaredAt,
}

/// Kinds of runs: what is done, in words, the goal for the ratio.
const KINDS: [(Watching, &str, &str); 8] = [
    (Watching::Nobody, "", ""),
    (Watching::Nobody, "not watched either", "1"),
    (Watching::Traced("0.01"), "1 % of the steps traced, metrics pushed", "<= 1.01"),
    (Watching::Traced("1"), "every step traced, metrics pushed", "<= 1.10"),
    (Watching::Unheard, "every step traced, no collector", "<= 1.10"),
    (Watching::Read(SELDOM), "page, state and metrics read once a second", "<= 1.01"),
    (Watching::Read(Duration::ZERO), "the same without pause", ""),
    (Watching::StaredAt, "64 readers that take nothing", "<= 1.01"),
];

/// What is read.
const PATHS: [&str; 3] = ["/api/state", "/metrics", "/"];

/// What runs of a kind came to, in seconds.
#[derive(Default)]
struct Figures {
    waits: Vec<f64>,
    /// Of answers, by path.
    answers: [Vec<f64>; PATHS.len()],
    spans: usize,
}

pub(super) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    section(&format!(
        "{} ranks in lockstep, strict sampling, watched | not watched; collector, readers and ranks on the same processors",
        thousands(RANKS.into())
    ));
    let mut found: [Figures; KINDS.len()] = Default::default();
    for round in 0..ROUNDS {
        // Another one is the first in every round.
        for number in (round..).take(KINDS.len()).map(|turn| turn % KINDS.len()) {
            let (watching, what, _) = KINDS[number];
            run(bench, watching, &mut found[number]).await.with_context(|| format!("round {round}: {what}"))?;
        }
    }
    let [alone, watched @ ..] = &mut found;
    for ((watching, what, goal), figures) in KINDS[1..].iter().zip(watched) {
        let told = |of: &str, ours: f64, other: f64| {
            let what = format!("{what}: report to next plan, {of}");
            row(&what, &milliseconds(ours), &milliseconds(other), &format!("{:.3}", ours / other), goal);
        };
        told("mean", mean(figures.waits.iter().copied()), mean(alone.waits.iter().copied()));
        told("p99", quantile(&mut figures.waits, 0.99), quantile(&mut alone.waits, 0.99));
        if let Watching::Traced(_) = watching {
            row(&format!("{what}: spans that reached the collector"), &figures.spans.to_string(), "", "", "");
        }
        for (path, answers) in PATHS.into_iter().zip(&mut figures.answers) {
            if !answers.is_empty() {
                let count = answers.len();
                let p99 = milliseconds(quantile(answers, 0.99));
                row(&format!("{what}: {path} answered, p99 of {count}"), &p99, "", "", "<= 100 ms");
            }
        }
    }
    Ok(())
}

async fn run(bench: &Bench, watching: Watching, figures: &mut Figures) -> anyhow::Result<()> {
    let job = Job { family: Family::Vit, slots: RANKS, steps: WARM + STEPS, lookahead: 0 };
    let collector = Collector::start()?;
    let environment = match watching {
        Watching::Traced(share) => exports(&collector.environment(), share),
        Watching::Unheard => {
            let nobody = ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("http://{}", free_address()?));
            exports(&[nobody], "1")
        }
        Watching::Nobody | Watching::Read(_) | Watching::StaredAt => Vec::new(),
    };
    let folder = tempfile::tempdir()?;
    let Stage { mut served, mut crowd, _folder, .. } =
        bench.stage_watched(folder, job, &Cast::of(RANKS), &environment).await?;
    let page = served.heard("page: http://").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<Reader> = match watching {
        Watching::Read(pause) => PATHS.map(|path| read(page.clone(), path, pause, stop.clone())).into(),
        _ => Vec::new(),
    };
    let stalled = match watching {
        Watching::StaredAt => stare(&page).await?,
        _ => Vec::new(),
    };
    while let Some((step, _)) = crowd.ready().await? {
        let heard = crowd.take_waits();
        if step.0 > WARM {
            figures.waits.extend(heard);
        }
        crowd.finish()?;
    }
    stop.store(true, Ordering::Relaxed);
    for (reader, answers) in readers.into_iter().zip(&mut figures.answers) {
        answers.extend(reader.await.context("a reader broke")??);
    }
    drop(stalled);
    served.finish().await?;
    figures.spans += collector.spans().len();
    Ok(())
}

/// Exports as a cluster is told to, where the interval between two pushes of metrics is ten times as long.
fn exports(environment: &[(String, String)], share: &str) -> Vec<(String, String)> {
    let endpoint = environment.iter().filter(|(name, _)| name == "OTEL_EXPORTER_OTLP_ENDPOINT").cloned();
    let ours = [("OTEL_TRACES_SAMPLER_ARG", share), ("OTEL_METRIC_EXPORT_INTERVAL", "1000")];
    endpoint.chain(ours.map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
}

type Reader = JoinHandle<anyhow::Result<Vec<f64>>>;

/// Asks again and again until it is told to stop; answers how long each answer took.
fn read(address: String, path: &'static str, pause: Duration, stop: Arc<AtomicBool>) -> Reader {
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
            tokio::time::sleep(pause).await;
        }
        Ok(times)
    })
}

/// Connections on which more is asked than sockets hold, half of them for a stream of states.
async fn stare(address: &str) -> anyhow::Result<Vec<TcpStream>> {
    let mut readers = Vec::new();
    for number in 0..STALLED {
        let stream = TcpStream::connect(address).await?;
        let (path, times) = if number.is_multiple_of(2) { ("/api/events", 1) } else { ("/api/state", 1_000) };
        let question = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").repeat(times);
        stream.writable().await?;
        // The server stops to read as well, so not all of it may leave.
        stream.try_write(question.as_bytes())?;
        readers.push(stream);
    }
    Ok(readers)
}
