//! What the board tells: the page's state, and what gauges are read from (HANDS).

use std::{path::Path, time::SystemTime};

use esta_engine::{law::Law, run::Phases, spec::JobSpec, table::Table};
use esta_proto::StitchId;

use super::{
    Shown,
    term::{End, Term},
};
use crate::{
    artifacts::{summary::EvalFile, timeline::millis},
    http::state::{self, Inside, Progress, RunState, State},
    palette::Entry,
};

/// What gauges are read from.
pub struct View<'a> {
    pub table: &'a Table,
    pub draws: &'a [u64],
    pub inside: &'a Inside,
    pub loss: Option<f64>,
    pub complete: bool,
    pub failed: bool,
}

impl<'a> View<'a> {
    pub(super) fn of(term: &'a Term) -> Self {
        Self {
            table: &term.table,
            draws: &term.draws,
            inside: &term.inside,
            loss: term.loss.points().last().map(|(_, loss)| *loss),
            complete: term.is_complete(),
            failed: term.failure().is_some(),
        }
    }
}

impl Shown {
    pub fn state<'a>(&'a self, law: &'a Law, now: SystemTime) -> State<'a> {
        let nothing = State {
            version: env!("CARGO_PKG_VERSION"),
            now: millis(now),
            leading: false,
            leader: self.leader.as_ref().map(|leader| leader.address.as_str()),
            leader_page: self.leader.as_ref().and_then(|leader| leader.page.as_deref()),
            ..State::default()
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
            complete: self.is_complete(),
            failed: self.failure(),
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

    fn is_complete(&self) -> bool {
        matches!(self.over, Some(End::Complete(_)))
    }

    fn failure(&self) -> Option<&str> {
        match &self.over {
            Some(End::Failed(reason)) => Some(reason),
            Some(End::Complete(_)) | None => None,
        }
    }

    fn eval(&self) -> Option<&EvalFile> {
        match &self.over {
            Some(End::Complete(eval)) => eval.as_deref(),
            Some(End::Failed(_)) | None => None,
        }
    }

    fn accuracy(&self, stitch: StitchId) -> Option<f64> {
        self.eval()?.results.iter().find(|result| result.stitch == stitch).map(|result| result.accuracy)
    }

    fn palette(&self, law: &Law) -> Vec<Entry> {
        let here = Path::new("");
        state::palette_now(law, &self.table).into_iter().map(|entry| entry.evaluated(self.eval(), here)).collect()
    }
}
