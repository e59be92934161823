//! What is known of the run for whoever looks (HANDS): gathered off the leader's path from what it lets observers see, and, now
//! and then, from a look inside the run.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Sender, channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use esta_engine::{
    law::Law,
    run::{Notice, Phases},
    spec::JobSpec,
    table::Table,
};
use esta_proto::Step;

use super::{
    series::Series,
    state::{self, Inside, Progress, RunState, State},
};
use crate::{
    artifacts::{
        History,
        summary::{EvalFile, read_optional},
        timeline::{Happening, WRITTEN, millis},
    },
    observer::{Observation, TimeSpent},
    palette::Entry,
    rpc::Retired,
    store::Whereabouts,
    telemetry::Meters,
};

/// Events kept.
const EVENTS: usize = 200;

/// The rate of steps is the mean over about this long.
const RATE_OVER: Duration = Duration::from_secs(10);

/// The board of a process; clones share it.
#[derive(Debug, Clone)]
pub struct Board {
    law: Arc<Law>,
    shown: Arc<Mutex<Shown>>,
}

/// What the term of a leader is called.
#[derive(Debug, Clone)]
pub struct TermName {
    /// The run.
    pub run_id: String,
    /// Where its files are.
    pub run_dir: PathBuf,
}

#[derive(Debug, Default)]
struct Shown {
    leader: Option<Whereabouts>,
    term: Option<Term>,
}

/// What was seen of a run in this term.
#[derive(Debug)]
struct Term {
    name: TermName,
    began: SystemTime,
    table: Arc<Table>,
    draws: Vec<u64>,
    samples: Option<u64>,
    skipped: u64,
    lost: u64,
    spent: TimeSpent,
    loss: Series,
    speed: Series,
    rate: Rate,
    events: VecDeque<Happening>,
    inside: Inside,
    failed: Option<String>,
    complete: Option<Complete>,
}

/// What the end of a run left.
#[derive(Debug, Default)]
struct Complete {
    eval: Option<EvalFile>,
}

/// Committed steps over the last seconds.
#[derive(Debug, Default)]
struct Rate {
    seen: VecDeque<(Instant, u64)>,
    /// Of the curve: when its last point was made, and at which step.
    marked: Option<(Instant, u64)>,
}

impl Rate {
    fn note(&mut self, now: Instant, committed: u64) {
        self.seen.push_back((now, committed));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_OVER) {
            self.seen.pop_front();
        }
    }

    /// Steps per second; none before two commits, 0 where none came for long.
    fn now(&self) -> Option<f64> {
        let ((first, from), (last, to)) = (self.seen.front()?, self.seen.back()?);
        let span = last.duration_since(*first).as_secs_f64();
        let idle = last.elapsed();
        if idle > RATE_OVER {
            return Some(0.0);
        }
        (span > 0.0).then(|| (to - from) as f64 / span)
    }

    /// A point for the curve about once a second.
    fn point(&mut self, now: Instant, committed: u64) -> Option<f64> {
        let (at, from) = *self.marked.get_or_insert((now, committed));
        let span = now.duration_since(at).as_secs_f64();
        if span < 1.0 {
            return None;
        }
        self.marked = Some((now, committed));
        Some((committed - from) as f64 / span)
    }
}

impl Board {
    /// An empty board of a job.
    #[must_use]
    pub fn new(law: Arc<Law>) -> Self {
        Self { law, shown: Arc::default() }
    }

    /// This coordinator stands by; another leads, there where it is known.
    pub fn stand_by(&self, leader: Option<Whereabouts>) {
        let mut shown = self.shown();
        // What a run that ended under this leader came to stays to be seen, unless somebody tries again what failed.
        let goes_on = |term: &Term| !term.is_over() || (term.failed.is_some() && leader.is_some());
        if shown.term.as_ref().is_none_or(goes_on) {
            *shown = Shown { leader, term: None };
        }
    }

    /// Where the page of the leader is, if that is another coordinator and known.
    pub fn leader_page(&self) -> Option<String> {
        let shown = self.shown();
        shown.leader.as_ref().filter(|_| shown.term.is_none())?.page.clone()
    }

    /// A term begins, of a run with this history: everything it lets observers see is to be sent here.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn begin(&self, name: TermName, samples: Option<u64>, history: History) -> io::Result<Sender<Observation>> {
        let term = Term::new(&self.law, name, samples, history);
        *self.shown() = Shown { leader: None, term: Some(term) };
        let (sender, seen) = channel();
        let board = self.clone();
        let meters = Meters::new();
        thread::Builder::new().name("board".into()).spawn(move || {
            for observation in seen {
                if let Some(term) = &mut board.shown().term {
                    term.see(&board.law, &meters, observation);
                }
            }
        })?;
        Ok(sender)
    }

    /// Whether a look inside the run has to bring the table: no step was committed since this leader began.
    pub fn lacks_table(&self) -> bool {
        self.shown().term.as_ref().is_some_and(|term| term.table.version() == Step(0))
    }

    /// What a look inside the run found; it may come late.
    pub fn found(&self, inside: Inside) {
        if let Some(term) = self.shown().term.as_mut().filter(|term| !term.is_over()) {
            term.find(inside);
        }
    }

    /// The results of a run are written, in this term or long ago.
    pub fn retire(&self, run: &Retired) {
        let eval = read_optional(&run.place.folder.join("eval.json")).ok().flatten();
        let name = TermName { run_id: run.run_id.clone(), run_dir: run.place.shown() };
        let mut shown = self.shown();
        let history = || History::read(&run.place.folder).unwrap_or_default();
        let term = shown.term.get_or_insert_with(|| Term::new(&self.law, name, None, history()));
        let steps = run.table.version().0;
        term.table = run.table.clone();
        term.complete = Some(Complete { eval });
        term.inside =
            Inside { phase: "complete", committed: steps, durable: steps, total: Some(steps), ..term.inside.clone() };
        term.inside.members.clear();
        // One that is answered for long after its end says so already.
        if term.events.iter().all(|happening| happening.kind != WRITTEN) {
            term.tell(Happening::written(SystemTime::now()));
        }
    }

    /// The run ended under this leader and is not complete.
    pub fn fail(&self, reason: &str) {
        if let Some(term) = &mut self.shown().term {
            (term.inside.phase, term.failed) = ("failed", Some(reason.to_owned()));
            // Everybody was told to end.
            term.inside.members.clear();
        }
    }

    /// `/api/state`.
    #[must_use]
    pub fn to_json(&self, now: SystemTime) -> String {
        let shown = self.shown();
        serde_json::to_string(&shown.state(&self.law, now)).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// Numbers for gauges.
    pub fn measure<T>(&self, read: impl FnOnce(&Law, Option<View<'_>>) -> T) -> T {
        let shown = self.shown();
        let view = shown.term.as_ref().map(|term| View {
            table: &term.table,
            draws: &term.draws,
            inside: &term.inside,
            loss: term.loss.points().last().map(|(_, loss)| *loss),
            complete: term.complete.is_some(),
            failed: term.failed.is_some(),
        });
        read(&self.law, view)
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What gauges are read from.
pub struct View<'a> {
    pub table: &'a Table,
    pub draws: &'a [u64],
    pub inside: &'a Inside,
    pub loss: Option<f64>,
    pub complete: bool,
    pub failed: bool,
}

impl Shown {
    fn state<'a>(&'a self, law: &'a Law, now: SystemTime) -> State<'a> {
        let nothing = State {
            version: env!("CARGO_PKG_VERSION"),
            now: millis(now),
            leading: false,
            leader: self.leader.as_ref().map(|leader| leader.address.as_str()),
            leader_page: self.leader.as_ref().and_then(|leader| leader.page.as_deref()),
            run: None,
            progress: None,
            time: None,
            loss: None,
            speed: None,
            cost: None,
            rule: None,
            budgets: None,
            stitches: None,
            palette: None,
            members: None,
            events: None,
        };
        let Some(term) = &self.term else { return nothing };
        State {
            leading: true,
            run: Some(term.run(&law.spec)),
            progress: Some(term.progress(&law.spec)),
            time: term.shares(),
            loss: Some(state::curve(&term.loss)),
            speed: Some(state::curve(&term.speed)),
            cost: Some(state::cost_of(law)),
            rule: Some(law.spec.palette.rule),
            budgets: Some(state::budgets(law, &term.table, &term.draws)),
            stitches: Some(state::stitches(law, &term.table, |stitch| term.accuracy(stitch))),
            palette: Some(term.palette(law)),
            members: Some(&term.inside.members),
            events: Some(term.events.iter().collect()),
            ..nothing
        }
    }
}

impl Term {
    /// What was seen before is told again: whoever looks is to see a run, and not a term of it.
    fn new(law: &Law, name: TermName, samples: Option<u64>, history: History) -> Self {
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
            failed: None,
            complete: None,
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

    fn is_over(&self) -> bool {
        self.complete.is_some() || self.failed.is_some()
    }

    /// A look inside the run found this.
    fn find(&mut self, mut inside: Inside) {
        if let Some(table) = inside.table.take().filter(|table| table.version() > self.table.version()) {
            self.table = table;
        }
        self.inside = inside;
    }

    fn see(&mut self, law: &Law, meters: &Meters, observation: Observation) {
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
                let before = self.rate.seen.back().map(|(at, _)| now.duration_since(*at)).unwrap_or_default();
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
                    self.failed = Some(reason.clone());
                }
                self.tell(Happening::of(SystemTime::now(), &notice));
            }
            Observation::Finished { table, .. } => {
                self.table = table;
                self.tell(Happening::finished(SystemTime::now()));
            }
        }
    }

    fn tell(&mut self, happening: Happening) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(happening);
    }

    fn run<'a>(&'a self, spec: &'a JobSpec) -> RunState<'a> {
        RunState {
            id: &self.name.run_id,
            job: &spec.name,
            kind: if spec.data.text.is_some() { "language" } else { "vision" },
            mode: spec.mode,
            phase: self.inside.phase,
            epoch: self.inside.epoch,
            generation: self.inside.generation,
            began: millis(self.began),
            expected: self.inside.expected,
            complete: self.complete.is_some(),
            failed: self.failed.as_deref(),
        }
    }

    fn progress(&self, spec: &JobSpec) -> Progress {
        let Inside { committed, durable, total, .. } = self.inside;
        let rate = self.rate.now();
        let batch = f64::from(spec.train.batch_size);
        let left = total.map(|total| total.saturating_sub(committed) as f64);
        Progress {
            committed,
            durable,
            total,
            lag: committed.saturating_sub(durable),
            skipped: self.skipped,
            lost: self.lost,
            steps_per_second: rate,
            samples_per_second: rate.map(|rate| rate * batch),
            seconds_left: left.zip(rate.filter(|rate| *rate > 0.0)).map(|(left, rate)| left / rate),
            epoch: self.samples.map(|samples| committed as f64 * batch / samples.max(1) as f64),
        }
    }

    fn shares(&self) -> Option<Phases<f64>> {
        let seconds = self.spent.phases.map(|spent| spent.as_secs_f64());
        let all = seconds.total();
        (all > 0.0).then(|| seconds.map(|part| part / all))
    }

    fn eval(&self) -> Option<&EvalFile> {
        self.complete.as_ref().and_then(|complete| complete.eval.as_ref())
    }

    fn accuracy(&self, stitch: esta_proto::StitchId) -> Option<f64> {
        self.eval()?.results.iter().find(|result| result.stitch == stitch).map(|result| result.accuracy)
    }

    fn palette(&self, law: &Law) -> Vec<Entry> {
        let here = Path::new("");
        state::palette_now(law, &self.table).into_iter().map(|entry| entry.evaluated(self.eval(), here)).collect()
    }
}

#[cfg(test)]
mod tests;
