//! What the page is told (HANDS): `/api/state`.

use std::sync::Arc;

use esta_engine::{
    budget::{Price, Unit},
    law::Law,
    run::{Activity, Member, Phases, Run},
    spec::PaletteRule,
    table::{Row, Table},
};
use esta_proto::{BudgetId, StitchId};
use serde::Serialize;

use super::series::Series;
use crate::{
    artifacts::timeline::Happening,
    palette::{self, Entry},
    telemetry::relative_entropy,
};

/// Everything the page shows. Times are Unix milliseconds, durations seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct State<'a> {
    pub version: &'static str,
    pub now: u64,
    pub leading: bool,
    pub leader: Option<&'a str>,
    pub leader_page: Option<&'a str>,
    pub run: Option<RunState<'a>>,
    pub progress: Option<Progress>,
    /// Shares of the ranks' time.
    pub time: Option<Phases<f64>>,
    pub loss: Option<Vec<(f64, f64)>>,
    pub speed: Option<Vec<(f64, f64)>>,
    pub cost: Option<Cost>,
    pub rule: Option<PaletteRule>,
    pub budgets: Option<Vec<BudgetState>>,
    pub stitches: Option<Vec<StitchState>>,
    pub palette: Option<Vec<Entry>>,
    pub members: Option<&'a [MemberState]>,
    pub events: Option<Vec<&'a Happening>>,
}

/// Which run, and where it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunState<'a> {
    pub id: &'a str,
    pub job: &'a str,
    pub kind: &'static str,
    pub mode: esta_engine::spec::Mode,
    pub phase: &'a str,
    pub epoch: u64,
    pub generation: u64,
    pub began: u64,
    /// Workers that it waits for at its start.
    pub expected: u64,
    pub complete: bool,
    pub failed: Option<&'a str>,
}

/// How far it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Progress {
    pub committed: u64,
    pub durable: u64,
    pub total: Option<u64>,
    pub lag: u64,
    pub skipped: u64,
    pub lost: u64,
    pub steps_per_second: Option<f64>,
    pub samples_per_second: Option<f64>,
    pub seconds_left: Option<f64>,
    /// Passes over the training set.
    pub epoch: Option<f64>,
}

/// In what a stitch's cost is counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cost {
    pub unit: &'static str,
}

/// A budget and how it is sampled.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetState {
    pub id: BudgetId,
    pub low: f64,
    pub high: f64,
    pub stitches: Vec<StitchId>,
    pub draws: u64,
    pub entropy: Option<f64>,
    pub importance: Option<f64>,
    /// Running loss of its stitches, mean.
    pub loss: Option<f64>,
}

/// A stitch and its row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StitchState {
    pub id: StitchId,
    pub path: String,
    pub budget: BudgetId,
    pub cost: f64,
    pub macs: u64,
    pub params: u64,
    pub anchor: bool,
    pub importance: Option<f64>,
    pub visits: u64,
    pub loss: Option<f64>,
    /// Its own part of the loss.
    pub own: Option<f64>,
    pub accuracy: Option<f64>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberState {
    pub name: String,
    pub rank: Option<u32>,
    /// The one it has a rank in.
    pub generation: Option<u64>,
    pub phase: &'static str,
    pub step: Option<u64>,
    pub since: Option<f64>,
    pub applied: Option<u64>,
    pub ready: bool,
    pub draining: bool,
    pub spare: bool,
    pub straggler: bool,
    /// How many times as long as the median it takes.
    pub slowness: Option<f64>,
}

/// What only the run itself knows at a moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inside {
    pub phase: &'static str,
    pub epoch: u64,
    pub generation: u64,
    pub committed: u64,
    pub durable: u64,
    pub total: Option<u64>,
    pub expected: u64,
    pub members: Vec<MemberState>,
    /// The table as the last committed step left it, where it was asked for.
    pub table: Option<Arc<Table>>,
}

impl Inside {
    /// Reads it, with the table where that is asked for; what that takes grows with the workers, so it is done now and then.
    #[must_use]
    pub fn of(run: &Run, with_table: bool) -> Self {
        let fence = run.fence();
        let (slots, ledger) = (run.law().spec.sampling.slots, run.ledger());
        let normal = run.members().normal();
        let member = |member: &Member| {
            let activity = member.doing.map(|doing| doing.activity);
            let phase = activity.map_or("", Activity::word);
            MemberState {
                name: member.name.clone(),
                rank: member.rank.map(|rank| rank.0),
                generation: member.rank.map(|_| fence.generation.0),
                phase: if phase.is_empty() && member.rank.is_none() { "waiting" } else { phase },
                step: activity.and_then(Activity::step).map(|step| step.0),
                since: member.doing.map(|doing| doing.since.as_secs_f64()),
                applied: member.applied.map(|step| step.0),
                ready: member.ready,
                draining: member.draining,
                spare: member.rank.is_some_and(|rank| rank.0 >= slots),
                straggler: member.tempo.is_flagged(),
                slowness: member.slowness(normal),
            }
        };
        Self {
            phase: run.phase_name(),
            epoch: fence.epoch.0,
            generation: fence.generation.0,
            committed: ledger.map_or(0, |ledger| ledger.committed().0),
            durable: run.durable().0,
            total: ledger.map(|ledger| ledger.total().0),
            expected: u64::from(run.expected_workers()),
            members: run.members().live().values().map(member).collect(),
            table: ledger.filter(|_| with_table).map(|ledger| Arc::new(ledger.table().clone())),
        }
    }
}

/// What a catalog's costs are counted in.
#[must_use]
pub fn cost_of(law: &Law) -> Cost {
    Cost {
        unit: match law.catalog.unit() {
            Unit::Macs => "MACs",
            Unit::Params => "parameters",
            Unit::Latency => "ms",
        },
    }
}

fn amount(price: Price) -> f64 {
    match price {
        Price::Macs(count) | Price::Params(count) => count as f64,
        Price::Latency(latency) => latency.millis(),
    }
}

/// Every budget, cheapest first.
#[must_use]
pub fn budgets(law: &Law, table: &Table, draws: &[u64]) -> Vec<BudgetState> {
    let unit = law.catalog.unit();
    let budget = |(index, stitches): (usize, &Vec<StitchId>)| {
        let id = BudgetId(index as u32);
        let costs = || stitches.iter().filter_map(|id| law.catalog.get(*id)?.price(unit)).map(amount);
        let mean = |of: fn(&Row) -> Option<f64>| table.mean(stitches, of);
        BudgetState {
            id,
            low: costs().fold(f64::INFINITY, f64::min),
            high: costs().fold(0.0, f64::max),
            stitches: stitches.clone(),
            draws: draws.get(index).copied().unwrap_or_default(),
            entropy: relative_entropy(law, table, id),
            importance: mean(|row| row.importance),
            loss: mean(|row| row.loss),
        }
    };
    law.catalog.bins().iter().enumerate().map(budget).collect()
}

/// Every stitch, in order of its number.
#[must_use]
pub fn stitches(law: &Law, table: &Table, accuracy: impl Fn(StitchId) -> Option<f64>) -> Vec<StitchState> {
    let unit = law.catalog.unit();
    let stitch = |stitch: &esta_engine::catalog::Stitch| {
        let row = table.row(stitch.id);
        StitchState {
            id: stitch.id,
            path: stitch.path(&law.spec.family),
            budget: stitch.budget,
            cost: stitch.price(unit).map_or(0.0, amount),
            macs: stitch.macs,
            params: stitch.params,
            anchor: stitch.is_anchor(),
            importance: row.importance,
            visits: row.visits,
            loss: row.loss,
            own: row.effect,
            accuracy: accuracy(stitch.id),
        }
    };
    law.catalog.stitches().map(stitch).collect()
}

/// The palette as it would be deployed now.
#[must_use]
pub fn palette_now(law: &Law, table: &Table) -> Vec<Entry> {
    palette::entries(law, table, law.spec.palette.rule, None)
}

/// A curve's points.
#[must_use]
pub fn curve(series: &Series) -> Vec<(f64, f64)> {
    series.points().to_vec()
}
