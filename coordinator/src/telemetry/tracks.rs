//! Traces of steps and generations as the leader sees them (HANDS).
//!
//! A step's trace begins when its plan is drawn and ends when its record is durable:
//!
//! ```text
//! step
//! ├── plan            the draws, as events: budget, stitch, probability, importance; entropy and version of the table
//! ├── rank step       one per rank (esta-worker): slots with forward and backward, all-reduce, apply
//! └── commit          from the first report to the durable record
//!     ├── table update    the scores, as events
//!     └── record write
//! ```
//!
//! Where a step has more draws than a span may have events, draws and scores are lists by slot among the span's attributes.
//!
//! What happens to the membership meanwhile is an event of every step under way. A generation has a trace of its own, from
//! the decision to form it to the first step given out, with the ranks' part in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use esta_engine::{
    law::Law,
    plan::Plan,
    run::{Ledger, Notice, Run, StepRecord},
    sampler::Draw,
    table::Table,
};
use esta_proto::{BudgetId, Fence, Generation, SlotId, Step, StitchId};
use esta_telemetry::trace::{self, Context, Span, number};
use opentelemetry::{Array, KeyValue, StringValue, Value};

/// As many events as OpenTelemetry lets a span have where nothing else is said: backends cut what is more.
const EVENTS: usize = 128;

/// Workers of a group that an event names.
const NAMED: usize = 64;

/// Traced steps and generations under way. Dropped, it tells of those that will not end.
#[derive(Debug)]
pub struct Tracks {
    run_id: String,
    fence: Fence,
    on: bool,
    law: Arc<Law>,
    /// In words, by stitch.
    paths: Arc<[Arc<str>]>,
    /// The first step whose plan was not looked at.
    next: Step,
    steps: BTreeMap<Step, Track>,
    forming: Option<(Generation, Span)>,
}

#[derive(Debug)]
struct Track {
    root: Span,
    /// In which generation it was given out last.
    handed_out: Option<Generation>,
    commit: Option<Span>,
    record: Option<Span>,
}

impl Track {
    fn end(self) {
        let Self { root, commit, record, .. } = self;
        record.into_iter().chain(commit).chain([root]).for_each(Span::end);
    }
}

impl Tracks {
    /// Of a run, as its leader found it.
    #[must_use]
    pub fn new(run: &Run, run_id: &str) -> Self {
        let next = run.ledger().map_or(Step(0), Ledger::committed);
        let (on, fence, law) = (trace::is_on(), run.fence(), run.law().clone());
        let path = |id| law.catalog.get(StitchId(id)).map(|stitch| stitch.path(&law.spec.family)).unwrap_or_default();
        let stitches = if on { law.catalog.id_bound() as u32 } else { 0 };
        let paths = (0..stitches).map(|id| path(id).into()).collect();
        Self { run_id: run_id.to_owned(), fence, on, law, paths, next, steps: BTreeMap::new(), forming: None }
    }

    /// The law has handled something since `began`: plans may have been drawn.
    pub fn look(&mut self, run: &Run, began: SystemTime) {
        let Some(ledger) = run.ledger().filter(|_| self.on) else { return };
        while let Some(plan) = self.unseen(ledger) {
            let step = self.next;
            self.next = step.next();
            let Some(context) = Context::of_step(&self.run_id, step) else { continue };
            let Some(plan) = plan else { continue };
            let span = Span::below(context, "plan").since(began).with(plan_attributes(&plan));
            // What the draws were drawn by, unless the table has moved on since.
            let table = ledger.table();
            let table = (plan.table_version == table.version()).then(|| table.clone());
            let (law, paths, drawn) = (self.law.clone(), self.paths.clone(), SystemTime::now());
            trace::later(move || tell_of_plan(span, &plan, &law, table.as_ref(), &paths, drawn));
            let root = Span::at("step", context).since(began).with([
                KeyValue::new("esta.run", self.run_id.clone()),
                number("esta.step", step.0),
                number("esta.epoch", self.fence.epoch.0),
            ]);
            self.steps.insert(step, Track { root, handed_out: None, commit: None, record: None });
        }
    }

    /// The plan of the next step that was not looked at, if it is drawn; its content only where the step may be kept.
    fn unseen(&self, ledger: &Ledger) -> Option<Option<Plan>> {
        let drawn = ledger.drawn(self.next, SlotId(0)).is_some();
        drawn.then(|| Context::of_step(&self.run_id, self.next).and_then(|_| ledger.plan(self.next)))
    }

    /// The trace of a step that is given out, for the messages that do so.
    pub fn hand_out(&mut self, step: Step) -> Option<Context> {
        let track = self.steps.get_mut(&step)?;
        if track.handed_out.replace(self.fence.generation) != Some(self.fence.generation) {
            track.root.event("handed out", SystemTime::now(), vec![number("esta.generation", self.fence.generation.0)]);
        }
        Some(track.root.context())
    }

    /// A step is given out, so its generation stands.
    pub fn stands(&mut self) {
        if let Some((_, span)) = self.forming.take() {
            span.end();
        }
    }

    /// The trace of a generation, for messages that are about it.
    #[must_use]
    pub fn of_generation(&self, generation: Generation) -> Option<Context> {
        self.on.then(|| Context::of_generation(&self.run_id, self.fence.epoch, generation)).flatten()
    }

    /// A report of a step arrived from a span of its rank.
    pub fn reported(&mut self, step: Step, from: Option<Context>) {
        if let Some(track) = self.steps.get_mut(&step).filter(|track| track.commit.is_none()) {
            track.commit = Some(Span::below(track.root.context(), "commit").linked(from));
        }
    }

    /// A step was committed by what the law handled since `began`; its record goes to the writer.
    pub fn committed(&mut self, record: &StepRecord, table: Option<&Table>, began: SystemTime) {
        let Some(track) = self.steps.get_mut(&record.step) else { return };
        let commit = track.commit.get_or_insert_with(|| Span::below(track.root.context(), "commit").since(began));
        let version = number("esta.table_version", record.step.next().0);
        let update = Span::below(commit.context(), "table update").since(began).with([version]);
        let (scored, table, at) = (record.clone(), table.cloned(), SystemTime::now());
        trace::later(move || tell_of_scores(update, &scored, table.as_ref(), at));
        let skipped = record.outcomes.iter().any(|outcome| !outcome.valid);
        track.root = track.root.clone().with([KeyValue::new("esta.skipped", skipped)]);
        track.record = Some(Span::below(commit.context(), "record write"));
    }

    /// The records of these steps are durable.
    pub fn durable(&mut self, steps: &[StepRecord]) {
        for record in steps {
            if let Some(track) = self.steps.remove(&record.step) {
                track.end();
            }
        }
    }

    /// Every record that went to the writer is durable.
    pub fn all_durable(&mut self) {
        let is_written = |(_, track): &(Step, Track)| track.record.is_some();
        let (written, open): (BTreeMap<_, _>, _) = std::mem::take(&mut self.steps).into_iter().partition(is_written);
        self.steps = open;
        written.into_values().for_each(Track::end);
    }

    /// Something happened to the run.
    pub fn note(&mut self, notice: &Notice) {
        if !self.on {
            return;
        }
        let (now, (name, attributes)) = (SystemTime::now(), told(notice));
        for track in self.steps.values_mut() {
            track.root.event(name, now, attributes.clone());
        }
        match notice {
            Notice::Preparing(generation, _) => self.begin_to_form(*generation, attributes),
            Notice::Formed(generation, _) => {
                self.fence.generation = *generation;
                if self.forming.as_ref().is_none_or(|(forming, _)| forming != generation) {
                    self.begin_to_form(*generation, attributes);
                } else if let Some((_, span)) = &mut self.forming {
                    span.event(name, now, attributes);
                }
            }
            Notice::Forgone(_, reason) => {
                if let Some((_, span)) = self.forming.take() {
                    span.failed(Some(reason.clone())).end();
                }
            }
            _ => {
                if let Some((_, span)) = &mut self.forming {
                    span.event(name, now, attributes);
                }
            }
        }
    }

    fn begin_to_form(&mut self, generation: Generation, attributes: Vec<KeyValue>) {
        if let Some((_, span)) = self.forming.take() {
            span.failed(Some(format!("generation {generation} takes its place"))).end();
        }
        let Some(context) = self.of_generation(generation) else { return };
        let run = KeyValue::new("esta.run", self.run_id.clone());
        let span = Span::at("generation", context).with(attributes).with([run]);
        self.forming = Some((generation, span));
    }
}

impl Drop for Tracks {
    fn drop(&mut self) {
        let why = || Some("under way when the leader's term ended".to_owned());
        let steps = std::mem::take(&mut self.steps);
        for Track { root, commit, record, .. } in steps.into_values() {
            // Whoever leads next ends the trace's root, by the same id: what was seen of it here goes below it.
            let term = root.below_its_place("term");
            record.into_iter().chain(commit).chain([term]).for_each(|span| span.failed(why()).end());
        }
        if let Some((_, span)) = self.forming.take() {
            span.failed(why()).end();
        }
    }
}

fn plan_attributes(plan: &Plan) -> [KeyValue; 3] {
    [
        number("esta.table_version", plan.table_version.0),
        number("esta.slots", plan.draws.len() as u64),
        number("esta.first_sample", plan.first_sample),
    ]
}

/// A plan's draws, as events of its span; `table` is the one they were drawn by, where it is known.
fn tell_of_plan(span: Span, plan: &Plan, law: &Law, table: Option<&Table>, paths: &[Arc<str>], at: SystemTime) {
    let mut span = span.with(table.and_then(|table| entropy(law, table, &plan.draws)));
    if plan.draws.len() > EVENTS {
        return span.with(draw_lists(&plan.draws, table)).end_at(at);
    }
    for (slot, draw) in (0u64..).zip(&plan.draws) {
        let mut attributes = Vec::with_capacity(7);
        attributes.extend([
            number("esta.slot", slot),
            number("esta.budget", draw.budget.0.into()),
            number("esta.stitch", draw.stitch.0.into()),
            KeyValue::new("esta.path", paths.get(draw.stitch.index()).cloned().unwrap_or_default()),
            KeyValue::new("esta.probability", draw.probability),
            KeyValue::new("esta.reason", draw.reason.word()),
        ]);
        let importance = table.and_then(|table| table.row(draw.stitch).importance);
        attributes.extend(importance.map(|importance| KeyValue::new("esta.importance", importance)));
        span.event("draw", at, attributes);
    }
    span.end_at(at);
}

/// Draws by slot, of many.
fn draw_lists(draws: &[Draw], table: Option<&Table>) -> Vec<KeyValue> {
    let importance = |draw: &Draw, table: &Table| table.row(draw.stitch).importance.unwrap_or(f64::NAN);
    let mut lists = vec![
        whole("esta.draws.budget", draws.iter().map(|draw| draw.budget.0)),
        whole("esta.draws.stitch", draws.iter().map(|draw| draw.stitch.0)),
        real("esta.draws.probability", draws.iter().map(|draw| draw.probability)),
    ];
    lists.extend(table.map(|table| real("esta.draws.importance", draws.iter().map(|draw| importance(draw, table)))));
    lists
}

fn whole(key: &'static str, values: impl Iterator<Item = u32>) -> KeyValue {
    KeyValue::new(key, Value::Array(Array::I64(values.map(i64::from).collect())))
}

fn real(key: &'static str, values: impl Iterator<Item = f64>) -> KeyValue {
    KeyValue::new(key, Value::Array(Array::F64(values.collect())))
}

/// What a step's slots brought, as events of the update they made; `table` is the one they led to.
fn tell_of_scores(mut span: Span, record: &StepRecord, table: Option<&Table>, at: SystemTime) {
    if record.outcomes.len() > EVENTS {
        let lists = [
            whole("esta.scores.stitch", record.draws.iter().map(|draw| draw.stitch.0)),
            real("esta.scores.score", record.outcomes.iter().map(|outcome| outcome.score)),
            real("esta.scores.loss", record.outcomes.iter().map(|outcome| outcome.loss)),
            real("esta.scores.grad_norm", record.outcomes.iter().map(|outcome| outcome.grad_norm)),
        ];
        return span.with(lists).end_at(at);
    }
    for ((slot, draw), outcome) in (0u64..).zip(&record.draws).zip(&record.outcomes) {
        let mut attributes = Vec::with_capacity(6);
        attributes.extend([
            number("esta.slot", slot),
            number("esta.stitch", draw.stitch.0.into()),
            KeyValue::new("esta.score", outcome.score),
            KeyValue::new("esta.loss", outcome.loss),
            KeyValue::new("esta.grad_norm", outcome.grad_norm),
        ]);
        let importance = table.and_then(|table| table.row(draw.stitch).importance);
        attributes.extend(importance.map(|importance| KeyValue::new("esta.importance", importance)));
        span.event("score", at, attributes);
    }
    span.end_at(at);
}

/// Entropy of the distributions that were drawn from, over their uniform ones: mean over the budgets drawn.
fn entropy(law: &Law, table: &Table, draws: &[Draw]) -> Option<KeyValue> {
    let budgets: BTreeSet<BudgetId> = draws.iter().map(|draw| draw.budget).collect();
    let known: Vec<f64> = budgets.iter().filter_map(|budget| relative_entropy(law, table, *budget)).collect();
    (!known.is_empty()).then(|| KeyValue::new("esta.entropy", known.iter().sum::<f64>() / known.len() as f64))
}

/// Entropy of the distribution inside a budget over that of its uniform one, 0 to 1; none of a single stitch.
pub fn relative_entropy(law: &Law, table: &Table, budget: BudgetId) -> Option<f64> {
    let distribution = law.sampler.distribution(budget, table);
    let uniform = (distribution.len() as f64).ln();
    let nats: f64 = distribution.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
    (uniform > 0.0).then(|| nats / uniform)
}

/// What a notice is called, and what it says.
fn told(notice: &Notice) -> (&'static str, Vec<KeyValue>) {
    let of = |generation: &Generation| number("esta.generation", generation.0);
    let why = |reason: &String| KeyValue::new("esta.reason", reason.clone());
    let worker = |name: &String| KeyValue::new("esta.worker", name.clone());
    let group = |generation: &Generation, workers: &[String]| {
        let few = workers.iter().take(NAMED).map(|worker| StringValue::from(worker.clone())).collect();
        let named = KeyValue::new("esta.workers", Value::Array(Array::String(few)));
        vec![of(generation), number("esta.ranks", workers.len() as u64), named]
    };
    match notice {
        Notice::Formed(generation, workers) => ("generation formed", group(generation, workers)),
        Notice::Preparing(generation, workers) => ("generation prepared", group(generation, workers)),
        Notice::Forgone(generation, reason) => ("generation forgone", vec![of(generation), why(reason)]),
        Notice::Ended(generation, reason) => ("generation ended", vec![of(generation), why(reason)]),
        Notice::ForeignReport(_, step) => ("foreign report", vec![number("esta.reported_step", step.0)]),
        Notice::RedoDiffers(step) => ("redo differs", vec![number("esta.reported_step", step.0)]),
        Notice::Skipped(step) => ("step skipped", vec![number("esta.skipped_step", step.0)]),
        Notice::TurnedAway(name, reason) => ("worker turned away", vec![worker(name), why(reason)]),
        Notice::Evicted(name, reason) => ("worker lost", vec![worker(name), why(reason)]),
        Notice::Gone(name) => ("worker gone", vec![worker(name)]),
        Notice::Straggler(name, times) => ("straggler", vec![worker(name), KeyValue::new("esta.slowness", *times)]),
        Notice::KeepsUp(name) => ("keeps up", vec![worker(name)]),
        Notice::Resumed(generation) => ("generation resumed", vec![of(generation)]),
        Notice::Stranded(step) => ("stranded", vec![number("esta.needed_step", step.0)]),
        Notice::Failed(reason) => ("run failed", vec![why(reason)]),
    }
}

#[cfg(test)]
mod tests {
    use esta_engine::sampler::Reason;

    use super::*;

    #[test]
    fn draws_of_many_slots_are_lists_by_slot() {
        let draw = |slot: u32| Draw {
            stitch: StitchId(slot % 7),
            budget: BudgetId(slot % 3),
            probability: f64::from(slot) / 500.0,
            reason: Reason::Importance,
        };
        let draws: Vec<Draw> = (0..500).map(draw).collect();
        let table = Table::new(7, 0.9);
        let lists = draw_lists(&draws, Some(&table));
        let keys: Vec<&str> = lists.iter().map(|list| list.key.as_str()).collect();
        assert_eq!(keys, ["budget", "stitch", "probability", "importance"].map(|key| format!("esta.draws.{key}")));
        let Value::Array(Array::I64(stitches)) = &lists[1].value else { panic!("{:?}", lists[1].value) };
        assert_eq!((stitches.len(), stitches[8]), (500, 1));
        let Value::Array(Array::F64(probabilities)) = &lists[2].value else { panic!("{:?}", lists[2].value) };
        assert_eq!((probabilities.len(), probabilities[250]), (500, 0.5));
        assert_eq!(draw_lists(&draws, None).len(), 3, "of a table that has moved on nothing is said");
    }
}
