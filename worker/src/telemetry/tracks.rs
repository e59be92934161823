//! Which of a worker's steps and groups are traced (HANDS): what messages said of it, kept until the work is done.

use std::{collections::BTreeMap, sync::Arc};

use esta_engine::run::{Message, Ready};
use esta_proto::{Fence, Generation, Rank, Step};
use esta_telemetry::trace::{Context, Span, number};
use esta_worker_engine::TrainerEvent;
use opentelemetry::KeyValue;

/// Steps in hand at most: plans that were never carried out are forgotten from the oldest on.
const STEPS: usize = 256;

/// Generations whose rank is remembered: the one that stands, and those that may be formed next.
const SEATS: usize = 8;

/// A rank's place in a step's trace.
#[derive(Debug, Clone)]
pub struct Part {
    /// The root of the trace.
    pub step: Context,
    /// The span of the rank's own part.
    pub own: Context,
    /// Which rank that is, where it was told within a trace.
    pub rank: Option<Rank>,
    /// What its worker calls itself.
    pub worker: Arc<str>,
}

/// Traced steps and groups of a session.
#[derive(Debug, Default)]
pub struct Tracks {
    /// What this worker calls itself.
    worker: Arc<str>,
    /// Its ranks by generation.
    seats: BTreeMap<Generation, Rank>,
    steps: BTreeMap<Step, Part>,
    /// Groups that are being built, by generation.
    groups: BTreeMap<Generation, Span>,
}

impl Tracks {
    /// Of a worker of this name.
    #[must_use]
    pub fn of(worker: &str) -> Self {
        Self { worker: worker.into(), ..Self::default() }
    }

    /// The coordinator said something that belongs to a trace.
    pub fn hear(&mut self, context: Context, fence: Fence, message: &Message) {
        match message {
            Message::Plan(plan) => {
                let rank = self.seats.get(&fence.generation).copied();
                let part = Part { step: context, own: context.child(), rank, worker: self.worker.clone() };
                self.steps.insert(plan.step, part);
                if self.steps.len() > STEPS {
                    self.steps.pop_first();
                }
            }
            Message::Form(form) => {
                self.begin(Span::below(context, "rank forms group"), fence.generation, form.rank, form.world);
            }
            Message::Prepare(seat) => {
                self.begin(Span::below(context, "rank prepares group"), seat.generation, seat.rank, seat.world);
            }
            _ => {}
        }
    }

    /// A group begins to be built.
    fn begin(&mut self, span: Span, generation: Generation, rank: Rank, world: u32) {
        self.seats.insert(generation, rank);
        if self.seats.len() > SEATS {
            self.seats.pop_first();
        }
        let worker = KeyValue::new("esta.worker", self.worker.to_string());
        let of = [number("esta.rank", rank.0.into()), number("esta.ranks", world.into()), worker];
        self.groups.insert(generation, span.with(of));
    }

    /// The rank's place in the trace of a step.
    #[must_use]
    pub fn part(&self, step: Step) -> Option<Part> {
        self.steps.get(&step).cloned()
    }

    /// The trainer said something.
    pub fn note(&mut self, event: &TrainerEvent) {
        match event {
            TrainerEvent::Ready(generation, Ready { applied, .. }) => {
                if let Some(span) = self.groups.remove(generation) {
                    span.with([number("esta.applied", applied.0)]).end();
                }
            }
            TrainerEvent::Prepared(Fence { generation, .. }) => self.end(*generation, None),
            TrainerEvent::NotPrepared(Fence { generation, .. }, reason) | TrainerEvent::Broke(generation, reason) => {
                self.end(*generation, Some(reason.clone()));
            }
            _ => {}
        }
    }

    fn end(&mut self, generation: Generation, error: Option<String>) {
        if let Some(span) = self.groups.remove(&generation) {
            span.failed(error).end();
        }
    }

    /// A step was reported: its place is needed no more, and neither are those before it.
    pub fn reported(&mut self, step: Step) {
        self.steps = self.steps.split_off(&step.next());
    }
}
