//! A rank's report on the wire (LAW): its numbers enter the record, so they are checked for damage on their way.

use std::time::Duration;

use esta_proto::{InvalidMessage, SlotId, Step, digest, v1};

use super::check::{come_to, words};
use crate::{
    run::{Report, StepTimings},
    table::Outcome,
};

impl From<&Outcome> for v1::SlotOutcome {
    fn from(outcome: &Outcome) -> Self {
        Self { score: outcome.score, loss: outcome.loss, grad_norm: outcome.grad_norm, valid: outcome.valid }
    }
}

/// A slot whose numbers are usable has numbers: one that is none would stay in the table's averages for good.
fn outcome(told: &v1::SlotOutcome) -> Result<Outcome, InvalidMessage> {
    let v1::SlotOutcome { score, loss, grad_norm, valid } = *told;
    let numbers = [("SlotOutcome.score", score), ("SlotOutcome.loss", loss), ("SlotOutcome.grad_norm", grad_norm)];
    match numbers.into_iter().find(|(_, number)| valid && !number.is_finite()) {
        Some((field, value)) => Err(InvalidMessage::Number { field, value: value.to_string() }),
        None => Ok(Outcome { score, loss, grad_norm, valid }),
    }
}

impl From<&Report> for v1::StepReport {
    fn from(report: &Report) -> Self {
        let mut message = Self {
            step: report.step.0,
            plan_digest: report.plan.0.to_vec(),
            reduced_digest: report.reduced.0.to_vec(),
            outcomes: report.outcomes.iter().map(Into::into).collect(),
            timings: Some((&report.timings).into()),
            check: 0,
        };
        message.check = check_of(&message);
        message
    }
}

impl TryFrom<&v1::StepReport> for Report {
    type Error = InvalidMessage;

    fn try_from(report: &v1::StepReport) -> Result<Self, InvalidMessage> {
        let plan = digest(&report.plan_digest, "StepReport.plan_digest")?;
        let reduced = digest(&report.reduced_digest, "StepReport.reduced_digest")?;
        if report.check != check_of(report) {
            return Err(InvalidMessage::Damaged { message: "StepReport" });
        }
        Ok(Self {
            step: Step(report.step),
            plan,
            reduced,
            outcomes: report.outcomes.iter().map(outcome).collect::<Result<_, _>>()?,
            timings: report.timings.as_ref().map(Into::into).unwrap_or_default(),
        })
    }
}

/// What the numbers of a report come to that enter the record, but for the one that says so. What it took is the pace's alone.
fn check_of(report: &v1::StepReport) -> u32 {
    let outcome = |told: &v1::SlotOutcome| {
        let v1::SlotOutcome { score, loss, grad_norm, valid } = *told;
        [score.to_bits(), loss.to_bits(), grad_norm.to_bits(), valid.into()]
    };
    let heads = [report.step, report.outcomes.len() as u64].into_iter();
    let digests = words(&report.plan_digest).chain(words(&report.reduced_digest));
    come_to(heads.chain(digests).chain(report.outcomes.iter().flat_map(outcome)))
}

impl From<&StepTimings> for v1::StepTimings {
    fn from(timings: &StepTimings) -> Self {
        let us = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let slot = |(slot, took): &(SlotId, Duration)| v1::SlotTime { slot: slot.0, compute_us: us(*took) };
        Self {
            wait_plan_us: us(timings.plan),
            wait_batch_us: us(timings.batch),
            slots: timings.slots.iter().map(slot).collect(),
            reduce_us: us(timings.reduce),
            apply_us: us(timings.apply),
        }
    }
}

impl From<&v1::StepTimings> for StepTimings {
    fn from(timings: &v1::StepTimings) -> Self {
        let time = |us: u32| Duration::from_micros(us.into());
        Self {
            plan: time(timings.wait_plan_us),
            batch: time(timings.wait_batch_us),
            slots: timings.slots.iter().map(|slot| (SlotId(slot.slot), time(slot.compute_us))).collect(),
            reduce: time(timings.reduce_us),
            apply: time(timings.apply_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use esta_proto::Digest;

    use super::*;

    #[test]
    fn a_report_survives_the_wire_to_the_bit() {
        let outcome = Outcome { score: 0.1 + 0.2, loss: f64::NAN, grad_norm: -0.0, valid: false };
        let (plan, reduced) = (Digest([1; 32]), Digest([2; 32]));
        let timings = StepTimings { slots: vec![(SlotId(2), Duration::from_millis(81))], ..StepTimings::default() };
        let report = Report { step: Step(7), plan, reduced, outcomes: vec![outcome], timings: timings.clone() };
        let back = Report::try_from(&v1::StepReport::from(&report)).expect("it is whole");
        assert!(back.outcomes[0].same_bits(&outcome));
        assert_eq!((back.step, back.plan, back.reduced), (report.step, report.plan, report.reduced));
        assert_eq!(back.timings, timings);
    }

    #[test]
    fn a_valid_slot_has_numbers() {
        let told = |score, valid| v1::SlotOutcome { score, loss: 1.0, grad_norm: 1.0, valid };
        let report = |outcome| {
            let mut report = v1::StepReport {
                plan_digest: vec![1; 32],
                reduced_digest: vec![2; 32],
                outcomes: vec![outcome],
                ..v1::StepReport::default()
            };
            report.check = check_of(&report);
            report
        };
        let refused = Report::try_from(&report(told(f64::NAN, true))).expect_err("it would stay in the table");
        assert_eq!(refused.to_string(), "SlotOutcome.score is NaN, which a valid slot never has");
        assert!(Report::try_from(&report(told(f64::INFINITY, true))).is_err());
        assert!(Report::try_from(&report(told(f64::NAN, false))).is_ok(), "a skipped step says what it met");
    }

    #[test]
    fn a_report_that_was_damaged_on_its_way_is_refused() {
        let outcome = Outcome { score: 0.25, loss: 1.5, grad_norm: 2.0, valid: true };
        let (plan, reduced) = (Digest([1; 32]), Digest([2; 32]));
        let report =
            Report { step: Step(7), plan, reduced, outcomes: vec![outcome; 2], timings: StepTimings::default() };
        let whole = v1::StepReport::from(&report);
        let changes: [fn(&mut v1::StepReport); 8] = [
            |report| report.step += 1,
            |report| report.plan_digest[0] ^= 1,
            |report| report.reduced_digest[31] ^= 0x80,
            |report| report.outcomes[1].score = 0.5,
            |report| report.outcomes[0].loss = -1.5,
            |report| report.outcomes[0].valid = false,
            |report| report.outcomes.truncate(1),
            |report| report.check ^= 1,
        ];
        for change in changes {
            let mut damaged = whole.clone();
            change(&mut damaged);
            let refused = Report::try_from(&damaged).map(drop);
            assert_eq!(refused, Err(InvalidMessage::Damaged { message: "StepReport" }), "{damaged:?}");
        }
    }
}
