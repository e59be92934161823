//! The categorical sampler (LAW): (seed, V(t), step, slot) -> stitch, budget first, then a draw inside it
//! (METHOD.md section 3).
//!
//! ST-2: the sequence of draws depends only on (seed, spec, committed scores).

use std::cell::OnceCell;

use esta_proto::{BudgetId, Step, StitchId};
use rand::{RngExt, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::{
    catalog::Catalog,
    spec::{SamplingSpec, SamplingStrategy},
    streams::{self, Stream},
    table::Table,
};

/// Why a slot got its stitch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The table decided.
    Importance,
    /// Its budget still gives every stitch its first real visits, least visited first.
    Warm,
    /// Uniform, by the job's strategy.
    Uniform,
    /// The floor of visits that anchors get.
    AnchorFloor,
    /// The table's ranking of its budget by the stitches' own losses decided.
    Bandit,
}

impl Reason {
    /// The word for it, as records and files spell it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Importance => "importance",
            Self::Warm => "warm",
            Self::Uniform => "uniform",
            Self::AnchorFloor => "anchor_floor",
            Self::Bandit => "bandit",
        }
    }
}

/// One slot's draw.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Draw {
    /// The stitch.
    pub stitch: StitchId,
    /// Its bin.
    pub budget: BudgetId,
    /// Probability of this stitch at this slot, the choice of the budget included.
    pub probability: f64,
    /// Why this one.
    pub reason: Reason,
}

/// How many times its real visits a stitch is visited for their sake: a job may train nothing that scores are of.
const PATIENCE: u64 = 8;

/// Draws stitches for the slots of a step.
#[derive(Debug, Clone)]
pub struct Sampler {
    spec: SamplingSpec,
    seed: u64,
    /// Bins in ascending cost, stitches in ascending id.
    bins: Vec<Vec<StitchId>>,
    anchors: Vec<StitchId>,
    /// By stitch id: its bin.
    budget: Vec<BudgetId>,
    /// By stitch id: its place in the seeded order of first visits.
    warm_place: Vec<u32>,
}

impl Sampler {
    /// A sampler over a catalog.
    #[must_use]
    pub fn new(catalog: &Catalog, spec: &SamplingSpec, seed: u64) -> Self {
        let mut budget = vec![BudgetId(0); catalog.id_bound()];
        for stitch in catalog.stitches() {
            budget[stitch.id.index()] = stitch.budget;
        }
        Self {
            spec: spec.clone(),
            seed,
            bins: catalog.bins().to_vec(),
            anchors: catalog.stitches().filter(|s| s.is_anchor()).map(|s| s.id).collect(),
            budget,
            warm_place: warm_order(catalog.id_bound(), seed),
        }
    }

    /// The draws of a step, in slot order, from the table V(t).
    ///
    /// `in_flight` counts, by stitch id, the slots of earlier steps that are drawn but not yet in the table: they too
    /// are a function of (seed, spec, committed scores), and keep steps planned ahead from visiting one stitch alike.
    #[must_use]
    pub fn draw_step(&self, step: Step, table: &Table, in_flight: &[u32]) -> Vec<Draw> {
        let mut pending = in_flight.to_vec();
        pending.resize(self.budget.len(), 0);
        let view = View { sampler: self, table, inside: self.bins.iter().map(|_| OnceCell::new()).collect() };
        (0..u64::from(self.spec.slots))
            .map(|slot| {
                let draw = self.draw_slot(step.0 * u64::from(self.spec.slots) + slot, &view, &pending);
                pending[draw.stitch.index()] += 1;
                draw
            })
            .collect()
    }

    /// The distribution inside a bin, by position in the bin; sums to 1.
    #[must_use]
    pub fn distribution(&self, budget: BudgetId, table: &Table) -> Vec<f64> {
        let bin = &self.bins[budget.index()];
        let uniform = 1.0 / bin.len() as f64;
        let preferences = match self.spec.strategy {
            SamplingStrategy::Importance => bin.iter().map(|id| table.row(*id).importance.unwrap_or(0.0)).collect(),
            SamplingStrategy::Bandit => by_rank(&bin.iter().map(|id| table.row(*id).effect).collect::<Vec<_>>()),
            SamplingStrategy::Bins | SamplingStrategy::Uniform => Vec::new(),
        };
        let total: f64 = preferences.iter().sum();
        if !(total.is_finite() && total > 0.0) {
            return vec![uniform; bin.len()];
        }
        let epsilon = self.spec.epsilon;
        preferences.iter().map(|p| (1.0 - epsilon) * p / total + epsilon * uniform).collect()
    }

    /// Every slot takes the same three numbers from its own stream, whatever they are used for.
    fn draw_slot(&self, index: u64, view: &View, pending: &[u32]) -> Draw {
        let mut rng = streams::rng(self.seed, Stream::Draw, index);
        let (floor, which, inside): (f64, f64, f64) = (rng.random(), rng.random(), rng.random());
        if floor < self.spec.anchor_floor {
            let stitch = self.anchors[pick_uniform(inside, self.anchors.len())];
            return self.draw(stitch, Reason::AnchorFloor, view);
        }
        if self.spec.strategy == SamplingStrategy::Uniform {
            let position = pick_uniform(inside, self.bins.iter().map(Vec::len).sum());
            let stitch = *self.bins.iter().flatten().nth(position).expect("the position is within the catalog");
            return self.draw(stitch, Reason::Uniform, view);
        }
        let budget = BudgetId(pick_uniform(which, self.bins.len()) as u32);
        if let Some(stitch) = self.least_visited(budget, view.table, pending) {
            let probability = (1.0 - self.spec.anchor_floor) / self.bins.len() as f64;
            return Draw { stitch, budget, probability, reason: Reason::Warm };
        }
        let position = pick(inside, view.distribution(budget));
        let reason = match self.spec.strategy {
            SamplingStrategy::Importance => Reason::Importance,
            SamplingStrategy::Bandit => Reason::Bandit,
            SamplingStrategy::Bins | SamplingStrategy::Uniform => Reason::Uniform,
        };
        self.draw(self.bins[budget.index()][position], reason, view)
    }

    fn draw(&self, stitch: StitchId, reason: Reason, view: &View) -> Draw {
        Draw { stitch, budget: self.budget[stitch.index()], probability: self.probability(stitch, view), reason }
    }

    /// Marginal probability of a stitch at a slot whose budgets are past their first visits.
    fn probability(&self, stitch: StitchId, view: &View) -> f64 {
        let floor = self.spec.anchor_floor;
        let by_floor = if self.anchors.contains(&stitch) { floor / self.anchors.len() as f64 } else { 0.0 };
        let inside = if self.spec.strategy == SamplingStrategy::Uniform {
            1.0 / self.bins.iter().map(Vec::len).sum::<usize>() as f64
        } else {
            let budget = self.budget[stitch.index()];
            let position = self.bins[budget.index()].iter().position(|id| *id == stitch);
            let position = position.expect("a stitch is in its own bin");
            view.distribution(budget)[position] / self.bins.len() as f64
        };
        by_floor + (1.0 - floor) * inside
    }

    /// The stitch of a bin that first visits are due to, while any of them lacks its real visits.
    fn least_visited(&self, budget: BudgetId, table: &Table, pending: &[u32]) -> Option<StitchId> {
        // Where chance decides, nothing has to be known.
        self.spec.strategy.reads()?;
        let warm = u64::from(self.spec.warm_visits);
        let visits = |id: &StitchId| {
            let (row, pending) = (table.row(*id), u64::from(pending[id.index()]));
            (row.real_visits + pending, row.visits + pending)
        };
        let lacks = |id: &&StitchId| {
            let (real, all) = visits(id);
            real < warm && all < PATIENCE * warm
        };
        let due = self.bins[budget.index()].iter().filter(lacks);
        due.min_by_key(|id| (visits(id), self.warm_place[id.index()])).copied()
    }
}

/// What the slots of one step see: one table, and each bin's distribution made once, however many slots draw from it.
struct View<'a> {
    sampler: &'a Sampler,
    table: &'a Table,
    /// By budget.
    inside: Vec<OnceCell<Vec<f64>>>,
}

impl View<'_> {
    fn distribution(&self, budget: BudgetId) -> &[f64] {
        self.inside[budget.index()].get_or_init(|| self.sampler.distribution(budget, self.table))
    }
}

/// 1/k for the k-th lowest effect, ties in order; none for a stitch without one.
fn by_rank(effects: &[Option<f64>]) -> Vec<f64> {
    let mut known: Vec<(f64, usize)> = effects.iter().enumerate().filter_map(|(i, e)| Some(((*e)?, i))).collect();
    known.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut weights = vec![0.0; effects.len()];
    for (rank, (_, position)) in known.into_iter().enumerate() {
        weights[position] = 1.0 / (rank + 1) as f64;
    }
    weights
}

fn warm_order(id_bound: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..id_bound as u32).collect();
    order.shuffle(&mut streams::rng(seed, Stream::WarmOrder, 0));
    order
}

/// Position of the uniform number u in [0, 1) among `count` equal parts.
fn pick_uniform(u: f64, count: usize) -> usize {
    ((u * count as f64) as usize).min(count - 1)
}

/// Position of the uniform number u in [0, 1) in a distribution, summed in order.
fn pick(u: f64, distribution: &[f64]) -> usize {
    let mut sum = 0.0;
    let inside = distribution.iter().position(|p| {
        sum += p;
        u < sum
    });
    inside.unwrap_or(distribution.len() - 1)
}

#[cfg(test)]
#[path = "sampler_test.rs"]
mod tests;
