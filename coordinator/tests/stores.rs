//! What every store promises, against a file and a real etcd; and what only a shared store has to: one leader at a time.

#![cfg(feature = "etcd")]

#[path = "support/link.rs"]
mod link;
mod support;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use esta_coordinator::store::{self, Site, StoreAddress, StoreError, Term, Whereabouts};
use esta_engine::{
    law::Law,
    run::{Record, Snapshot, StepRecord},
    sampler::{Draw, Reason},
    table::{Outcome, Row},
};
use esta_proto::{BudgetId, Digest, Generation, LeaderEpoch, Step, StitchId};
use esta_tests::EtcdCluster;
use link::Link;
use support::*;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    task::JoinHandle,
    time::{Duration, timeout},
};

fn step(step: u64) -> Record {
    let (draws, outcomes) = (Vec::new(), Vec::new());
    Record::Step(StepRecord { step: Step(step), table_version: Step(0), draws, outcomes, reduced: Digest([1; 32]) })
}

fn numbers(steps: &[StepRecord]) -> Vec<u64> {
    steps.iter().map(|step| step.step.0).collect()
}

fn snapshot(committed: u64, rows: usize) -> Snapshot {
    let row = Row { importance: Some(0.25), visits: 3, ..Row::default() };
    let rows = vec![row; rows];
    Snapshot { committed: Step(committed), rows, trend: Some(0.5), plans: Vec::new() }
}

/// A job whose leases last so long.
fn leased(lease: f64) -> Arc<Law> {
    law_with(|spec| (spec.timeouts.renew, spec.timeouts.fence, spec.timeouts.lease) = (0.2, lease - 0.5, lease))
}

/// A job of so many slots, of one image each.
fn wide(slots: u32) -> Arc<Law> {
    law_with(|spec| {
        (spec.sampling.slots, spec.train.batch_size) = (slots, slots);
        (spec.timeouts.renew, spec.timeouts.fence, spec.timeouts.lease) = (0.2, 29.5, 30.0);
    })
}

/// The term ends as it does when a process leaves in order.
async fn let_go(term: Term) {
    drop(term.store);
    term.resign.await;
}

async fn every_place(test: impl AsyncFn(&Place)) {
    for place in [Place::in_a_file(), Place::on_etcd()] {
        test(&place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mb_1_every_term_is_later_than_all_before_it_and_of_the_same_run() {
    every_place(async |place| {
        let mut runs = Vec::new();
        for epoch in 1..=3 {
            let term = place.lead(&law()).await.expect("nobody else leads");
            assert_eq!(term.store.meta().epoch, LeaderEpoch(epoch));
            runs.push(term.store.meta().run_id.clone());
            let_go(term).await;
        }
        assert!(runs.iter().all(|run| *run == runs[0]), "{runs:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_is_there_for_the_next_term() {
    every_place(async |place| {
        let mut term = place.lead(&law()).await.expect("nobody else leads");
        let generation = |number: u64, name: &str| Record::Generation(Generation(number), vec![name.to_owned()]);
        // One group names a generation and a checkpoint more than once.
        let mut group = vec![Record::Samples(7), generation(3, "a")];
        group.extend((0..250).map(step));
        group.extend([generation(4, "b"), Record::Checkpoint(Step(2)), Record::Checkpoint(Step(2))]);
        term.store.append(&group).expect("there is room");
        let_go(term).await;
        let term = place.lead(&law()).await.expect("nobody else leads");
        let recovered = term.store.load().expect("reads");
        assert_eq!(numbers(&recovered.steps), (0..250).collect::<Vec<_>>());
        assert_eq!((recovered.generation, recovered.samples), (Generation(4), Some(7)));
        assert_eq!((recovered.members.as_slice(), recovered.complete), (["b".to_owned()].as_slice(), false));
        assert_eq!(recovered.checkpoints, [Step(2)]);
        assert_eq!(numbers(&term.store.steps(Step(3)..Step(6)).expect("reads")), [3, 4, 5]);
        let_go(term).await;
        assert_eq!(store::read(&place.address()).await.expect("reads").1, recovered);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_again_takes_the_last_snapshot_however_large_and_the_steps_since_the_oldest_checkpoint() {
    every_place(async |place| {
        let mut term = place.lead(&law()).await.expect("nobody else leads");
        term.store.append(&(0..30).map(step).collect::<Vec<_>>()).expect("there is room");
        // Larger than anything that etcd takes at once, then one of a single part.
        for (committed, rows) in [(20, 200_000), (30, 10)] {
            let snapshot = snapshot(committed, rows);
            let group = [Record::Trim(Step(committed - 10)), Record::Snapshot(Box::new(snapshot.clone()))];
            term.store.append(&group).expect("there is room");
            let recovered = term.store.load().expect("reads");
            assert_eq!(
                recovered.snapshot.map(|found| (found.committed, found.rows.len())),
                Some((Step(committed), rows))
            );
            assert_eq!(recovered.steps.first().map(|step| step.step), Some(Step(committed - 10)));
        }
        term.store.append(&(30..34).map(step).collect::<Vec<_>>()).expect("there is room");
        let recovered = term.store.load().expect("reads");
        assert_eq!((recovered.durable(), numbers(&recovered.steps)), (Step(34), (20..34).collect()));
        let_go(term).await;
        let whole = store::read(&place.address()).await.expect("reads").1;
        assert_eq!(whole.steps.len(), 34, "nothing is forgotten");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_another_job_is_refused_by_what_differs() {
    every_place(async |place| {
        let_go(place.lead(&law()).await.expect("nobody else leads")).await;
        let other = law_with(|spec| spec.seed = 7);
        let error = place.lead(&other).await.expect_err("another seed");
        assert!(error.to_string().contains("seed is 42 there and 7 here"), "{error}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_version_wrote_on_etcd_is_refused() {
    let place = Place::on_etcd();
    let_go(place.lead(&law()).await.expect("nobody else leads")).await;
    let endpoint = place.etcd.as_ref().expect("it is on etcd").endpoint();
    let mut client = etcd_client::Client::connect([endpoint], None).await.expect("it answers");
    client.put("run/format", "9", None).await.expect("it writes");
    let error = place.lead(&law()).await.expect_err("from the future");
    assert!(matches!(error, StoreError::Newer { found: 9, known: 1, .. }), "{error}");
    client.put("run/format", "nine", None).await.expect("it writes");
    let error = place.lead(&law()).await.expect_err("it is no number");
    assert!(error.to_string().ends_with("is damaged: format is no number"), "{error}");
}

/// What an error says, with its causes.
fn line(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_without_a_quorum_is_said_in_one_line_and_a_leader_goes_on_once_it_has_one_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut cluster = EtcdCluster::start(folder.path(), 3).expect("three members start");
    let (address, law) = (cluster.store("run").parse().expect("an address"), leased(30.0));
    let site = Site::open(Some(&address), &law).await.expect("it answers");
    let mut term = site.lead(&law, &at("http://127.0.0.1:1"), &|_| ()).await.expect("nobody else leads");
    term.store.append(&[step(0)]).expect("it leads");
    (1..3).for_each(|number| cluster.member(number).kill());
    let begun = std::time::Instant::now();
    let error = timeout(DEADLINE, Site::open(Some(&address), &law)).await.expect("no waiting").expect_err("no quorum");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(line(&error).contains("does not answer") && line(&error).lines().count() == 1, "{}", line(&error));

    let writing = tokio::task::spawn_blocking(move || {
        term.store.append(&[step(1)]).expect("it is written once there is a quorum");
        term
    });
    cluster.member(1).restart().expect("it starts again");
    let term = timeout(DEADLINE, writing).await.expect("it answers again").expect("it is written");
    assert!(term.tenure.holds());
    assert_eq!(numbers(&term.store.load().expect("reads").steps), [0, 1]);
    let_go(term).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_takes_its_time_or_refuses_is_said_in_one_line() {
    let (place, law) = (Place::on_etcd(), law());
    let etcd = place.etcd.as_ref().expect("it is on etcd");
    etcd.signal("STOP").expect("it runs");
    let error = timeout(DEADLINE, place.lead(&law)).await.expect("no waiting").expect_err("nobody answers");
    etcd.signal("CONT").expect("it runs");
    assert!(matches!(error, StoreError::Unreachable { .. }), "{}", line(&error));
    let_go(place.lead(&law).await.expect("it was only slow")).await;

    let mut client = etcd_client::Client::connect([etcd.endpoint()], None).await.expect("it answers");
    client.user_add("root", "secret", None).await.expect("a user");
    client.role_add("root").await.expect("a role");
    client.user_grant_role("root", "root").await.expect("its role");
    client.auth_enable().await.expect("it asks who calls");
    let error = timeout(DEADLINE, place.lead(&law)).await.expect("no waiting").expect_err("it does not say who it is");
    let refused = line(&error);
    assert!(refused.starts_with("cannot reach etcd://") && refused.contains("user name is empty"), "{refused}");
    assert_eq!(refused.lines().count(), 1, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answering_is_said_in_one_line() {
    let address = "etcd://127.0.0.1:1/run".parse().expect("it is an address");
    let error = Site::open(Some(&address), &law()).await.expect_err("nobody listens there");
    assert_eq!(error.to_string(), "etcd://127.0.0.1:1/run does not answer");
    let error = store::read(&"etcd://127.0.0.1:1".parse().expect("an address")).await.expect_err("whose record?");
    assert!(error.to_string().contains("without a prefix"), "{error}");
}

/// A standby of this place, and what it is told of who leads.
fn stand_by(place: &Place, law: &Arc<Law>) -> (JoinHandle<Term>, UnboundedReceiver<Option<Whereabouts>>) {
    let (tell, told) = unbounded_channel();
    let (address, law) = (place.address(), law.clone());
    let standby = tokio::spawn(async move {
        let site = Site::open(Some(&address), &law).await.expect("it answers");
        let hear = move |leader| tell.send(leader).expect("the test listens");
        site.lead(&law, &at("http://standby:1"), &hear).await.expect("its turn comes")
    });
    (standby, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_by_knows_the_leader_and_leads_at_once_when_it_leaves_in_order() {
    let (place, law) = (Place::on_etcd(), leased(30.0));
    let mut first = place.lead(&law).await.expect("nobody else leads");
    first.store.append(&[step(0)]).expect("there is room");
    let (standby, mut told) = stand_by(&place, &law);
    let leader = timeout(DEADLINE, told.recv()).await.expect("it is told soon");
    assert_eq!(leader, Some(Some(at("http://127.0.0.1:1"))));
    assert!(!standby.is_finished());
    let_go(first).await;
    // Far less than the lease: the key is gone, and its watcher sees that.
    let second = timeout(Duration::from_secs(10), standby).await.expect("at once").expect("it leads");
    assert_eq!((told.recv().await, told.recv().await), (Some(None), None), "nobody leads, and then it does");
    assert_eq!(
        (second.store.meta().epoch, numbers(&second.store.load().expect("reads").steps)),
        (LeaderEpoch(2), vec![0])
    );
    assert!(second.tenure.holds());
    let_go(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mb_1_a_leader_whose_lease_is_gone_cannot_write_and_knows_before_it_can_be_gone() {
    let (mut place, law) = (Place::on_etcd(), leased(2.0));
    let mut first = place.lead(&law).await.expect("nobody else leads");
    first.store.append(&[step(0)]).expect("it leads");
    let etcd = place.etcd.as_mut().expect("it is on etcd");
    // The cluster answers nobody for longer than the leader may go without.
    etcd.signal("STOP").expect("it runs");
    let before = std::time::Instant::now();
    timeout(DEADLINE, first.tenure.over()).await.expect("it is over");
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    etcd.signal("CONT").expect("it runs");
    let error = first.store.append(&[step(1)]).expect_err("it leads no more");
    assert!(matches!(error, StoreError::Deposed { .. }), "{error}");
    let mut second = timeout(DEADLINE, place.lead(&law)).await.expect("the lease ends").expect("it leads");
    assert_eq!(second.store.meta().epoch, LeaderEpoch(2));
    second.store.append(&[step(1)]).expect("it leads");
    assert_eq!(numbers(&second.store.load().expect("reads").steps), [0, 1]);
    let_go(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_outlasts_an_etcd_that_is_killed_and_comes_back_within_the_lease() {
    let (mut place, law) = (Place::on_etcd(), leased(30.0));
    let mut term = place.lead(&law).await.expect("nobody else leads");
    term.store.append(&[step(0)]).expect("it leads");
    let etcd = place.etcd.as_mut().expect("it is on etcd");
    etcd.kill();
    let writing = tokio::task::spawn_blocking(move || {
        term.store.append(&[step(1), step(2)]).expect("it is written once the cluster is back");
        term
    });
    etcd.restart().expect("it starts again");
    let term = timeout(DEADLINE, writing).await.expect("it answers again").expect("it is written");
    assert!(term.tenure.holds());
    assert_eq!(numbers(&term.store.load().expect("reads").steps), [0, 1, 2]);
    let_go(term).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_without_room_is_named_and_what_it_took_is_kept() {
    let (place, law) = (Place::with_room_for(256 << 10), leased(30.0));
    let mut term = place.lead(&law).await.expect("nobody else leads");
    let mut written = 0;
    let error = loop {
        match term.store.append(&(written..written + 50).map(step).collect::<Vec<_>>()) {
            Ok(()) => written += 50,
            Err(error) => break error,
        }
        assert!(written < 100_000, "there is room without end");
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    let (line, address) = (error.to_string(), place.etcd.as_ref().expect("it is on etcd").store("run"));
    assert!(line.starts_with("no space is left for etcd://") && line.contains(&address), "{line}, not of {address}");
    assert_eq!(term.store.load().expect("reading takes no room").steps.len() as u64, written);
    let_go(term).await;
    let error = timeout(DEADLINE, place.lead(&law)).await.expect("no waiting").expect_err("nobody can lead there");
    assert_eq!(error.to_string(), line, "whoever comes later is told the same");
}

/// The same place behind a link.
async fn linked(place: &Place) -> (Link, StoreAddress) {
    let etcd = place.etcd.as_ref().expect("it is on etcd");
    let link = Link::to(etcd.endpoint().trim_start_matches("http://").parse().expect("an address")).await;
    let address = format!("etcd://{}/run", link.address).parse().expect("an address");
    (link, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_takes_longer_than_an_attempt_is_waited_for_and_written_to_once() {
    let place = Place::on_etcd();
    let law = law_with(|spec| {
        (spec.timeouts.renew, spec.timeouts.fence) = (10.0, 40.0);
        (spec.timeouts.lease, spec.timeouts.reconnect) = (60.0, 120.0);
    });
    let (link, address) = linked(&place).await;
    let site = Site::open(Some(&address), &law).await.expect("it answers");
    let mut term = site.lead(&law, &at("http://127.0.0.1:1"), &|_| ()).await.expect("nobody else leads");
    link.answers_take(Duration::from_millis(1500));
    let writing = tokio::task::spawn_blocking(move || {
        term.store.append(&[step(0)]).expect("it is written");
        term
    });
    let term = timeout(DEADLINE, writing).await.expect("it is given the time it takes").expect("it is written");
    link.answers_take(Duration::ZERO);
    assert!(term.tenure.holds());
    let endpoint = place.etcd.as_ref().expect("it is on etcd").endpoint();
    let mut client = etcd_client::Client::connect([endpoint], None).await.expect("it answers");
    let found = client.get("run/steps/00000000000000000000", None).await.expect("it answers");
    assert_eq!(found.kvs().iter().map(|entry| entry.version()).collect::<Vec<_>>(), [1], "however often it was sent");
    let_go(term).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_read_as_it_was_at_one_moment_while_its_leader_goes_on() {
    let (place, law) = (Place::on_etcd(), leased(30.0));
    let mut term = place.lead(&law).await.expect("nobody else leads");
    let write = |term: &mut Term, at: u64| {
        term.store.append(&[step(at), Record::Snapshot(Box::new(snapshot(at + 1, 10)))]).expect("it leads");
    };
    write(&mut term, 0);
    let done = Arc::new(AtomicBool::new(false));
    let stop = done.clone();
    let writing = tokio::task::spawn_blocking(move || {
        let mut at = 1;
        while !stop.load(Ordering::SeqCst) {
            write(&mut term, at);
            at += 1;
        }
        term
    });
    // Far away, so that much is written between two of its questions.
    let (link, address) = linked(&place).await;
    link.answers_take(Duration::from_millis(50));
    let found = timeout(DEADLINE, store::read(&address)).await;
    done.store(true, Ordering::SeqCst);
    let_go(writing.await.expect("it leads")).await;
    let found = found.expect("no waiting").expect("nothing is wrong with it").1;
    let last = found.steps.last().expect("there is one").step;
    assert_eq!(found.snapshot.expect("there is one").committed, last.next(), "both of one moment");
}

/// A step no number of which could take more room.
fn large(step: u64, slots: usize) -> Record {
    let (stitch, budget) = (StitchId(u32::MAX), BudgetId(u32::MAX));
    let draw = Draw { stitch, budget, probability: 0.1, reason: Reason::Warm };
    let outcome = Outcome { score: 0.1, loss: 0.1, grad_norm: 0.1, valid: true };
    let (draws, outcomes) = (vec![draw; slots], vec![outcome; slots]);
    Record::Step(StepRecord {
        step: Step(step),
        table_version: Step(u64::MAX),
        draws,
        outcomes,
        reduced: Digest([1; 32]),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_steps_etcd_cannot_take_is_refused_before_it_begins() {
    let place = Place::on_etcd();
    let error = place.lead(&wide(40_000)).await.expect_err("etcd does not take that much at once");
    let said = line(&error);
    assert!(said.starts_with("cannot keep a step of this job on etcd://127.0.0.1:"), "{said}");
    assert!(said.contains(": its 40000 slots take up to 2160045 bytes, and etcd takes 1556480 at once: "), "{said}");
    assert!(
        said.ends_with("let sampling.slots be 28822 at most, or keep the record in a file, --store redb:PATH"),
        "{said}"
    );

    let mut term = place.lead(&wide(28_822)).await.expect("so many fit");
    term.store.append(&[step(0), large(1, 28_822), step(2)]).expect("they do");
    let recovered = term.store.load().expect("reads");
    assert_eq!(recovered.steps.iter().map(|step| step.draws.len()).collect::<Vec<_>>(), [0, 28_822, 0]);
    let names = vec!["n".repeat(1000); 2000];
    let error = term.store.append(&[Record::Generation(Generation(1), names)]).expect_err("they do not fit");
    let said = line(&error);
    assert!(
        said.contains(": the names of its 2000 workers take 2006005 bytes, and etcd takes 1556480 at once"),
        "{said}"
    );
    let_go(term).await;
    let_go(Place::in_a_file().lead(&wide(40_000)).await.expect("a file takes them")).await;
}
