//! Between the law's types and the messages of `esta-proto` (LAW): checked on the way in, total on the way out. Both
//! ends of a session use this one home.

mod check;
mod inbound;
mod plan;
mod report;

use std::time::Duration;

use esta_proto::{Generation, InvalidMessage, Rank, SlotId, Step, digest, required, v1};

pub use inbound::{FromWorker, from_worker};

use crate::{
    latency::Latency,
    palette::Choice,
    run::{Activity, Finish, Form, HeldShare, Hello, Message, Origin, Progress, Ready, Report, Seat, Standing, Stop},
    spec::PaletteRule,
};

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
        Self {
            applied: ready.applied.0,
            computed: ready.computed.as_ref().map(Into::into),
            chain: ready.chain.map(|chain| chain.0.to_vec()),
        }
    }
}

impl TryFrom<&v1::GroupReady> for Ready {
    type Error = InvalidMessage;

    fn try_from(ready: &v1::GroupReady) -> Result<Self, InvalidMessage> {
        let computed = ready.computed.as_ref().map(HeldShare::try_from).transpose()?;
        let chain = ready.chain.as_ref().map(|chain| digest(chain, "GroupReady.chain")).transpose()?;
        Ok(Self { applied: Step(ready.applied), chain, computed })
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
    use super::*;

    #[test]
    fn a_form_without_an_origin_is_refused() {
        let form = v1::Form { rank: 0, world: 1, source: 0, origin: None };
        assert_eq!(Form::try_from(&form), Err(InvalidMessage::Missing { message: "Form", field: "origin" }));
    }
}
