//! What was seen of a run in the term of one leader (HANDS).

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime},
};

use esta_engine::{law::Law, run::Notice, table::Table};

use super::rate::Rate;
use crate::{
    artifacts::{
        History,
        summary::EvalFile,
        timeline::{Happening, millis},
    },
    http::{series::Series, state::Inside},
    observer::{Observation, TimeSpent},
    telemetry::Meters,
};

/// Events kept.
pub(super) const EVENTS: usize = 200;

/// What the term of a leader is called.
#[derive(Debug, Clone)]
pub struct TermName {
    /// The run.
    pub run_id: String,
    /// Where its files are.
    pub run_dir: PathBuf,
}

/// What was seen of a run in this term.
#[derive(Debug)]
pub(super) struct Term {
    pub name: TermName,
    pub began: SystemTime,
    pub table: Arc<Table>,
    pub draws: Vec<u64>,
    pub samples: Option<u64>,
    pub skipped: u64,
    pub lost: u64,
    pub spent: TimeSpent,
    pub loss: Series,
    pub speed: Series,
    pub rate: Rate,
    pub events: VecDeque<Happening>,
    pub inside: Inside,
    pub over: Option<End>,
}

/// How a run ended.
#[derive(Debug)]
pub(super) enum End {
    /// It cannot go on, and why.
    Failed(String),
    /// Its results are written; what was measured of them, where it can be read.
    Complete(Option<Box<EvalFile>>),
}

impl Term {
    /// What was seen before is told again: whoever looks is to see a run, and not a term of it.
    pub fn new(law: &Law, name: TermName, samples: Option<u64>, history: History) -> Self {
        let History { lines, mut happenings } = history;
        let mut term = Self {
            name,
            began: SystemTime::now(),
            table: Arc::new(Table::new(law.catalog.id_bound(), law.spec.sampling.momentum)),
            draws: vec![0; law.catalog.bins().len()],
            samples,
            skipped: 0,
            lost: 0,
            spent: TimeSpent::default(),
            loss: Series::default(),
            speed: Series::default(),
            rate: Rate::default(),
            events: happenings.split_off(happenings.len().saturating_sub(EVENTS)).into(),
            inside: Inside::default(),
            over: None,
        };
        let mut before = 0;
        for line in &lines {
            term.draws.iter_mut().zip(&line.draws).for_each(|(sum, draws)| *sum += draws);
            term.skipped += line.skipped;
            let steps = line.step.saturating_sub(before);
            before = line.step;
            if let Some(loss) = line.loss {
                term.loss.push_mean(line.step as f64, loss, steps.saturating_sub(line.skipped).max(1));
            }
            if let Some(rate) = line.steps_per_second {
                term.speed.push(line.time * 1000.0, rate);
            }
        }
        term
    }

    /// A look inside the run found this.
    pub fn find(&mut self, mut inside: Inside) {
        if let Some(table) = inside.table.take().filter(|table| table.version() > self.table.version()) {
            self.table = table;
        }
        self.inside = inside;
    }

    pub fn see(&mut self, law: &Law, meters: &Meters, observation: Observation) {
        match observation {
            Observation::Committed { steps, table, total, .. } => {
                self.table = table;
                let mut skipped = 0;
                for record in steps.iter() {
                    for draw in &record.draws {
                        self.draws[draw.budget.index()] += 1;
                    }
                    let valid = record.outcomes.iter().all(|outcome| outcome.valid);
                    skipped += u64::from(!valid);
                    if valid && !record.outcomes.is_empty() {
                        let sum: f64 = record.outcomes.iter().map(|outcome| outcome.loss).sum();
                        self.loss.push(record.step.next().0 as f64, sum / record.outcomes.len() as f64);
                    }
                }
                self.skipped += skipped;
                let Some(last) = steps.last() else { return };
                let (now, committed) = (Instant::now(), last.step.next().0);
                let before = self.rate.last().map(|at| now.duration_since(at)).unwrap_or_default();
                let count = steps.len() as u64;
                let each = before / u32::try_from(count).unwrap_or(u32::MAX);
                meters.committed(count, skipped, law.spec.train.batch_size.into(), each);
                self.rate.note(now, committed);
                if let Some(rate) = self.rate.point(now, committed) {
                    self.speed.push(millis(SystemTime::now()) as f64, rate);
                }
                self.inside.committed = self.inside.committed.max(committed);
                self.inside.durable = self.inside.durable.max(committed);
                self.inside.total = Some(total.0);
            }
            Observation::Timed(spent) => {
                meters.spent(&spent);
                self.spent.sum(&spent);
            }
            Observation::Samples(samples) => self.samples = Some(samples),
            Observation::Again(_) => self.lost += 1,
            Observation::Notice(notice, _) => {
                if let Notice::Failed(reason) = &notice {
                    self.over = Some(End::Failed(reason.clone()));
                }
                self.tell(Happening::of(SystemTime::now(), &notice));
            }
            Observation::Finished { table, .. } => {
                self.table = table;
                self.tell(Happening::finished(SystemTime::now()));
            }
            // Curves have a gap, and the next leader's board begins with what the files tell.
            Observation::Missed => {}
        }
    }

    pub fn tell(&mut self, happening: Happening) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(happening);
    }
}
