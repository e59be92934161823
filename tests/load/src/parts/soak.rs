//! The coordinator's memory over a long run (HANDS): few ranks, small draws, as fast as the record takes them.

use std::time::Instant;

use super::{Bench, Stage, row, section, thousands};
use crate::{Cast, Family, Job};

const RANKS: u32 = 2;
/// So many plans ahead the record writes many steps at once.
const LOOKAHEAD: u32 = 64;

/// Flat memory.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    let steps = bench.soak_steps;
    section(&format!("Memory of the coordinator over {} steps | after a tenth of them", thousands(steps)));
    let job = Job { family: Family::Tiny, slots: RANKS, steps, lookahead: LOOKAHEAD };
    let Stage { served, mut crowd, _folder, .. } = bench.stage(job, &Cast::of(RANKS)).await?;
    let (begin, mut seen) = (Instant::now(), Vec::new());
    while let Some((step, _)) = crowd.ready().await? {
        crowd.take_waits();
        let done = step.0 + 1;
        if done.is_multiple_of((steps / 10).max(1)) {
            seen.push((done, served.memory()?));
            eprintln!("esta-load: {} steps, {} MiB", thousands(done), seen[seen.len() - 1].1 >> 20);
        }
        crowd.finish()?;
    }
    let took = begin.elapsed();
    served.finish().await?;
    let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let first = seen.first().map_or(0, |seen| seen.1);
    for (done, bytes) in [seen.get(4), seen.last()].into_iter().flatten() {
        let ratio = format!("{:.3}", *bytes as f64 / first as f64);
        row(&format!("after {} steps", thousands(*done)), &mebibytes(*bytes), &mebibytes(first), &ratio, "<= 1.1");
    }
    let each = took.as_secs_f64() / steps as f64;
    row("a step of this run, mean", &format!("{:.0} us", 1e6 * each), "", "", "");
    Ok(())
}
