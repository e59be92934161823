//! A rank's part in a traced step (HANDS), told by the trainer's thread.

use std::time::{Duration, SystemTime};

use esta_engine::plan::RankPlan;
use esta_model::SlotResult;
use esta_proto::{Generation, SlotId, StitchId};
use esta_telemetry::trace::{Span, number};
use opentelemetry::KeyValue;

use super::Part;

/// A step under way that is traced.
#[derive(Debug)]
pub struct Traced(Span);

/// A slot of it.
#[derive(Debug)]
pub struct TracedSlot(Span);

impl Traced {
    /// This rank's part in a step begins; it waited this long for the plan.
    #[must_use]
    pub fn begin(part: Part, generation: Generation, plan: &RankPlan, waited: Duration) -> Self {
        let span = Span::at("rank step", part.own).under(part.step).with([
            number("esta.step", plan.step.0),
            number("esta.generation", generation.0),
            number("esta.slots", plan.slots.len() as u64),
            KeyValue::new("esta.worker", part.worker.to_string()),
            KeyValue::new("esta.plan_wait_seconds", waited.as_secs_f64()),
        ]);
        let span = span.with(part.rank.map(|rank| number("esta.rank", rank.0.into())));
        Self(span)
    }

    /// The id of its trace, for log lines.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.0.context().trace.to_string()
    }

    /// A slot begins.
    #[must_use]
    pub fn slot(&self, slot: SlotId, stitch: StitchId) -> TracedSlot {
        let of = [number("esta.slot", slot.0.into()), number("esta.stitch", stitch.0.into())];
        TracedSlot(Span::below(self.0.context(), "slot").with(of))
    }

    /// Something that took from `began` until now.
    pub fn phase(&self, name: &'static str, began: SystemTime) {
        Span::below(self.0.context(), name).since(began).end();
    }

    /// Something that took from `began` until it failed now.
    pub fn broken_phase(&self, name: &'static str, began: SystemTime, error: String) {
        Span::below(self.0.context(), name).since(began).failed(Some(error)).end();
    }

    /// It is over: so many of its slots were run for it, the others had been summed before its generation; or it was not applied, for
    /// this reason.
    pub fn end(self, done: Result<usize, String>) {
        match done {
            Ok(run) => self.0.with([number("esta.slots_run", run as u64)]).end(),
            Err(error) => self.0.failed(Some(error)).end(),
        }
    }
}

impl TracedSlot {
    /// It is computed; forward and backward are told apart where that is known.
    pub fn end(self, result: &SlotResult) {
        let Self(span) = self;
        let (began, end) = (span.began(), SystemTime::now());
        if let Some(forward) = result.forward {
            let turned = (began + forward).min(end);
            Span::below(span.context(), "forward").since(began).end_at(turned);
            Span::below(span.context(), "backward").since(turned).end_at(end);
        }
        let numbers = [
            KeyValue::new("esta.loss", result.loss),
            KeyValue::new("esta.score", result.score),
            KeyValue::new("esta.grad_norm", result.grad_norm),
            KeyValue::new("esta.finite", result.finite),
        ];
        span.with(numbers).end_at(end);
    }
}
