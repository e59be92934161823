//! `metrics.jsonl` (HANDS): one line per `train.logging_steps` committed steps.

use std::{fs::File, io, path::Path};

use esta_engine::{
    law::Law,
    run::{Phases, StepRecord},
    table::Table,
};
use esta_proto::BudgetId;
use serde::{Deserialize, Serialize};

use super::{events::unix_seconds, lines};
use crate::observer::TimeSpent;

/// One line: what happened since the line before it. Vectors are by budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsLine {
    /// Committed steps of the run at the end of the window.
    pub step: u64,
    /// Passes over the training set, once its size is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<f64>,
    /// Mean loss over the window's slots; none when every step of it was skipped.
    pub loss: Option<f64>,
    /// Learning rate of the window's last step, once the length of the run is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Committed steps per second; none on the first line of a process.
    pub steps_per_second: Option<f64>,
    /// Steps of the window that were committed as skipped.
    pub skipped: u64,
    /// Share of the catalog's stitches that have been visited; none on a line made up after a crash.
    pub coverage: Option<f64>,
    /// Slots drawn.
    pub draws: Vec<u64>,
    /// Mean loss over the budget's slots.
    pub budget_loss: Vec<Option<f64>>,
    /// Entropy in nats of the distribution inside the budget; `exp` of it is the number of stitches in play.
    #[serde(default)]
    pub entropy: Vec<f64>,
    /// Where a step's time went, mean over the window's steps and ranks; none before the first report, and on a line made up after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<Phases<f64>>,
    /// Seconds of training so far, over all processes of the run.
    pub elapsed: f64,
    /// When it was written, in seconds since 1970.
    pub time: f64,
}

/// Sums over the steps since the last line.
#[derive(Debug, Clone, Default)]
pub struct Window {
    steps: u64,
    skipped: u64,
    draws: Vec<u64>,
    /// By budget: loss summed, slots that gave it.
    losses: Vec<(f64, u64)>,
    time: TimeSpent,
}

impl Window {
    /// An empty window over this many budgets.
    #[must_use]
    pub fn new(budgets: usize) -> Self {
        let (draws, losses) = (vec![0; budgets], vec![(0.0, 0); budgets]);
        Self { steps: 0, skipped: 0, draws, losses, time: TimeSpent::default() }
    }

    /// Whether nothing has been added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps == 0
    }

    /// Adds a committed step. A skipped step counts its draws; its losses say nothing.
    pub fn add(&mut self, record: &StepRecord) {
        let skipped = record.outcomes.iter().any(|outcome| !outcome.valid);
        self.steps += 1;
        self.skipped += u64::from(skipped);
        for (draw, outcome) in record.draws.iter().zip(&record.outcomes) {
            self.draws[draw.budget.index()] += 1;
            if !skipped {
                let (sum, slots) = &mut self.losses[draw.budget.index()];
                *sum += outcome.loss;
                *slots += 1;
            }
        }
    }

    /// Adds where the time of some reports went.
    pub fn add_time(&mut self, spent: &TimeSpent) {
        self.time.sum(spent);
    }

    fn phases(&self) -> Option<Phases<f64>> {
        let TimeSpent { reports, phases } = self.time;
        (reports > 0).then(|| phases.map(|sum| sum.as_secs_f64() / f64::from(reports)))
    }

    /// The line of this window; what the table and the clock know is left open.
    #[must_use]
    pub fn line(&self, committed: u64) -> MetricsLine {
        let mean = |(sum, slots): (f64, u64)| (slots > 0).then(|| sum / slots as f64);
        let total = self.losses.iter().fold((0.0, 0), |(sum, slots), (s, n)| (sum + s, slots + n));
        MetricsLine {
            step: committed,
            epoch: None,
            loss: mean(total),
            learning_rate: None,
            steps_per_second: None,
            skipped: self.skipped,
            coverage: None,
            draws: self.draws.clone(),
            budget_loss: self.losses.iter().copied().map(mean).collect(),
            entropy: Vec::new(),
            seconds: self.phases(),
            elapsed: 0.0,
            time: unix_seconds(),
        }
    }
}

/// Share of the catalog's stitches that have been visited.
#[must_use]
pub fn coverage(law: &Law, table: &Table) -> f64 {
    let all = law.catalog.stitches().count();
    let visited = law.catalog.stitches().filter(|stitch| table.row(stitch.id).visits > 0).count();
    visited as f64 / all.max(1) as f64
}

/// By budget: entropy in nats of the distribution inside it.
#[must_use]
pub fn entropies(law: &Law, table: &Table) -> Vec<f64> {
    let entropy = |budget| {
        let distribution = law.sampler.distribution(BudgetId(budget), table);
        distribution.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum::<f64>().max(0.0)
    };
    (0..law.catalog.bins().len() as u32).map(entropy).collect()
}

/// The scalars of a line under TensorBoard's names.
#[must_use]
pub fn scalars(line: &MetricsLine) -> Vec<(String, f64)> {
    let single = [
        ("train/loss", line.loss),
        ("train/learning_rate", line.learning_rate),
        ("train/epoch", line.epoch),
        ("train/steps_per_second", line.steps_per_second),
        ("train/skipped", Some(line.skipped as f64)),
        ("table/coverage", line.coverage),
    ];
    let mut scalars: Vec<(String, f64)> =
        single.into_iter().filter_map(|(tag, value)| Some((tag.to_owned(), value?))).collect();
    let phases = line.seconds.iter().flat_map(Phases::named);
    scalars.extend(phases.map(|(phase, seconds)| (format!("seconds/{phase}"), seconds)));
    let tag = |group: &str, budget: usize| format!("{group}/budget_{budget:02}");
    scalars.extend(line.draws.iter().enumerate().map(|(b, draws)| (tag("draws", b), *draws as f64)));
    scalars.extend(line.budget_loss.iter().enumerate().filter_map(|(b, loss)| Some((tag("loss", b), (*loss)?))));
    scalars.extend(line.entropy.iter().enumerate().map(|(b, entropy)| (tag("entropy", b), *entropy)));
    scalars
}

/// The file, open for appending.
#[derive(Debug)]
pub struct MetricsLog {
    file: File,
    last: Option<MetricsLine>,
}

impl MetricsLog {
    /// Opens the run's file, keeping the lines up to `committed` steps.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(run_dir: &Path, committed: u64) -> io::Result<Self> {
        let path = run_dir.join("metrics.jsonl");
        let (file, kept) = lines::open(&path, |line: &MetricsLine| line.step <= committed)?;
        Ok(Self { file, last: kept.into_iter().next_back() })
    }

    /// The last line, if there is one.
    #[must_use]
    pub fn last(&self) -> Option<&MetricsLine> {
        self.last.as_ref()
    }

    /// Appends a line.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, line: MetricsLine) -> io::Result<()> {
        lines::append(&mut self.file, &line)?;
        self.last = Some(line);
        Ok(())
    }
}
