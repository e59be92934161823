//! `kill -9` of the only coordinator and a new start (HANDS): a long history is on record, and everybody comes back.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use esta_coordinator::store::{self, RECORD_FILE};
use esta_engine::{law::Law, run::Ledger};
use serde_json::Value;

use super::{Bench, row, section, spoken, thousands};
use crate::{Cast, Crowd, Family, Job, SAMPLES, Served, Trade, Wire};

/// Slots of a step: with one for each of 10,000 ranks 100,000 steps would fill a disk. The other ranks are spares.
const SLOTS: u32 = 64;
/// Plans that are in hand while a step commits, as by default.
const LOOKAHEAD: u64 = 1;
/// Ranks that make the history.
const FOUNDERS: u32 = 2;
/// Steps that everybody makes before the kill, and the least that are left for after it.
const AROUND: u64 = 5;
/// Steps that may pass while everybody is let in.
const ENTRY: u64 = 30;

/// A kill of the only coordinator.
#[derive(Debug, Clone)]
pub struct Kill {
    /// Steps before everybody is there.
    pub history: u64,
    /// Ranks that come back.
    pub ranks: u32,
    /// Sessions of a connection.
    pub sessions: u32,
    /// What is spoken.
    pub wire: Wire,
}

/// What it came to.
#[derive(Debug, Clone)]
pub struct Comeback {
    /// From the kill until a coordinator serves again.
    pub serving: Duration,
    /// From the kill until the last rank was answered.
    pub back: Duration,
    /// From the kill until every rank has a plan that waited for a step which was not committed before.
    pub committed: Duration,
    /// Steps that were known to be durable before the kill, and when everybody was back.
    pub durable: [u64; 2],
    /// The generation of the ranks before the kill, and when they went on.
    pub generation: [u64; 2],
    /// Bytes of the record.
    pub bytes: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Steps on record that hold the scores which their ranks reported, and derive from the steps before them.
    pub on_record: u64,
}

/// F5.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<()> {
    for kill in &bench.kills {
        let Kill { history, ranks, sessions, wire } = kill;
        section(&format!(
            "kill -9 of the only coordinator: {} steps of {SLOTS} slots on record, {} ranks, {sessions} to a connection, {}",
            thousands(*history),
            thousands((*ranks).into()),
            spoken(*wire)
        ));
        let found = kill.carry_out(&bench.coordinator).await?;
        let seconds = |duration: Duration| format!("{:.2} s", duration.as_secs_f64());
        row("from the kill until it serves again", &seconds(found.serving), "", "", "");
        row("until every rank is back", &seconds(found.back), "", "", "<= 8 s");
        row(
            "until another step is committed and every rank has the plan after it",
            &seconds(found.committed),
            "",
            "",
            "",
        );
        let [before, after] = found.durable.map(thousands);
        row("steps that were durable after it | before", &after, &before, "", "");
        let lost = found.steps - found.on_record;
        row("steps whose scores are lost or others", &lost.to_string(), "", "", "0");
        let [before, after] = found.generation.map(thousands);
        row("generation that went on | that was left", &after, &before, "", "the same");
        row("size of the record", &format!("{} MiB", found.bytes >> 20), "", "", "");
    }
    Ok(())
}

impl Kill {
    /// A kill that so many ranks see, after a short history.
    #[must_use]
    pub fn of(ranks: u32) -> Self {
        Self { history: 1_000, ranks, sessions: Cast::of(ranks).sessions, wire: Wire::Plain }
    }

    /// Makes the history, lets everybody in, kills the coordinator and starts it again.
    ///
    /// # Errors
    /// When somebody does not come back, or the run does not end as it should.
    pub async fn carry_out(&self, program: &Path) -> anyhow::Result<Comeback> {
        let folder = tempfile::tempdir()?;
        let steps = self.history + ENTRY + 2 * AROUND;
        let job = Job { family: Family::Vit, slots: SLOTS, steps, lookahead: LOOKAHEAD as u32 };
        let cast = |ranks| Cast { sessions: self.sessions, wire: self.wire, returns: true, ..Cast::of(ranks) };
        let founders = cast(FOUNDERS.min(self.ranks));
        let room = (self.ranks + FOUNDERS + 100).to_string();
        let mut served =
            Served::start(program, &job, &founders, folder.path(), (&["--max-connections", &room], &[])).await?;
        let door = served.door()?;
        let mut crowd = Crowd::enter(&door, &founders).await?;
        go_on(&mut crowd, self.history).await.context("making the history")?;
        let others = Cast { name: "late".to_owned(), ..cast(self.ranks - founders.ranks) };
        crowd.grow(&door, &others).await.context("letting everybody in")?;
        let (step, _) = crowd.ready().await?.context("it is over before everybody is in")?;
        go_on(&mut crowd, step.0 + AROUND).await.context("before the kill")?;
        let (due, _) = crowd.ready().await?.context("it is over before the kill")?;
        let before = served.status().await?;

        let killed = Instant::now();
        served.kill();
        // Trainers do not notice.
        crowd.finish()?;
        crowd.listen_while(served.start_again()).await??;
        let serving = killed.elapsed();
        let back = crowd.returned().await?;
        let after = served.status().await?;
        // Every step before the one that was due may have been committed; a plan waits for the step 1 + K before it.
        let committed = go_on(&mut crowd, due.0 + 1 + LOOKAHEAD).await.context("after the kill")?;
        let later = served.status().await?;
        while crowd.ready().await?.is_some() {
            crowd.finish()?;
        }
        served.finish().await?;

        let record = Path::new(&crowd.law.spec.run_dir()).join(RECORD_FILE);
        Ok(Comeback {
            serving,
            back: back - killed,
            committed: committed - killed,
            durable: [count(&before, "durable_steps")?, count(&after, "durable_steps")?],
            generation: [count(&before, "generation")?, count(&later, "generation")?],
            bytes: fs::metadata(&record)?.len(),
            steps,
            on_record: right_steps(&crowd.law, &record)?,
        })
    }
}

/// Step by step until this one is due; when its last plan came.
async fn go_on(crowd: &mut Crowd, to: u64) -> anyhow::Result<Instant> {
    loop {
        let (step, complete) = crowd.ready().await?.with_context(|| format!("the run is over before step {to}"))?;
        if step.0 >= to {
            return Ok(complete);
        }
        crowd.finish()?;
    }
}

fn count(status: &Value, key: &str) -> anyhow::Result<u64> {
    status[key].as_u64().with_context(|| format!("the status has no {key}"))
}

/// Steps on record that hold what their ranks reported. All of them have to derive from the steps before them.
fn right_steps(law: &Arc<Law>, record: &Path) -> anyhow::Result<u64> {
    let (_, recovered) = store::read_only(record)?;
    let mut ledger = Ledger::new(law.clone(), law.total_steps(SAMPLES));
    let mut right = 0;
    for record in recovered.steps {
        let reported = (0..u64::from(SLOTS)).map(|slot| Trade::outcome(record.step, slot));
        right += u64::from(record.outcomes.iter().copied().eq(reported));
        let step = record.step;
        ledger.replay_step(record)?;
        ledger.forget_below(step);
    }
    ensure!(recovered.complete, "the record does not say that the run is complete");
    Ok(right)
}
