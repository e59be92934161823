//! Which of a worker's steps and groups are traced (HANDS): what messages said of it, kept until the work is done.

use std::collections::BTreeMap;

use esta_engine::run::{Message, Ready};
use esta_proto::{Fence, Generation, Step};
use esta_telemetry::trace::{Context, Span, number};
use esta_worker_engine::TrainerEvent;

/// Steps in hand at most: plans that were never carried out are forgotten from the oldest on.
const STEPS: usize = 256;

/// A rank's place in a step's trace.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// The root of the trace.
    pub step: Context,
    /// The span of the rank's own part.
    pub own: Context,
}

/// Traced steps and groups of a session.
#[derive(Debug, Default)]
pub struct Tracks {
    steps: BTreeMap<Step, Part>,
    /// Groups that are being built, by generation.
    groups: BTreeMap<Generation, Span>,
}

impl Tracks {
    /// The coordinator said something that belongs to a trace.
    pub fn hear(&mut self, context: Context, fence: Fence, message: &Message) {
        match message {
            Message::Plan(plan) => {
                self.steps.insert(plan.step, Part { step: context, own: context.child() });
                if self.steps.len() > STEPS {
                    self.steps.pop_first();
                }
            }
            Message::Form(form) => {
                let of = [number("esta.rank", form.rank.0.into()), number("esta.ranks", form.world.into())];
                let span = Span::below(context, "rank forms group").with(of);
                self.groups.insert(fence.generation, span);
            }
            Message::Prepare(seat) => {
                let of = [number("esta.rank", seat.rank.0.into()), number("esta.ranks", seat.world.into())];
                self.groups.insert(seat.generation, Span::below(context, "rank prepares group").with(of));
            }
            _ => {}
        }
    }

    /// The rank's place in the trace of a step.
    #[must_use]
    pub fn part(&self, step: Step) -> Option<Part> {
        self.steps.get(&step).copied()
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
