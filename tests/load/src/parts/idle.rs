//! Ranks that wait for the slowest of them because their stitches differ (HANDS), in virtual time: what slots take is
//! known, no clock decides.

use std::time::Duration;

use super::{Bench, Stage, percent, row, section};
use crate::{Cast, Family, Job};

const STEPS: u64 = 300;
/// Until the coordinator has learnt what slots take.
const WARM: u64 = 20;
/// Slots of a rank.
const SLOTS: u32 = 4;
/// One rank in so many takes 1.3 times as long.
const SLOW: u32 = 8;

/// Busy time of the mean rank and of the slowest, in sum over steps.
#[derive(Default)]
struct Busy {
    mean: f64,
    longest: f64,
}

impl Busy {
    fn add(&mut self, loads: &[Duration]) {
        self.mean += loads.iter().sum::<Duration>().as_secs_f64() / loads.len() as f64;
        self.longest += loads.iter().max().copied().unwrap_or_default().as_secs_f64();
    }

    /// Share of the ranks' time that they wait for the slowest.
    fn idle(&self) -> f64 {
        1.0 - self.mean / self.longest
    }
}

/// L7.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    section(
        "Idle at the barrier, ViT-Ti/S/B, four slots of mixed stitches a rank, virtual time | every rank draws its own",
    );
    for (ranks, slow) in [(2, 0), (16, 0), (128, 0), (16, SLOW)] {
        let (ours, alone) = run(bench, ranks, slow).await?;
        let kind = if slow == 0 { "of one speed".to_owned() } else { format!("one in {slow} 1.3 times slower") };
        let ratio = format!("{:.3}", ours / alone);
        // What is promised is promised for stitches that differ; a rank that is slow has too few slots to share evenly.
        let goal = if slow == 0 { "<= 5 %" } else { "" };
        row(&format!("{ranks} ranks, {kind}"), &percent(ours), &percent(alone), &ratio, goal);
    }
    Ok(())
}

async fn run(bench: &Bench, ranks: u32, slow: u32) -> anyhow::Result<(f64, f64)> {
    let job = Job { family: Family::Vit, slots: SLOTS * ranks, steps: STEPS, lookahead: 1 };
    let Stage { served, mut crowd, _folder, .. } = bench.stage(job, &Cast { slow, ..Cast::of(ranks) }).await?;
    let (mut packed, mut alone) = (Busy::default(), Busy::default());
    while let Some((step, _)) = crowd.ready().await? {
        if step.0 >= WARM {
            packed.add(&crowd.shares().map(|(_, busy)| busy).collect::<Vec<_>>());
            let slots = crowd.slots();
            let own = slots.chunks(SLOTS as usize).enumerate();
            let own = own.map(|(rank, own)| own.iter().sum::<Duration>().mul_f64(crowd.slowness(rank)));
            alone.add(&own.collect::<Vec<_>>());
        }
        crowd.finish()?;
    }
    served.finish().await?;
    Ok((packed.idle(), alone.idle()))
}
