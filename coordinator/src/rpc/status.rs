//! What `status` tells an operator (HANDS).

use esta_engine::{
    law::Law,
    run::{Activity, Ledger, Run},
};
use esta_proto::Step;
use serde_json::{Value, json};

/// Progress, members and versions of a run.
pub(super) fn describe(run_id: &str, run: &Run) -> Value {
    let fence = run.fence();
    let committed = run.ledger().map(Ledger::committed);
    let normal = run.members().normal();
    let members = run.members().live().iter().map(|(session, member)| {
        let doing = member.doing;
        let activity = doing.map(|doing| doing.activity);
        json!({
            "name": member.name,
            "session": session,
            "rank": member.rank,
            "applied": member.applied,
            "ready": member.ready,
            "draining": member.draining,
            "straggler": member.tempo.is_flagged(),
            "slowness": member.slowness(normal),
            "doing": activity.map(Activity::word),
            "step": activity.and_then(Activity::step),
            // When it was heard of last.
            "doing_for_seconds": doing.map(|doing| doing.since.as_secs_f64()),
        })
    });
    json!({
        "run": run_id,
        "job": run.law().spec.name,
        "phase": run.phase_name(),
        "epoch": fence.epoch,
        "generation": fence.generation,
        "durable_steps": run.durable(),
        "committed_steps": committed,
        "lag_steps": committed.map_or(0, |committed| committed.0.saturating_sub(run.durable().0)),
        "total_steps": run.ledger().map(Ledger::total),
        "stitches": run.law().catalog.stitches().count(),
        "workers": members.collect::<Vec<_>>(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// The same of a run that nobody leads any more: steps that are done, and all there were to do where that is known.
pub(super) fn after(run_id: &str, law: &Law, phase: &str, (done, total): (Step, Option<Step>)) -> Value {
    json!({
        "run": run_id,
        "job": law.spec.name,
        "phase": phase,
        "durable_steps": done,
        "committed_steps": done,
        "lag_steps": 0,
        "total_steps": total,
        "stitches": law.catalog.stitches().count(),
        "workers": [],
        "version": env!("CARGO_PKG_VERSION"),
    })
}
