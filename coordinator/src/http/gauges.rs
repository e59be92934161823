//! Gauges (HANDS): numbers that are what they are when somebody reads them.

use esta_engine::law::Law;
use esta_proto::BudgetId;
use esta_telemetry::metrics::meter;
use opentelemetry::{KeyValue, metrics::AsyncInstrument};

use super::board::{Board, View};
use crate::{artifacts::metrics::coverage, telemetry::relative_entropy};

/// Workers that have a series of their own each.
const NAMED: usize = 256;

/// Makes the gauges of a board.
pub fn of(board: &Board) {
    gauge(
        board,
        "esta.leading",
        "1 where this coordinator leads, or answers for a run that is over",
        |_, view, out| {
            out.observe(f64::from(u8::from(view.is_some())), &[]);
        },
    );
    one(board, "esta.run.steps", "Steps of the whole run", |view| view.inside.total.map(|total| total as f64));
    one(board, "esta.run.committed.steps", "Steps of the run that are committed, whoever led", |view| {
        Some(view.inside.committed as f64)
    });
    one(board, "esta.run.complete", "1 once the results are written", |view| Some(f64::from(u8::from(view.complete))));
    one(board, "esta.run.failed", "1 where the run cannot go on", |view| Some(f64::from(u8::from(view.failed))));
    one(board, "esta.loss", "Mean loss of the last steps", |view| view.loss);
    one(board, "esta.generation", "The current generation", |view| Some(view.inside.generation as f64));
    one(board, "esta.leader.epoch", "The leader's term", |view| Some(view.inside.epoch as f64));
    one(board, "esta.record.lag.steps", "Committed steps that are not durable", |view| {
        Some(view.inside.committed.saturating_sub(view.inside.durable) as f64)
    });
    one(board, "esta.expected.workers", "Workers that the run waits for at its start", |view| {
        Some(view.inside.expected as f64)
    });
    one(board, "esta.stragglers", "Workers that are slower than their peers", |view| {
        Some(view.inside.members.iter().filter(|member| member.straggler).count() as f64)
    });
    gauge(
        board,
        "esta.worker.slowness",
        "How many times as long as the median of its peers a worker takes",
        |_, view, out| {
            let Some(view) = view else { return };
            let members = &view.inside.members;
            // A series for each worker is worth having while there are few; of many, those that matter.
            for member in members.iter().filter(|member| members.len() <= NAMED || member.straggler) {
                if let Some(slowness) = member.slowness {
                    out.observe(slowness, &[KeyValue::new("worker", member.name.clone())]);
                }
            }
        },
    );
    gauge(board, "esta.members", "Workers by state", |_, view, out| {
        let Some(view) = view else { return };
        let members = &view.inside.members;
        let count = |is: &dyn Fn(&super::state::MemberState) -> bool| members.iter().filter(|m| is(m)).count() as f64;
        let state = |state: &'static str| [KeyValue::new("state", state)];
        out.observe(count(&|m| m.draining), &state("draining"));
        out.observe(count(&|m| !m.draining && m.spare && m.ready), &state("spare"));
        out.observe(count(&|m| !m.draining && !m.spare && m.ready), &state("ready"));
        out.observe(count(&|m| !m.draining && !m.ready), &state("forming"));
    });
    gauge(board, "esta.sampling.coverage", "Share of the stitches that were ever drawn", |law, view, out| {
        let Some(view) = view else { return };
        out.observe(coverage(law, view.table), &[]);
    });
    by_budget(
        board,
        "esta.sampling.entropy",
        "Entropy of a budget's distribution over its uniform one",
        |law, view, b| relative_entropy(law, view.table, b),
    );
    by_budget(board, "esta.importance.mean", "Mean importance of a budget's stitches", |law, view, budget| {
        view.table.mean(&law.catalog.bins()[budget.index()], |row| row.importance)
    });
    by_budget(board, "esta.sampling.draws", "Slots drawn from a budget in committed steps", |_, view, budget| {
        view.draws.get(budget.index()).map(|draws| *draws as f64)
    });
}

type Reading = dyn Fn(&Law, Option<View<'_>>, &dyn AsyncInstrument<f64>) + Send + Sync;

fn gauge(
    board: &Board,
    name: &'static str,
    says: &'static str,
    read: impl Fn(&Law, Option<View<'_>>, &dyn AsyncInstrument<f64>) + Send + Sync + 'static,
) {
    let (board, read): (_, Box<Reading>) = (board.clone(), Box::new(read));
    let meter = meter();
    let gauge = meter.f64_observable_gauge(name).with_description(says);
    gauge.with_callback(move |out| board.measure(|law, view| read(law, view, out))).build();
}

/// A gauge of one number of a run.
fn one(
    board: &Board,
    name: &'static str,
    says: &'static str,
    read: impl Fn(&View<'_>) -> Option<f64> + Send + Sync + 'static,
) {
    gauge(board, name, says, move |_, view, out| {
        if let Some(number) = view.as_ref().and_then(&read) {
            out.observe(number, &[]);
        }
    });
}

/// A gauge of one number per budget.
fn by_budget(
    board: &Board,
    name: &'static str,
    says: &'static str,
    read: impl Fn(&Law, &View<'_>, BudgetId) -> Option<f64> + Send + Sync + 'static,
) {
    gauge(board, name, says, move |law, view, out| {
        let Some(view) = view else { return };
        for budget in (0..law.catalog.bins().len() as u32).map(BudgetId) {
            if let Some(number) = read(law, &view, budget) {
                out.observe(number, &[KeyValue::new("budget", i64::from(budget.0))]);
            }
        }
    });
}
