//! MB-2: a committed step's scores are never lost.

use esta_engine::run::Message;
use esta_proto::Step;

use super::Violation;

/// Checked of every message to a worker: it keeps its scores until it is told that they are durable, so it is told nothing
/// that is not on record.
pub fn mb_2(message: &Message, recorded: Step) -> Result<(), Violation> {
    let told = match message {
        Message::Durable(step) => *step,
        Message::Plan(plan) => plan.durable,
        _ => return Ok(()),
    };
    if told <= recorded {
        return Ok(());
    }
    Err(Violation::new("MB-2", format!("{told} steps are called durable, and {recorded} are on record")))
}
