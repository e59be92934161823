//! The load generator at a small size: what could fail, and no clock.

use std::time::Duration;

use esta_load::{
    Cast, Crowd, Family, Job, Served, Wire,
    parts::{Comeback, Kill},
};
use esta_tests::binary;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;

/// Far longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(150);
const STEPS: u64 = 30;
/// Slots of a step, whatever the number of ranks: so its plans say the same.
const SLOTS: u32 = 200;
/// Steps whose bytes are not counted: headers are told once.
const WARM: u64 = 5;

async fn serve(cast: &Cast, job: &Job) -> (Served, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&binary("esta-coordinator"), job, cast, folder.path(), (&[], &[])).await;
    (served.expect("it serves"), folder)
}

async fn status(served: &Served) -> Value {
    served.status().await.expect("it answers")
}

/// Bytes of a rank's step in a run of so many ranks, every step of which commits.
async fn bytes(ranks: u32, wire: Wire) -> f64 {
    let job = Job { family: Family::Vit, slots: SLOTS, steps: STEPS, lookahead: 1 };
    let cast = Cast { slow: 10, wire, ..Cast::of(ranks) };
    let (served, _folder) = serve(&cast, &job).await;
    let door = served.door().expect("it is known how to reach it");
    let mut crowd = Crowd::enter(&door, &cast).await.expect("everybody enters");
    let (mut due, mut before, mut after) = (0, 0, 0);
    while let Some((step, _)) = crowd.ready().await.expect("the run goes on") {
        assert_eq!(step.0, due, "steps come in order, and each once");
        due += 1;
        match step.0 {
            WARM => before = door.traffic().total(),
            last if last + 1 == STEPS => after = door.traffic().total(),
            _ => {}
        }
        crowd.finish().expect("everybody goes on");
    }
    assert_eq!(due, STEPS);
    served.finish().await.expect("every step is durable, and the run complete");
    (after - before) as f64 / ((STEPS - 1 - WARM) * u64::from(cast.ranks)) as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ranks_step_takes_at_most_512_bytes_both_ways_however_many_ranks_there_are() {
    let counted = async { (bytes(50, Wire::Plain).await, bytes(200, Wire::Plain).await) };
    let (few, many) = timeout(DEADLINE, counted).await.expect("in time");
    assert!(few <= 512.0 && many <= 512.0, "{few:.0} B of 50 ranks, {many:.0} B of 200");
    assert!(many <= 1.05 * few, "{few:.0} B of 50 ranks, {many:.0} B of 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_adds_a_fifth_to_that_at_most() {
    let counted = async { (bytes(50, Wire::Plain).await, bytes(50, Wire::Tls).await) };
    let (plain, encrypted) = timeout(DEADLINE, counted).await.expect("in time");
    assert!(plain < encrypted && encrypted <= 1.2 * plain, "{plain:.0} B in plain text, {encrypted:.0} B encrypted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_killed_is_back_with_every_score_and_its_ranks_go_on_where_they_were() {
    let kill = Kill { history: 50, sessions: 3, wire: Wire::Tls, ..Kill::of(8) };
    let comeback = timeout(DEADLINE, kill.carry_out(&binary("esta-coordinator"))).await;
    let Comeback { durable, generation, steps, on_record, .. } = comeback.expect("in time").expect("all are back");
    assert!(durable[0] >= 50 && durable[1] >= durable[0], "{durable:?} steps were durable before and after");
    assert_eq!(generation[1], generation[0], "nobody had to form a group");
    assert_eq!(on_record, steps, "every step of the run is on record, with its own scores");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_of_500_sessions_that_came_and_went() {
    let job = Job { family: Family::Tiny, slots: 4, steps: 12, lookahead: 1 };
    let (served, _folder) = serve(&Cast::of(2), &job).await;
    let door = served.door().expect("it is known how to reach it");
    let mut base = Crowd::enter(&door, &Cast::of(2)).await.expect("everybody enters");
    for _ in 0..4 {
        base.ready().await.expect("the run goes on").expect("it is not over");
        base.finish().expect("everybody goes on");
    }
    let come_and_go = async {
        let guests = Crowd::enter(&door, &Cast { name: "guest".to_owned(), ..Cast::of(500) }).await;
        guests.expect("everybody enters").leave().await;
        while status(&served).await["workers"].as_array().map(Vec::len) != Some(2) {
            tokio::task::yield_now().await;
        }
    };
    let gone = timeout(DEADLINE, base.listen_while(come_and_go)).await;
    gone.expect("in time").expect("those who stayed go on");
    assert_eq!(status(&served).await["expected"], 0);
    while base.ready().await.expect("the run goes on").is_some() {
        base.finish().expect("everybody goes on");
    }
    served.finish().await.expect("the run is complete");
}
