//! Between the law's types and the messages of `esta-proto` (LAW): checked on the way in, total on the way out. Both
//! ends of a session use this one home.

mod inbound;

use std::time::Duration;

use esta_proto::{Generation, GroupId, InvalidMessage, Rank, SlotId, Step, StitchId, digest, required, v1};

pub use inbound::{FromWorker, from_worker};

use crate::{
    latency::Latency,
    palette::Choice,
    plan::{RankPlan, Reporter},
    run::{
        Activity, Finish, Form, HeldShare, Hello, Message, Origin, Progress, Ready, Report, Seat, Standing,
        StepTimings, Stop,
    },
    spec::PaletteRule,
    table::Outcome,
};

impl From<&Outcome> for v1::SlotOutcome {
    fn from(outcome: &Outcome) -> Self {
        Self { score: outcome.score, loss: outcome.loss, grad_norm: outcome.grad_norm, valid: outcome.valid }
    }
}

impl From<&v1::SlotOutcome> for Outcome {
    fn from(outcome: &v1::SlotOutcome) -> Self {
        Self { score: outcome.score, loss: outcome.loss, grad_norm: outcome.grad_norm, valid: outcome.valid }
    }
}

impl From<&Report> for v1::StepReport {
    fn from(report: &Report) -> Self {
        Self {
            step: report.step.0,
            plan_digest: report.plan.0.to_vec(),
            reduced_digest: report.reduced.0.to_vec(),
            outcomes: report.outcomes.iter().map(Into::into).collect(),
            timings: Some((&report.timings).into()),
        }
    }
}

impl TryFrom<&v1::StepReport> for Report {
    type Error = InvalidMessage;

    fn try_from(report: &v1::StepReport) -> Result<Self, InvalidMessage> {
        Ok(Self {
            step: Step(report.step),
            plan: digest(&report.plan_digest, "StepReport.plan_digest")?,
            reduced: digest(&report.reduced_digest, "StepReport.reduced_digest")?,
            outcomes: report.outcomes.iter().map(Into::into).collect(),
            timings: report.timings.as_ref().map(Into::into).unwrap_or_default(),
        })
    }
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

impl From<&Hello> for v1::Hello {
    fn from(hello: &Hello) -> Self {
        Self {
            session_id: 0,
            name: hello.name.clone(),
            incarnation: hello.incarnation,
            applied: hello.applied.map(|step| step.0),
            retained: hello.retained.iter().map(Into::into).collect(),
            layout_digest: hello.layout_digest.0.to_vec(),
            checkpoints: hello.checkpoints.iter().map(|step| step.0).collect(),
            samples: hello.samples,
            standing: hello.standing.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<&v1::Hello> for Hello {
    type Error = InvalidMessage;

    fn try_from(hello: &v1::Hello) -> Result<Self, InvalidMessage> {
        Ok(Self {
            name: hello.name.clone(),
            incarnation: hello.incarnation,
            applied: hello.applied.map(Step),
            retained: hello.retained.iter().map(Report::try_from).collect::<Result<_, _>>()?,
            checkpoints: hello.checkpoints.iter().copied().map(Step).collect(),
            layout_digest: digest(&hello.layout_digest, "Hello.layout_digest")?,
            samples: hello.samples,
            standing: hello.standing.as_ref().map(Standing::try_from).transpose()?,
        })
    }
}

impl From<&HeldShare> for v1::HeldShare {
    fn from(share: &HeldShare) -> Self {
        Self {
            step: share.step.0,
            plan_digest: share.plan.0.to_vec(),
            slots: share.slots.iter().map(|slot| slot.0).collect(),
        }
    }
}

impl TryFrom<&v1::HeldShare> for HeldShare {
    type Error = InvalidMessage;

    fn try_from(share: &v1::HeldShare) -> Result<Self, InvalidMessage> {
        Ok(Self {
            step: Step(share.step),
            plan: digest(&share.plan_digest, "HeldShare.plan_digest")?,
            slots: share.slots.iter().copied().map(SlotId).collect(),
        })
    }
}

impl From<&Standing> for v1::Standing {
    fn from(standing: &Standing) -> Self {
        Self {
            generation: standing.generation.0,
            rank: standing.rank.0,
            next_step: standing.next.0,
            held: standing.held.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<&v1::Standing> for Standing {
    type Error = InvalidMessage;

    fn try_from(standing: &v1::Standing) -> Result<Self, InvalidMessage> {
        Ok(Self {
            generation: Generation(standing.generation),
            rank: Rank(standing.rank),
            next: Step(standing.next_step),
            held: standing.held.iter().map(HeldShare::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&Ready> for v1::GroupReady {
    fn from(ready: &Ready) -> Self {
        Self { applied: ready.applied.0, computed: ready.computed.as_ref().map(Into::into) }
    }
}

impl TryFrom<&v1::GroupReady> for Ready {
    type Error = InvalidMessage;

    fn try_from(ready: &v1::GroupReady) -> Result<Self, InvalidMessage> {
        let computed = ready.computed.as_ref().map(HeldShare::try_from).transpose()?;
        Ok(Self { applied: Step(ready.applied), computed })
    }
}

impl From<&Progress> for v1::Heartbeat {
    fn from(progress: &Progress) -> Self {
        use v1::heartbeat::Activity as Word;
        let (activity, step, slot) = match progress.activity {
            Activity::Idle => (Word::Idle, Step(0), SlotId(0)),
            Activity::Forming => (Word::Forming, Step(0), SlotId(0)),
            Activity::Batch(step, slot) => (Word::Batch, step, slot),
            Activity::Compute(step, slot) => (Word::Compute, step, slot),
            Activity::Reduce(step) => (Word::Reduce, step, SlotId(0)),
            Activity::Apply(step) => (Word::Apply, step, SlotId(0)),
            Activity::Writing => (Word::Writing, Step(0), SlotId(0)),
        };
        let since_ms = u32::try_from(progress.since.as_millis()).unwrap_or(u32::MAX);
        Self { activity: activity.into(), step: step.0, slot: slot.0, since_ms }
    }
}

/// An activity that this program does not know is none it would end a worker for.
impl From<&v1::Heartbeat> for Progress {
    fn from(heartbeat: &v1::Heartbeat) -> Self {
        use v1::heartbeat::Activity as Word;
        let (step, slot) = (Step(heartbeat.step), SlotId(heartbeat.slot));
        let activity = match heartbeat.activity() {
            Word::Idle => Activity::Idle,
            Word::Forming => Activity::Forming,
            Word::Batch => Activity::Batch(step, slot),
            Word::Compute => Activity::Compute(step, slot),
            Word::Reduce => Activity::Reduce(step),
            Word::Apply => Activity::Apply(step),
            Word::Writing => Activity::Writing,
        };
        Self { activity, since: Duration::from_millis(heartbeat.since_ms.into()) }
    }
}

impl From<&Form> for v1::Form {
    fn from(form: &Form) -> Self {
        let origin = match form.origin {
            Origin::Memory(step) => v1::form::Origin::Memory(step.0),
            Origin::Checkpoint(step) => v1::form::Origin::Checkpoint(step.0),
            Origin::Fresh => v1::form::Origin::Fresh(true),
        };
        Self { rank: form.rank.0, world: form.world, source: form.source.0, origin: Some(origin) }
    }
}

impl TryFrom<&v1::Form> for Form {
    type Error = InvalidMessage;

    fn try_from(form: &v1::Form) -> Result<Self, InvalidMessage> {
        let origin = match required(form.origin, "Form", "origin")? {
            v1::form::Origin::Memory(step) => Origin::Memory(Step(step)),
            v1::form::Origin::Checkpoint(step) => Origin::Checkpoint(Step(step)),
            v1::form::Origin::Fresh(_) => Origin::Fresh,
        };
        Ok(Self { rank: Rank(form.rank), world: form.world, source: Rank(form.source), origin })
    }
}

impl From<Seat> for v1::Prepare {
    fn from(seat: Seat) -> Self {
        Self { generation: seat.generation.0, rank: seat.rank.0, world: seat.world }
    }
}

impl From<v1::Prepare> for Seat {
    fn from(prepare: v1::Prepare) -> Self {
        Self { generation: Generation(prepare.generation), rank: Rank(prepare.rank), world: prepare.world }
    }
}

impl From<&RankPlan> for v1::Plan {
    fn from(plan: &RankPlan) -> Self {
        let work = |(slot, stitch): &(SlotId, StitchId)| v1::SlotWork { slot: slot.0, stitch: stitch.0 };
        let mut message = Self {
            step: plan.step.0,
            digest: plan.digest.0.to_vec(),
            table_version: plan.table_version.0,
            first_sample: plan.first_sample,
            slots: plan.slots.iter().map(work).collect(),
            slots_in_step: plan.slots_in_step,
            reporter: plan.reporter == Reporter::Yes,
            touched: counts_to_wire(&plan.touched),
            durable_steps: plan.durable.0,
            check: 0,
        };
        message.check = check_of(&message);
        message
    }
}

impl TryFrom<&v1::Plan> for RankPlan {
    type Error = InvalidMessage;

    fn try_from(plan: &v1::Plan) -> Result<Self, InvalidMessage> {
        if plan.check != check_of(plan) {
            return Err(InvalidMessage::Damaged { message: "Plan" });
        }
        Ok(Self {
            step: Step(plan.step),
            digest: digest(&plan.digest, "Plan.digest")?,
            table_version: Step(plan.table_version),
            first_sample: plan.first_sample,
            slots: plan.slots.iter().map(|work| (SlotId(work.slot), StitchId(work.stitch))).collect(),
            touched: counts_from_wire(&plan.touched)?,
            slots_in_step: plan.slots_in_step,
            reporter: if plan.reporter { Reporter::Yes } else { Reporter::No },
            durable: Step(plan.durable_steps),
        })
    }
}

/// What the numbers of a plan come to, but for the one that says so. It tells damage, not intent; digests would take as long
/// as all else that is done for a rank's plan.
fn check_of(plan: &v1::Plan) -> u32 {
    let step = [plan.step, plan.table_version, plan.first_sample, plan.durable_steps];
    let rest = [u64::from(plan.slots_in_step) << 1 | u64::from(plan.reporter), plan.slots.len() as u64];
    let digest = plan.digest.chunks(8).map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    let slots = plan.slots.iter().map(|work| u64::from(work.slot) << 32 | u64::from(work.stitch));
    let words = step.into_iter().chain(rest).chain(digest).chain(slots).chain(plan.touched.iter().map(|n| (*n).into()));
    let sum = words.fold(0, |sum: u64, word| {
        // Multiplication carries upwards alone: what changed high up has to come down again.
        let sum = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        sum ^ sum >> 32
    });
    sum as u32
}

/// Where every group of a family is touched, a byte says how often: the numbers of the groups follow from their order.
fn counts_to_wire(touched: &[(GroupId, u32)]) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(touched.len());
    let mut due = 0;
    for (group, count) in touched {
        let left_out = group.0 - due;
        numbers.push(count << 1 | u32::from(left_out > 0));
        numbers.extend((left_out > 0).then_some(left_out));
        due = group.0 + 1;
    }
    numbers
}

fn counts_from_wire(numbers: &[u32]) -> Result<Vec<(GroupId, u32)>, InvalidMessage> {
    let flaw = InvalidMessage::List { field: "Plan.touched" };
    let mut touched = Vec::with_capacity(numbers.len());
    let (mut numbers, mut due) = (numbers.iter(), 0_u32);
    while let Some(number) = numbers.next() {
        let left_out = if number & 1 == 1 { *numbers.next().ok_or_else(|| flaw.clone())? } else { 0 };
        let group = due.checked_add(left_out).ok_or_else(|| flaw.clone())?;
        touched.push((GroupId(group), number >> 1));
        due = group.checked_add(1).ok_or_else(|| flaw.clone())?;
    }
    Ok(touched)
}

impl From<&Stop> for v1::Stop {
    fn from(stop: &Stop) -> Self {
        Self { reason: stop.reason.clone(), exit_code: stop.exit_code }
    }
}

fn rule_named(name: &str) -> Result<PaletteRule, InvalidMessage> {
    PaletteRule::named(name).ok_or(InvalidMessage::Missing { message: "RulePalette", field: "rule" })
}

impl From<&Choice> for v1::PaletteChoice {
    fn from(choice: &Choice) -> Self {
        Self {
            budget: choice.budget.0,
            stitch: choice.stitch.0,
            macs: choice.macs,
            params: choice.params,
            value: choice.value,
            milliseconds: choice.latency.map(Latency::millis),
        }
    }
}

impl From<&v1::PaletteChoice> for Choice {
    fn from(choice: &v1::PaletteChoice) -> Self {
        Self {
            budget: choice.budget.into(),
            stitch: choice.stitch.into(),
            macs: choice.macs,
            params: choice.params,
            latency: choice.milliseconds.and_then(Latency::from_millis),
            value: choice.value,
        }
    }
}

impl From<&Finish> for v1::Finish {
    fn from(finish: &Finish) -> Self {
        let rule = |(rule, choices): &(PaletteRule, Vec<Choice>)| v1::RulePalette {
            rule: rule.name().to_owned(),
            choices: choices.iter().map(Into::into).collect(),
        };
        Self { writer: finish.writer, palettes: finish.palettes.iter().map(rule).collect() }
    }
}

impl TryFrom<&v1::Finish> for Finish {
    type Error = InvalidMessage;

    fn try_from(finish: &v1::Finish) -> Result<Self, InvalidMessage> {
        let rule = |palette: &v1::RulePalette| {
            Ok((rule_named(&palette.rule)?, palette.choices.iter().map(Into::into).collect()))
        };
        Ok(Self { writer: finish.writer, palettes: finish.palettes.iter().map(rule).collect::<Result<_, _>>()? })
    }
}

/// The body of a message to a worker.
#[must_use]
pub fn to_worker(message: &Message) -> v1::coordinator_message::Body {
    use v1::coordinator_message::Body;
    match message {
        Message::Form(form) => Body::Form(form.into()),
        Message::Prepare(seat) => Body::Prepare((*seat).into()),
        Message::Plan(plan) => Body::Plan(plan.into()),
        Message::Durable(step) => Body::Durable(v1::Durable { next_step: step.0 }),
        Message::Lost(reason) => Body::Lost(v1::Lost { reason: reason.clone() }),
        Message::Discard(step) => Body::Discard(v1::Discard { applied: step.0 }),
        Message::Refused(reason) => Body::Refused(v1::Refused { reason: reason.clone() }),
        Message::Finish(finish) => Body::Finish(finish.into()),
        Message::Stop(stop) => Body::Stop(stop.into()),
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
    fn a_form_without_an_origin_is_refused() {
        let form = v1::Form { rank: 0, world: 1, source: 0, origin: None };
        assert_eq!(Form::try_from(&form), Err(InvalidMessage::Missing { message: "Form", field: "origin" }));
    }

    #[test]
    fn a_plan_survives_the_wire() {
        let plan = RankPlan {
            step: Step(3),
            digest: Digest([9; 32]),
            table_version: Step(1),
            first_sample: 192,
            slots: vec![(SlotId(0), StitchId(5)), (SlotId(3), StitchId(2))],
            touched: vec![(GroupId(0), 2), (GroupId(8), 1)],
            slots_in_step: 4,
            reporter: Reporter::Yes,
            durable: Step(2),
        };
        assert_eq!(RankPlan::try_from(&v1::Plan::from(&plan)), Ok(plan));
    }

    #[test]
    fn a_plan_that_was_damaged_on_its_way_is_refused() {
        let plan = RankPlan {
            step: Step(3),
            digest: Digest([9; 32]),
            table_version: Step(1),
            first_sample: 192,
            slots: vec![(SlotId(0), StitchId(5))],
            touched: vec![(GroupId(0), 1)],
            slots_in_step: 1,
            reporter: Reporter::No,
            durable: Step(2),
        };
        let whole = v1::Plan::from(&plan);
        let changes: [fn(&mut v1::Plan); 9] = [
            |plan| plan.step += 1,
            |plan| plan.digest[31] ^= 1,
            |plan| [0, 16].iter().for_each(|at| plan.digest[*at] ^= 0x80),
            |plan| plan.first_sample ^= 1 << 63,
            |plan| plan.slots[0].stitch ^= 1,
            |plan| plan.touched[0] = 4,
            |plan| plan.reporter = true,
            |plan| plan.durable_steps = 0,
            |plan| plan.check ^= 1,
        ];
        for change in changes {
            let mut damaged = whole.clone();
            change(&mut damaged);
            assert_eq!(RankPlan::try_from(&damaged), Err(InvalidMessage::Damaged { message: "Plan" }), "{damaged:?}");
        }
    }

    #[test]
    fn a_group_that_is_touched_takes_a_number_and_a_gap_one_more() {
        let touched = [(0, 2), (1, 7), (9, 1), (10, 63), (12, 1)].map(|(group, count)| (GroupId(group), count));
        let numbers = counts_to_wire(&touched);
        assert_eq!(numbers, [4, 14, 3, 7, 126, 3, 1]);
        assert_eq!(counts_from_wire(&numbers), Ok(touched.to_vec()));
        let flaw = Err(InvalidMessage::List { field: "Plan.touched" });
        assert_eq!(counts_from_wire(&[3]), flaw);
        assert_eq!(counts_from_wire(&[3, u32::MAX]), flaw);
    }
}
