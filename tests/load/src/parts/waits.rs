//! How long a trainer waits for its next plan (HANDS): trainers are threads, as a worker's is, and pop a queue.

use std::{
    sync::{Arc, Barrier, mpsc::Receiver},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{Bench, Stage, row, section, thousands};
use crate::{Cast, Family, Job, quantile};

const RANKS: u32 = 2;
/// What a step takes.
const STEP: Duration = Duration::from_millis(2);
/// Plans that are in hand while a step commits.
const LOOKAHEAD: u32 = 8;

/// L5.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let steps = bench.wait_steps;
    let title = "Wait for the next plan on a trainer's thread, steps of 2 ms, eight plans ahead";
    section(&format!("{title}, {} steps of {RANKS} ranks", thousands(steps)));
    let job = Job { family: Family::Vit, slots: 8, steps, lookahead: LOOKAHEAD };
    let Stage { served, mut crowd, _folder, .. } = bench.stage(job, &Cast::of(RANKS)).await?;
    let (done, mut over) = mpsc::unbounded_channel();
    let together = Arc::new(Barrier::new(RANKS as usize));
    let trainers: Vec<_> = crowd
        .tap()
        .into_iter()
        .map(|queue| {
            let (together, done) = (together.clone(), done.clone());
            thread::spawn(move || train(&queue, steps, &together, &done))
        })
        .collect();
    drop(done);
    while crowd.listen_while(over.recv()).await?.is_some() {
        crowd.finish()?;
    }
    while crowd.ready().await?.is_some() {}
    served.finish().await?;
    let waits: Vec<(f64, bool)> = trainers.into_iter().filter_map(|trainer| trainer.join().ok()).flatten().collect();
    let starved = waits.iter().filter(|(_, starved)| *starved).count();
    let mut seconds: Vec<f64> = waits.iter().map(|(wait, _)| *wait).collect();
    for (q, name, goal) in [(0.5, "p50", ""), (0.99, "p99", "<= 50 us")] {
        let wait = format!("{:.1} us", 1e6 * quantile(&mut seconds, q));
        row(&format!("wait for the next plan, {name}"), &wait, "", "", goal);
    }
    row(
        &format!("times that a queue was empty, of {}", thousands(waits.len() as u64)),
        &starved.to_string(),
        "",
        "",
        "0",
    );
    Ok(())
}

/// Pops a plan, computes, meets the others, and says so; what each pop took, and whether nothing was there.
fn train(queue: &Receiver<()>, steps: u64, together: &Barrier, done: &mpsc::UnboundedSender<()>) -> Vec<(f64, bool)> {
    let mut waits = Vec::new();
    for step in 0..steps {
        let asked = Instant::now();
        let starved = queue.try_recv().is_err();
        if starved && queue.recv().is_err() {
            break;
        }
        // The first plans come when everybody is there.
        if step > 0 {
            waits.push((asked.elapsed().as_secs_f64(), starved));
        }
        thread::park_timeout(STEP);
        if together.wait().is_leader() && done.send(()).is_err() {
            break;
        }
    }
    waits
}
