//! Everybody reports at once and waits for the next plan (HANDS): strict sampling, so the plan waits for the record.

use std::time::{Duration, Instant};

use super::{Bench, Stage, milliseconds, percent, row, section, spoken, thousands};
use crate::{Cast, Family, Job, Wire, mean, quantile};

/// Steps that are left out at the front.
const WARM: u64 = 10;
/// Fewer ranks, to compare bytes with.
const FEW: u32 = 100;
/// One rank in so many is slow: packing has more than one speed to think of.
const SLOW: u32 = 10;
/// L8: the step that coordination is a share of.
const STEP: Duration = Duration::from_millis(100);

/// What a run in lockstep came to.
struct Figures {
    /// Seconds from a report to the next plan.
    waits: Vec<f64>,
    /// Bytes of a rank's step, to the coordinator and from it.
    bytes: [f64; 2],
    /// The coordinator's processor time of a rank's step, in seconds.
    processor: f64,
    memory: u64,
}

/// L1, L3, L4, L6.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    for wire in &bench.wires {
        lockstep(bench, *wire).await?;
    }
    Ok(())
}

async fn lockstep(bench: &Bench, wire: Wire) -> anyhow::Result<()> {
    section(&format!(
        "Ranks in lockstep over {}, strict sampling, every step durable before the next; generator on the same processors",
        spoken(wire)
    ));
    let busy = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    row("processes that wanted a processor when it began", busy.split(' ').next().unwrap_or_default(), "", "", "");
    let few = run(bench, FEW, 120, wire).await?;
    for (ranks, steps, goals) in
        [(1_000, 120, ["<= 10 ms", "<= 25 ms"]), (4_000, 40, ["", "<= 150 ms"]), (10_000, 20, ["", ""])]
    {
        let mut found = run(bench, ranks, steps, wire).await?;
        let what = |figure: &str| format!("{} ranks: {figure}", thousands(ranks.into()));
        for (q, name, goal) in [(0.5, "p50", goals[0]), (0.99, "p99", goals[1])] {
            let wait = milliseconds(quantile(&mut found.waits, q));
            row(&what(&format!("report to next plan, {name}")), &wait, "", "", goal);
        }
        let [up, down] = found.bytes;
        let (all, other) = (up + down, few.bytes[0] + few.bytes[1]);
        let (bytes, beside) = (format!("{all:.0} B"), format!("{other:.0} B of {FEW}"));
        let encrypted = if wire == Wire::Tls { ", encrypted" } else { "" };
        row(
            &what(&format!("bytes of a rank's step{encrypted}")),
            &bytes,
            &beside,
            &format!("{:.3}", all / other),
            "<= 512 B",
        );
        row(&what("of which reports | plans"), &format!("{up:.0} B"), &format!("{down:.0} B"), "", "");
        let (processor, beside) =
            (format!("{:.1} us", 1e6 * found.processor), format!("{:.1} us of {FEW}", 1e6 * few.processor));
        let ratio = format!("{:.3}", found.processor / few.processor);
        row(&what("coordinator's processor time of a rank's step"), &processor, &beside, &ratio, "");
        row(&what("memory of the coordinator"), &format!("{} MiB", found.memory >> 20), "", "", "");
    }
    Ok(())
}

async fn run(bench: &Bench, ranks: u32, steps: u64, wire: Wire) -> anyhow::Result<Figures> {
    let job = Job { family: Family::Vit, slots: ranks, steps: WARM + steps, lookahead: 0 };
    let cast = Cast { slow: SLOW, wire, ..Cast::of(ranks) };
    let Stage { served, door, mut crowd, _folder } = bench.stage(job, &cast).await?;
    let mut waits = Vec::new();
    let (mut bytes, mut processor, mut memory) = ([0; 2], Duration::ZERO, 0);
    while let Some((step, _)) = crowd.ready().await? {
        let heard = crowd.take_waits();
        if step.0 == WARM {
            (bytes, processor) = (door.traffic().each_way(), served.processor_time()?);
        } else if step.0 > WARM {
            waits.extend(heard);
        }
        if step.0 + 1 == WARM + steps {
            let now = door.traffic().each_way();
            bytes = [now[0] - bytes[0], now[1] - bytes[1]];
            (processor, memory) = (served.processor_time()? - processor, served.memory()?);
        }
        crowd.finish()?;
    }
    served.finish().await?;
    let each = (steps - 1) as f64 * f64::from(ranks);
    Ok(Figures {
        waits,
        bytes: bytes.map(|bytes| bytes as f64 / each),
        processor: processor.as_secs_f64() / each,
        memory,
    })
}

/// L8.
pub(super) async fn share(bench: &Bench) -> anyhow::Result<()> {
    for wire in &bench.wires {
        share_over(bench, *wire).await?;
    }
    Ok(())
}

async fn share_over(bench: &Bench, wire: Wire) -> anyhow::Result<()> {
    let (ranks, steps) = (1_000, 100);
    section(&format!("Coordination of 1,000 ranks whose steps take 100 ms, one plan ahead, over {}", spoken(wire)));
    let job = Job { family: Family::Vit, slots: ranks, steps: WARM + steps, lookahead: 1 };
    let Stage { served, mut crowd, _folder, .. } = bench.stage(job, &Cast { wire, ..Cast::of(ranks) }).await?;
    let (mut processor, mut waits, mut end) = (Duration::ZERO, Vec::new(), None::<Instant>);
    while let Some((step, complete)) = crowd.ready().await? {
        if step.0 == WARM {
            processor = served.processor_time()?;
        } else if step.0 > WARM {
            // The last rank's plan decides when all of them go on.
            waits.extend(end.map(|end| complete.saturating_duration_since(end).as_secs_f64()));
        }
        if step.0 + 1 == WARM + steps {
            processor = served.processor_time()? - processor;
        }
        let over = complete.max(end.unwrap_or(complete)) + STEP;
        crowd.listen_while(tokio::time::sleep_until(over.into())).await?;
        end = Some(Instant::now());
        crowd.finish()?;
    }
    served.finish().await?;
    let wait = mean(waits.iter().copied());
    let starved = waits.iter().filter(|wait| **wait > 0.0).count();
    row("wait of the slowest rank as a share of the step", &percent(wait / STEP.as_secs_f64()), "", "", "<= 0.5 %");
    row("steps that waited for a plan", &format!("{starved} of {}", waits.len()), "", "", "");
    let each = processor.as_secs_f64() / (steps - 1) as f64;
    row("coordinator's processor time of a step", &milliseconds(each), "", "", "");
    Ok(())
}
