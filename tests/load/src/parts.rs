//! What is measured (HANDS), one function per part; RIVALS' numbers of rows are quoted.
//!
//! Each part starts a coordinator of its own and prints rows as `make bench` takes them: what, ours, other, ratio, goal.

mod idle;
mod lockstep;
mod record;
mod restart;
mod soak;
mod waits;
mod watched;

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;
use tempfile::TempDir;

pub use self::restart::{Comeback, Kill};
use crate::{Cast, Crowd, Door, Job, Served, Wire};

/// A part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// L1, L3, L4, L6: from a report to the next plan, and the bytes of a step.
    Lockstep,
    /// L8: what coordination is of a step of 100 ms.
    Share,
    /// L5: how long a trainer waits for a plan that is there.
    Waits,
    /// L7: how long ranks idle because their stitches differ.
    Idle,
    /// D1: what a durable step takes.
    Record,
    /// F5: how long the only coordinator is missed after a kill.
    Restart,
    /// What traces, metrics and readers of the page cost.
    Watched,
    /// Memory over a long run.
    Soak,
}

impl Part {
    /// Those that take seconds.
    pub const SHORT: [Self; 7] =
        [Self::Lockstep, Self::Share, Self::Waits, Self::Idle, Self::Record, Self::Restart, Self::Watched];
}

/// Where programs and folders are, and how much is done.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The coordinator's program.
    pub coordinator: PathBuf,
    /// Steps of the long run.
    pub soak_steps: u64,
    /// Steps of the run whose trainers' waits are measured.
    pub wait_steps: u64,
    /// What is spoken where ranks are in lockstep, one after the other.
    pub wires: Vec<Wire>,
    /// What is done to a coordinator, one after the other.
    pub kills: Vec<Kill>,
}

/// A coordinator at work with its ranks.
struct Stage {
    served: Served,
    door: Door,
    crowd: Crowd,
    _folder: TempDir,
}

impl Bench {
    /// Measures a part and prints its rows.
    ///
    /// # Errors
    /// When a run does not go as it should.
    pub async fn measure(&self, part: Part) -> anyhow::Result<()> {
        match part {
            Part::Lockstep => lockstep::measure(self).await,
            Part::Share => lockstep::share(self).await,
            Part::Waits => waits::measure(self).await,
            Part::Idle => idle::measure(self).await,
            Part::Record => record::measure(self).await,
            Part::Restart => restart::measure(self).await,
            Part::Watched => watched::measure(self).await,
            Part::Soak => soak::measure(self).await,
        }
    }

    async fn stage(&self, job: Job, cast: &Cast) -> anyhow::Result<Stage> {
        let folder = tempfile::tempdir()?;
        self.stage_in(folder, job, cast, &[]).await
    }

    async fn stage_in(&self, folder: TempDir, job: Job, cast: &Cast, more: &[&str]) -> anyhow::Result<Stage> {
        let served = Served::start(&self.coordinator, &job, cast, folder.path(), (more, &[])).await?;
        self.enter(folder, served, cast).await
    }

    async fn stage_watched(
        &self,
        folder: TempDir,
        job: Job,
        cast: &Cast,
        environment: &[(String, String)],
    ) -> anyhow::Result<Stage> {
        let served = Served::start(&self.coordinator, &job, cast, folder.path(), (&[], environment)).await?;
        self.enter(folder, served, cast).await
    }

    async fn enter(&self, folder: TempDir, served: Served, cast: &Cast) -> anyhow::Result<Stage> {
        let door = served.door()?;
        let crowd = Crowd::enter(&door, cast).await?;
        Ok(Stage { served, door, crowd, _folder: folder })
    }
}

fn section(title: &str) {
    println!("{}", json!({ "section": title }));
}

fn row(what: &str, ours: &str, other: &str, ratio: &str, goal: &str) {
    println!("{}", json!({ "row": [what, ours, other, ratio, goal] }));
}

/// As the title of a section says it.
fn spoken(wire: Wire) -> &'static str {
    match wire {
        Wire::Plain => "plain text",
        Wire::Tls => "mutual TLS",
    }
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", 1e3 * seconds)
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
    groups.join(",")
}
