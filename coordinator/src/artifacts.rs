//! What a run leaves in its folder (HANDS): `job.json`, `metrics.jsonl`, `timeline.jsonl`, TensorBoard events,
//! `draws.parquet`, `palette.json`, `table.json`.
//!
//! The store is the truth and these files follow it. On resume whatever lies beyond the durable steps is trimmed, and
//! what a crash took is filled in again from the store's records: nothing is doubled, nothing is missing.

pub(crate) mod atomic;
pub mod draws;
pub mod events;
#[cfg(test)]
pub(crate) mod fixture;
pub mod lines;
pub mod metrics;
pub mod parts;
pub mod summary;
pub mod timeline;

use std::{fs, io, path::Path, path::PathBuf, time::Duration};

use esta_engine::{law::Law, palette::Choice, run::StepRecord, schedule::Schedule, spec::PaletteRule, table::Table};
use esta_proto::{LeaderEpoch, Step};

use self::{
    events::EventLog,
    metrics::{MetricsLine, MetricsLog, Window},
    parts::DrawLog,
    summary::{EvalFile, PaletteFile},
    timeline::{Happening, Timeline},
};
use crate::observer::TimeSpent;

/// The files of a run, open for appending.
#[derive(Debug)]
pub struct Artifacts {
    run_dir: PathBuf,
    law: Law,
    resume_from: Step,
    draws: DrawLog,
    metrics: MetricsLog,
    events: EventLog,
    timeline: Timeline,
    window: Window,
    /// Committed steps of the run so far.
    committed: u64,
    /// Committed steps and clock when the last rate was taken.
    mark: Option<(u64, Duration)>,
    /// Training clock of this process at the last step.
    clock: Duration,
    /// Seconds of training by earlier processes of the run.
    earlier: f64,
    /// Samples of the training set, once known.
    samples: Option<u64>,
}

impl Artifacts {
    /// Opens the files of a run that goes on under this leader from `resume_from` durable steps; 0 begins it anew.
    ///
    /// # Errors
    /// When the folder or its files cannot be written.
    pub fn open(run_dir: &Path, law: &Law, epoch: LeaderEpoch, resume_from: Step) -> io::Result<Self> {
        fs::create_dir_all(run_dir)?;
        atomic::replace_json(&run_dir.join("job.json"), &law.spec)?;
        let draws = DrawLog::open(run_dir, resume_from)?;
        let metrics = MetricsLog::open(run_dir, resume_from.0)?;
        let events = EventLog::open(run_dir, resume_from.0)?;
        let timeline = Timeline::open(run_dir, epoch)?;
        let last = metrics.last().map_or((0, 0.0), |line| (line.step, line.elapsed));
        Ok(Self {
            run_dir: run_dir.to_owned(),
            law: law.clone(),
            resume_from,
            draws,
            metrics,
            events,
            timeline,
            window: Window::new(law.catalog.bins().len()),
            committed: last.0,
            mark: None,
            clock: Duration::ZERO,
            earlier: last.1,
            samples: None,
        })
    }

    /// What the files tell of the run up to here, for whoever looks.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn history(&self) -> io::Result<History> {
        let mut history = History::read(&self.run_dir)?;
        if !self.window.is_empty() {
            history.lines.push(self.window_line());
        }
        Ok(history)
    }

    /// Something happened to the run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn happened(&mut self, happening: &Happening) -> io::Result<()> {
        self.timeline.append(happening)
    }

    /// Tells the size of the training set: lines then say their epoch and learning rate.
    pub fn set_samples(&mut self, samples: u64) {
        self.samples = Some(samples);
    }

    /// Adds where the time of some reports went to the window.
    pub fn add_time(&mut self, spent: &TimeSpent) {
        self.window.add_time(spent);
    }

    /// The first step that the files lack; equals `resume_from` unless a crash took something.
    #[must_use]
    pub fn missing_from(&self) -> Step {
        Step(self.draws.next().0.min(self.committed))
    }

    /// Fills in what the files lack from the store's records of the steps before `resume_from`; others are ignored.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn backfill(&mut self, records: &[StepRecord]) -> io::Result<()> {
        let missing = self.missing_from()..self.resume_from;
        for record in records.iter().filter(|record| missing.contains(&record.step)) {
            self.draws.push(record)?;
            if record.step.0 >= self.committed && self.take(record) {
                let line = MetricsLine { elapsed: self.earlier, ..self.window_line() };
                self.log(line)?;
            }
        }
        Ok(())
    }

    /// Enters a durable step. `table` is the current one; `elapsed` is the training clock of this process.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn step(&mut self, record: &StepRecord, table: &Table, elapsed: Duration) -> io::Result<()> {
        self.draws.push(record)?;
        if record.step.0 < self.committed {
            return Ok(());
        }
        let full = self.take(record);
        self.clock = elapsed;
        let before = self.mark.get_or_insert((self.committed, elapsed));
        if !full {
            return Ok(());
        }
        let (steps, seconds) = (self.committed - before.0, elapsed.saturating_sub(before.1).as_secs_f64());
        self.mark = Some((self.committed, elapsed));
        let rate = (seconds > 0.0).then(|| steps as f64 / seconds);
        let line = MetricsLine { steps_per_second: rate, ..self.line_with(table) };
        self.log(line)
    }

    /// Ends the run: the last line, the merged draws, the final table and what each rule chose. Reads `eval.json`, if
    /// it is there, for the palettes' Pareto fronts. May be called again once it is.
    ///
    /// # Errors
    /// When a file cannot be written, or `eval.json` is damaged.
    pub fn finish(&mut self, palettes: &[(PaletteRule, Vec<Choice>)], table: &Table) -> io::Result<()> {
        if !self.window.is_empty() {
            let line = self.line_with(table);
            self.log(line)?;
        }
        self.draws.merge()?;
        let law = &self.law;
        atomic::replace_json(&self.run_dir.join("table.json"), &summary::table_file(&law.catalog, table))?;
        let eval: Option<EvalFile> = summary::read_optional(&self.run_dir.join("eval.json"))?;
        let of_rule = |(rule, choices): &(PaletteRule, Vec<Choice>)| {
            summary::rule_palette(&law.spec, &law.catalog, *rule, choices, eval.as_ref())
        };
        let file = PaletteFile { rule: law.spec.palette.rule, palettes: palettes.iter().map(of_rule).collect() };
        atomic::replace_json(&self.run_dir.join("palette.json"), &file)
    }

    /// Adds a step to the window; true when that fills it.
    fn take(&mut self, record: &StepRecord) -> bool {
        self.window.add(record);
        self.committed = record.step.0 + 1;
        self.committed.is_multiple_of(self.law.spec.train.logging_steps.max(1))
    }

    fn window_line(&self) -> MetricsLine {
        let seen = (self.committed * u64::from(self.law.spec.train.batch_size)) as f64;
        let epoch = self.samples.filter(|samples| *samples > 0).map(|samples| seen / samples as f64);
        let total = match (self.law.spec.train.max_steps, self.samples) {
            (None, None) => None,
            (_, samples) => Some(self.law.total_steps(samples.unwrap_or(0))),
        };
        let schedule = total.map(|total| Schedule::of(&self.law.spec.train, total));
        let learning_rate = schedule.map(|schedule| schedule.lr(self.committed.saturating_sub(1)));
        MetricsLine { epoch, learning_rate, ..self.window.line(self.committed) }
    }

    fn line_with(&self, table: &Table) -> MetricsLine {
        MetricsLine {
            coverage: Some(metrics::coverage(&self.law, table)),
            entropy: metrics::entropies(&self.law, table),
            elapsed: self.earlier + self.clock.as_secs_f64(),
            ..self.window_line()
        }
    }

    fn log(&mut self, line: MetricsLine) -> io::Result<()> {
        self.window = Window::new(self.law.catalog.bins().len());
        self.events.scalars(line.step, &metrics::scalars(&line))?;
        self.metrics.append(line)
    }
}

/// What a run's files tell of it.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Of `metrics.jsonl`.
    pub lines: Vec<MetricsLine>,
    /// Of `timeline.jsonl`.
    pub happenings: Vec<Happening>,
}

impl History {
    /// Reads a run's folder; files that are not there have nothing to tell.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(run_dir: &Path) -> io::Result<Self> {
        let text = |name: &str| match fs::read_to_string(run_dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read,
        };
        Ok(Self { lines: lines::parse(&text("metrics.jsonl")?), happenings: lines::parse(&text("timeline.jsonl")?) })
    }

    /// Whether the run is over and its files are written.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.happenings.last().is_some_and(Happening::is_last)
    }
}

#[cfg(test)]
mod tests;
