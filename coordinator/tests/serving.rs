//! A coordinator over real gRPC with fake workers: whole runs, restarts, and what it refuses. `serving_on_etcd.rs` runs the
//! same tests with the record on a real etcd.

pub(crate) mod support;

use esta_coordinator::{coordinator::StartError, leader::Ending, rpc::BindError, store::StoreError};
use esta_engine::run::exit;
use esta_proto::{Digest, Fence, Generation, LeaderEpoch, Step, v1, v1::worker_message::Body};
use support::*;
use tonic::Code;

/// Where the records of this program's tests are kept.
#[allow(dead_code, reason = "where these tests are part of another program, that one decides")]
fn place() -> Place {
    Place::in_a_file()
}

/// A whole run with this many workers; answers the bits of its table.
async fn whole_run(workers: u32) -> Vec<(u64, u64, [Option<u64>; 3])> {
    let (law, folder) = (law(), crate::place());
    let mut served = serve(&law, &folder, workers).await;
    let crowd: Vec<_> = (0..workers).map(|i| work(FakeWorker::new(&format!("w{i}"), &law), served.address)).collect();
    assert!(matches!(served.ended().await, Ending::Complete));
    for worker in crowd {
        let (_, last) = worker.await.expect("the worker lives");
        assert!(matches!(last, Last::Stopped(v1::Stop { exit_code: exit::DONE, .. })), "{last:?}");
    }
    let (steps, table) = recorded(&law, &folder).await;
    assert_eq!(steps.len() as u64, STEPS);
    bits(&table)
}

fn work(mut worker: FakeWorker, address: std::net::SocketAddr) -> tokio::task::JoinHandle<(FakeWorker, Last)> {
    tokio::spawn(async move {
        let last = worker.work(address).await;
        (worker, last)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn st_2_one_worker_and_three_make_the_same_table() {
    assert_eq!(whole_run(1).await, whole_run(3).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn mb_2_a_coordinator_restarted_midway_ends_with_the_table_of_an_undisturbed_run() {
    let (law, folder) = (law(), crate::place());
    let mut first = serve(&law, &folder, 2).await;
    let resting = |name| FakeWorker::new(name, &law).resting_at(Some(Step(STEPS / 2)));
    let crowd = ["a", "b"].map(|name| work(resting(name), first.address));
    first.until_durable(STEPS / 3).await;
    first.coordinator.stop();
    assert!(matches!(first.ended().await, Ending::Stopped));
    drop(first);
    let durable = recorded(&law, &folder).await.0.len() as u64;
    assert!((STEPS / 3..STEPS).contains(&durable), "{durable} steps were durable when it stopped");

    let mut second = serve(&law, &folder, 2).await;
    for worker in crowd {
        let (worker, last) = worker.await.expect("the worker lives");
        assert!(matches!(&last, Last::Broken(status) if status.code() == Code::Unavailable), "{last:?}");
        work(worker.resting_at(None), second.address);
    }
    assert!(matches!(second.ended().await, Ending::Complete));
    drop(second);
    assert_eq!(bits(&recorded(&law, &folder).await.1), whole_run(1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_worker_is_told_to_the_others_and_the_run_goes_on() {
    let (law, folder) = (law(), crate::place());
    let mut served = serve(&law, &folder, 2).await;
    let stays = work(FakeWorker::new("stays", &law), served.address);
    let mut leaves = FakeWorker::new("leaves", &law).enter(served.address).await;
    // It never says GroupReady: the first generation cannot begin before it is gone.
    formed(&mut leaves).await;
    drop(leaves);
    assert!(matches!(served.ended().await, Ending::Complete));
    assert!(matches!(stays.await.expect("the worker lives").1, Last::Stopped(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_of_one_name_are_kept_apart() {
    let (law, folder) = (law(), crate::place());
    let served = serve(&law, &folder, 9).await;
    let mut first = FakeWorker::new("twin", &law);
    first.incarnation += 1;
    let _first = first.enter(served.address).await;
    let last = FakeWorker::new("twin", &law).work(served.address).await;
    let Last::Stopped(stop) = last else { panic!("{last:?}") };
    assert_eq!(stop.exit_code, exit::IDENTITY);
    assert!(stop.reason.contains("\"twin\""), "{}", stop.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_process_of_a_name_replaces_its_predecessor() {
    let (law, folder) = (law(), crate::place());
    let served = serve(&law, &folder, 9).await;
    let mut first = FakeWorker::new("twin", &law);
    let predecessor = first.enter(served.address).await;
    first.incarnation += 1;
    let _successor = first.enter(served.address).await;
    let mut predecessor = predecessor;
    let stop = loop {
        let message = predecessor.next().await.expect("an orderly end").expect("it is told before");
        if let Some(v1::coordinator_message::Body::Stop(stop)) = message.body {
            break stop;
        }
    };
    assert_eq!(stop.exit_code, exit::IDENTITY);
    assert!(predecessor.next().await.expect("an orderly end").is_none(), "the session ends after that");
}

#[tokio::test(flavor = "multi_thread")]
async fn rd_1_a_worker_with_another_layout_is_turned_away() {
    let (law, folder) = (law(), crate::place());
    let served = serve(&law, &folder, 1).await;
    let mut stranger = FakeWorker::new("stranger", &law);
    stranger.layout = Digest([7; 32]);
    let last = stranger.work(served.address).await;
    assert!(matches!(&last, Last::Stopped(stop) if stop.exit_code == exit::MISFIT), "{last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn join_serves_the_job_and_refuses_another_protocol() {
    let (law, folder) = (law(), crate::place());
    let served = serve(&law, &folder, 1).await;
    let mut client = connect(served.address).await;
    let welcome = client.join(join_request("w")).await.expect("it may join").into_inner();
    let spec: esta_engine::spec::JobSpec = serde_json::from_str(&welcome.spec_json).expect("it is a job");
    assert_eq!(spec, law.spec);
    assert!(!welcome.spare);
    // Patience may change from one sitting to the next; anything else is another job to a worker that has joined.
    let digest = async |change: &dyn Fn(&mut esta_engine::spec::JobSpec)| {
        let (law, folder) = (law_with(|spec| change(spec)), crate::place());
        let served = serve(&law, &folder, 1).await;
        connect(served.address).await.join(join_request("w")).await.expect("it may join").into_inner().spec_digest
    };
    assert_eq!(digest(&|spec| spec.timeouts.drain = 301.0).await, welcome.spec_digest);
    assert_ne!(digest(&|spec| spec.seed += 1).await, welcome.spec_digest);

    let other = v1::JoinRequest { protocol: 9, ..join_request("w") };
    let status = client.join(other).await.expect_err("nobody speaks 9");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("the worker test speaks 9"), "{}", status.message());
    let nameless = client.join(join_request("")).await.expect_err("it has no name");
    assert_eq!(nameless.code(), Code::InvalidArgument);
}

fn message(body: Option<Body>) -> v1::WorkerMessage {
    v1::WorkerMessage { fence: None, traceparent: String::new(), body }
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_sessions_end_with_a_clear_status() {
    let (law, folder) = (law(), crate::place());
    let served = serve(&law, &folder, 9).await;
    let mut client = connect(served.address).await;

    let mut rude = open(&mut client, message(Some(Body::Heartbeat(v1::Heartbeat::default())))).await;
    let status = rude.next().await.expect_err("no Hello, no session");
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "a session begins with a Hello"));

    let hello = v1::Hello { session_id: 99, ..v1::Hello::default() };
    let mut unknown = open(&mut client, message(Some(Body::Hello(hello)))).await;
    let status = unknown.next().await.expect_err("nobody gave out 99");
    assert_eq!(status.code(), Code::FailedPrecondition);

    let mut worker = FakeWorker::new("w", &law).enter(served.address).await;
    worker.outbound.send(message(None)).expect("the session stands");
    let status = loop {
        match worker.next().await {
            Ok(said) => drop(said.expect("it ends with a status")),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "WorkerMessage lacks its field body"));

    // The worker was taken off the list: its name is free again.
    let status = client.status(v1::StatusRequest {}).await.expect("an answer").into_inner();
    let status: serde_json::Value = serde_json::from_str(&status.json).expect("it is JSON");
    assert_eq!(status["workers"], serde_json::json!([]));
    assert_eq!((&status["phase"], &status["epoch"]), (&"waiting".into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_number_serves_once() {
    let (law, folder) = (law(), crate::place());
    let served = serve(&law, &folder, 9).await;
    let mut client = connect(served.address).await;
    let welcome = client.join(join_request("w")).await.expect("it may join").into_inner();
    let hello = v1::Hello {
        session_id: welcome.session_id,
        name: "w".into(),
        layout_digest: law.layout_digest.0.to_vec(),
        samples: SAMPLES,
        ..v1::Hello::default()
    };
    let mut first = open(&mut client, message(Some(Body::Hello(hello.clone())))).await;
    first.next().await.expect("it was given to this one");
    let mut again = open(&mut client, message(Some(Body::Hello(hello)))).await;
    assert_eq!(again.next().await.expect_err("it is in use").code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranks_find_each_other_through_the_store_of_their_generation() {
    let (law, folder) = (law(), crate::place());
    let served = serve(&law, &folder, 2).await;
    let mut ranks = Vec::new();
    for name in ["a", "b"] {
        ranks.push(FakeWorker::new(name, &law).enter(served.address).await);
    }
    let mut fence = Fence::default();
    for rank in &mut ranks {
        fence = formed(rank).await;
    }
    assert_eq!(fence, Fence { epoch: LeaderEpoch(1), generation: Generation(1) });
    let ask = |rank: &Session, fence: Fence, id: u64, op| {
        rank.send(fence, Body::Store(v1::StoreRequest { id, op: Some(op) }))
    };
    use v1::{store_reply::Result as Answer, store_request::Op};
    ask(&ranks[1], fence, 5, Op::Get("address/0".into()));
    ask(&ranks[0], fence, 1, Op::Set(v1::StoreSet { key: "address/0".into(), value: b"here".to_vec() }));
    assert_eq!(answer(&mut ranks[0]).await, (1, Some(Answer::Flag(true))));
    assert_eq!(answer(&mut ranks[1]).await, (5, Some(Answer::Value(b"here".to_vec()))));

    // A waiter hears that its generation is over when a member is lost; the next generation starts empty.
    ask(&ranks[1], fence, 6, Op::Get("never".into()));
    ask(&ranks[1], fence, 7, Op::Check(v1::StoreWait { keys: vec!["address/0".into()] }));
    assert_eq!(answer(&mut ranks[1]).await, (7, Some(Answer::Flag(true))));
    drop(ranks.remove(0));
    assert_eq!(answer(&mut ranks[0]).await, (6, Some(Answer::Error("generation 1 is over".into()))));
    let next = Fence { generation: Generation(2), ..fence };
    ask(&ranks[0], fence, 8, Op::Get("address/0".into()));
    assert!(matches!(answer(&mut ranks[0]).await, (8, Some(Answer::Error(_)))));
    ask(&ranks[0], next, 9, Op::Check(v1::StoreWait { keys: vec!["address/0".into()] }));
    assert_eq!(answer(&mut ranks[0]).await, (9, Some(Answer::Flag(false))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_does_not_read_is_dropped_and_harms_nobody() {
    let (law, folder) = (law(), crate::place());
    let served = serve(&law, &folder, 1).await;
    let mut deaf = FakeWorker::new("deaf", &law).enter(served.address).await;
    let fence = formed(&mut deaf).await;
    use v1::store_request::Op;
    let ask = |id, op| deaf.send(fence, Body::Store(v1::StoreRequest { id, op: Some(op) }));
    // Far more than its queue and the connection's window hold.
    ask(0, Op::Set(v1::StoreSet { key: "k".into(), value: vec![7; 32 << 10] }));
    (1..3000).for_each(|id| ask(id, Op::Get("k".into())));

    let mut operator = connect(served.address).await;
    let dropped = async {
        loop {
            let status = operator.status(v1::StatusRequest {}).await.expect("others are served").into_inner().json;
            if serde_json::from_str::<serde_json::Value>(&status).expect("JSON")["workers"] == serde_json::json!([]) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, dropped).await.expect("it is dropped");
    let status = loop {
        match deaf.next().await {
            Ok(said) => drop(said.expect("it ends with a status")),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
}

async fn answer(rank: &mut Session) -> (u64, Option<v1::store_reply::Result>) {
    loop {
        let message = rank.next().await.expect("it stands").expect("it goes on");
        if let Some(v1::coordinator_message::Body::Store(reply)) = message.body {
            return (reply.id, reply.result);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_the_palette_while_the_run_goes_on() {
    let (law, folder) = (law(), crate::place());
    let mut served = serve(&law, &folder, 1).await;
    let mut client = connect(served.address).await;
    let request = |at_most, rule: &str| v1::PaletteRequest { at_most, rule: rule.into(), ..Default::default() };
    let empty = client.palette(request(None, "")).await.expect("an answer").into_inner();
    assert_eq!(empty.json, "[]");
    let worker = work(FakeWorker::new("w", &law), served.address);
    served.until_durable(STEPS / 2).await;
    if let Ok(palette) = client.palette(request(None, "loss")).await {
        let entries: Vec<esta_coordinator::palette::Entry> =
            serde_json::from_str(&palette.into_inner().json).expect("entries");
        assert!(entries.windows(2).all(|pair| pair[0].choice.macs < pair[1].choice.macs));
        assert!(entries.iter().any(|entry| entry.path.starts_with("a[0")));
    }
    let timed = v1::PaletteRequest { at_most_milliseconds: Some(12.0), ..request(None, "") };
    let unknown = client.palette(timed).await;
    assert!(unknown.is_err_and(|status| matches!(status.code(), Code::FailedPrecondition | Code::Unavailable)));
    let wrong = client.palette(request(None, "best")).await;
    // The run may have ended meanwhile.
    assert!(wrong.is_err_and(|status| matches!(status.code(), Code::InvalidArgument | Code::Unavailable)));
    served.ended().await;
    worker.await.expect("the worker lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let (law, folder) = (law(), crate::place());
    let served = serve(&law, &folder, 1).await;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", served.address)).expect("a URL");
    let channel = endpoint.connect().await.expect("it listens");
    let mut health = HealthClient::new(channel.clone());
    let check = HealthCheckRequest { service: "esta.v1.Coordinator".into() };
    let status = health.check(check).await.expect("an answer").into_inner().status;
    assert_eq!(status, i32::from(ServingStatus::Serving));

    let mut reflection = ServerReflectionClient::new(channel);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let stream = reflection.server_reflection_info(tokio_stream::iter([list])).await.expect("an answer");
    let response = stream.into_inner().message().await.expect("an answer").expect("one");
    let Some(MessageResponse::ListServicesResponse(services)) = response.message_response else { panic!("a list") };
    assert!(services.service.iter().any(|service| service.name == "esta.v1.Coordinator"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_use_and_a_record_in_use_are_refused() {
    let (law, folder) = (law(), crate::place());
    let served = serve(&law, &folder, 1).await;
    if !folder.is_shared() {
        let locked = try_serve(&law, &folder, 1, local()).await.err().expect("one leads already");
        assert!(matches!(locked, StartError::Store(StoreError::Locked { .. })), "{locked}");
    }
    let in_use = try_serve(&law, &crate::place(), 1, served.address).await.err().expect("one listens there");
    assert!(matches!(in_use, StartError::Bind(BindError::InUse { .. })), "{in_use}");
    assert!(in_use.to_string().contains("--listen"), "{in_use}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_another_job_is_refused_unless_only_harmless_keys_differ() {
    let folder = crate::place();
    drop(serve(&law(), &folder, 1).await.ended_by_stop().await);
    let other = law_with(|spec| spec.seed = 7);
    let refused = try_serve(&other, &folder, 1, local()).await.err().expect("another seed");
    assert!(refused.to_string().contains("seed is 42 there and 7 here"), "{refused}");
    let harmless = law_with(|spec| spec.train.logging_steps = 1);
    try_serve(&harmless, &folder, 1, local()).await.expect("the same run");
}
