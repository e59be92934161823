//! Groups of real processes: collectives, a killed peer, a stopped peer and the group after it.

#![allow(clippy::unwrap_used)]

mod support;

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use esta_c10d::{Backend, C10dError, Cause, Operation, Outcome, ProcessGroup, Progress, Work};
use support::failing_store::DiesOnceSet;
use support::peer::{PATIENCE, Peer, Role};
use support::tcp_store;
use tch::{Device, Kind, Tensor};

/// Entry of the peers; an ordinary run of the tests passes through.
#[test]
fn peer() {
    let Some(role) = Role::of_this_process() else { return };
    match role.name.as_str() {
        "collectives of 2" => collectives(&role, 2),
        "collectives of 3" => collectives(&role, 3),
        "reduce until a peer dies" => reduce_until_a_peer_dies(&role),
        "abort past a stopped peer" => abort_past_a_stopped_peer(&role),
        "reduce past a stopped peer" => reduce_past_a_stopped_peer(&role),
        "exit past a stopped peer" => exit_past_a_stopped_peer(&role),
        "die in the rendezvous" => die_in_the_rendezvous(&role),
        "wait in vain" => wait_in_vain(&role),
        other => panic!("no role {other}"),
    }
}

fn start(role: &str, world: u32) -> Vec<Peer> {
    start_on(Backend::Gloo, role, world)
}

fn start_on(backend: Backend, role: &str, world: u32) -> Vec<Peer> {
    let store = tcp_store::serve();
    (0..world).map(|rank| Peer::start("peer", (role, backend), rank, store)).collect()
}

fn finish(mut work: Work) {
    assert_eq!(work.wait_until(Instant::now() + PATIENCE, &|| false), Ok(Outcome::Done));
}

/// 0, 1, 2... times `factor`, large enough for several of gloo's segments.
fn ramp(kind: Kind, factor: i64) -> Tensor {
    (Tensor::arange(100_003, (Kind::Int64, Device::Cpu)) * factor).to_kind(kind)
}

fn collectives(role: &Role, world: u32) {
    let group = role.join(0, world, PATIENCE).unwrap();
    let (rank, world) = (i64::from(group.rank()), i64::from(group.world()));
    for kind in [Kind::Int64, Kind::Float] {
        let tensor = ramp(kind, rank + 1).to_device(role.device());
        finish(group.all_reduce_sum(&tensor).unwrap());
        assert_eq!(tensor.to_device(Device::Cpu), ramp(kind, world * (world + 1) / 2), "{kind:?} summed over {world}");
    }
    for root in 0..group.world() {
        let tensor = ramp(Kind::Double, rank + 1).to_device(role.device());
        finish(group.broadcast(&tensor, root).unwrap());
        assert_eq!(tensor.to_device(Device::Cpu), ramp(Kind::Double, i64::from(root) + 1), "broadcast from {root}");
    }
    role.say("at the barrier");
    // Rank 0 comes when told to; until then nobody passes.
    if group.rank() == 0 {
        assert_eq!(role.listen(), "pass");
    }
    finish(group.barrier().unwrap());
    role.say("past the barrier");
}

fn check_collectives(backend: Backend, world: u32) {
    let mut peers = start_on(backend, &format!("collectives of {world}"), world);
    peers.iter().for_each(|peer| assert_eq!(peer.hear(), "at the barrier"));
    assert!(peers.iter().all(|peer| peer.said_nothing()));
    peers[0].tell("pass");
    peers.iter().for_each(|peer| assert_eq!(peer.hear(), "past the barrier"));
    peers.into_iter().for_each(|peer| assert!(peer.join().success()));
}

#[test]
fn two_processes_reduce_broadcast_and_meet() {
    check_collectives(Backend::Gloo, 2);
}

#[test]
fn three_processes_reduce_broadcast_and_meet() {
    check_collectives(Backend::Gloo, 3);
}

#[test]
fn processes_with_a_rehearsed_device_each_reduce_broadcast_and_meet() {
    check_collectives(Backend::Nccl, 3);
}

/// Reduces until an error comes, and says which.
fn reduce_until_a_peer_dies(role: &Role) {
    let group = role.join(0, 3, PATIENCE).unwrap();
    let tensor = Tensor::ones([1 << 20], (Kind::Int64, role.device()));
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        let mut work = group.all_reduce_sum(&tensor).unwrap();
        match work.wait_until(deadline, &|| false) {
            Ok(Outcome::Done) => role.say("reduced"),
            Err(error) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert!(
        matches!(&error, C10dError::Collective { operation: Operation::AllReduceSum, cause: Cause::PeerLost, rank, .. }
            if *rank == role.rank),
        "{error:?}"
    );
    role.say(&format!("error: {error}"));
}

#[test]
fn a_killed_peer_is_an_error_that_names_the_operation() {
    let peers = start("reduce until a peer dies", 3);
    peers.iter().for_each(|peer| assert_eq!(peer.hear(), "reduced"));
    peers[1].kill();
    let killed = Instant::now();
    for (rank, peer) in peers.into_iter().enumerate().filter(|(rank, _)| *rank != 1) {
        let error = std::iter::repeat_with(|| peer.hear()).find(|line| line != "reduced").unwrap();
        eprintln!("{:?} after the kill: {error}", killed.elapsed());
        assert!(killed.elapsed() < Duration::from_secs(10));
        assert!(error.starts_with("error: all-reduce (number "), "{error}");
        assert!(error.contains(&format!("peer lost on rank {rank} of 3: ")), "{error}");
        assert!(peer.join().success());
    }
}

/// A stopped peer leaves the collective pending; the group is abandoned, and the survivors form the next one.
fn reduce_past_a_stopped_peer(role: &Role) {
    let old = role.join(0, 3, PATIENCE).unwrap();
    finish(old.barrier().unwrap());
    role.say("together");
    assert_eq!(role.listen(), "one has stopped");
    let mut hung = old.all_reduce_sum(&ramp(Kind::Float, 1)).unwrap();
    drop(old.all_reduce_sum(&ramp(Kind::Int64, 1)).unwrap());
    let hurried = Instant::now() + Duration::from_millis(50);
    assert_eq!(hung.wait_until(hurried, &|| false), Ok(Outcome::DeadlinePassed));
    let asked = Cell::new(0);
    let third_time = || asked.replace(asked.get() + 1) == 2;
    assert_eq!(hung.wait_until(Instant::now() + PATIENCE, &third_time), Ok(Outcome::Cancelled));

    let begun = Instant::now();
    old.abandon();
    let abandoned = begun.elapsed();
    let next = role.join(1, 2, PATIENCE).unwrap();
    let formed = begun.elapsed();
    check_sum(&next);
    let reduced = begun.elapsed();
    assert_eq!(hung.poll(), Ok(Progress::Pending), "the old group hangs still");
    assert!(abandoned < Duration::from_millis(20), "{abandoned:?}");
    assert!(reduced < PATIENCE / 10, "{reduced:?}");
    role.say(&format!("reduced with the next group: abandoned {abandoned:?}, formed {formed:?}, reduced {reduced:?}"));

    assert_eq!(role.listen(), "it is gone");
    assert!(matches!(hung.wait_until(Instant::now() + PATIENCE, &|| false), Err(C10dError::Collective { .. })));
    check_sum(&next);
    role.say("still reducing");
}

fn check_sum(group: &ProcessGroup) {
    let tensor = ramp(Kind::Int64, 1);
    finish(group.all_reduce_sum(&tensor).unwrap());
    assert_eq!(tensor, ramp(Kind::Int64, i64::from(group.world())));
}

#[test]
fn a_stopped_peer_is_left_behind_in_milliseconds() {
    let mut peers = start("reduce past a stopped peer", 3);
    peers.iter().for_each(|peer| assert_eq!(peer.hear(), "together"));
    peers[2].stop();
    let both = |peers: &mut [Peer], line: &str| peers[..2].iter_mut().for_each(|peer| peer.tell(line));
    both(&mut peers, "one has stopped");
    for peer in &peers[..2] {
        let line = peer.hear();
        eprintln!("{line}");
        assert!(line.starts_with("reduced with the next group"), "{line}");
    }
    peers[2].kill();
    both(&mut peers, "it is gone");
    for peer in peers.into_iter().take(2) {
        assert_eq!(peer.hear(), "still reducing");
        assert!(peer.join().success());
    }
}

/// An NCCL group that is abandoned is aborted: what was under way fails at once, though it looks like what is done.
fn abort_past_a_stopped_peer(role: &Role) {
    let old = role.join(0, 3, PATIENCE).unwrap();
    finish(old.barrier().unwrap());
    role.say("together");
    assert_eq!(role.listen(), "one has stopped");
    let device = |kind| ramp(kind, 1).to_device(role.device());
    let mut hung = old.all_reduce_sum(&device(Kind::Float)).unwrap();
    assert_eq!(hung.poll(), Ok(Progress::Pending));
    old.abandon();
    match hung.wait_until(Instant::now() + PATIENCE, &|| false) {
        Err(C10dError::Collective { sequence: 1, reason, .. }) => role.say(&reason),
        other => panic!("{other:?}"),
    }
    let next = role.join(1, 2, PATIENCE).unwrap();
    let tensor = device(Kind::Int64);
    finish(next.all_reduce_sum(&tensor).unwrap());
    assert_eq!(tensor.to_device(Device::Cpu), ramp(Kind::Int64, 2));
    role.say("reduced with the next group");
}

#[test]
fn what_an_abort_ends_has_failed() {
    let mut peers = start_on(Backend::Nccl, "abort past a stopped peer", 3);
    peers.iter().for_each(|peer| assert_eq!(peer.hear(), "together"));
    peers[2].stop();
    peers[..2].iter_mut().for_each(|peer| peer.tell("one has stopped"));
    for peer in peers.drain(..2) {
        assert_eq!(peer.hear(), "the group was aborted");
        assert_eq!(peer.hear(), "reduced with the next group");
        assert!(peer.join().success());
    }
}

fn wait_in_vain(role: &Role) {
    let begun = Instant::now();
    let error = role.join(0, 2, Duration::from_millis(300)).err().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    role.say(&error.to_string());
}

#[test]
fn a_group_without_its_last_peer_is_given_up() {
    let peers = start("wait in vain", 1);
    let error = peers[0].hear();
    assert!(error.starts_with("Gloo group not formed on rank 0 of 2: "), "{error}");
    assert!(peers.into_iter().all(|peer| peer.join().success()));
}

/// The process ends while libtorch's threads still hang in the abandoned group.
fn exit_past_a_stopped_peer(role: &Role) {
    let group = role.join(0, 3, PATIENCE).unwrap();
    finish(group.barrier().unwrap());
    role.say("together");
    assert_eq!(role.listen(), "one has stopped");
    let mut hung = group.all_reduce_sum(&ramp(Kind::Float, 1)).unwrap();
    assert_eq!(hung.poll(), Ok(Progress::Pending));
    group.abandon();
}

#[test]
fn a_process_can_end_with_a_group_that_hangs() {
    let mut peers = start("exit past a stopped peer", 3);
    peers.iter().for_each(|peer| assert_eq!(peer.hear(), "together"));
    peers[2].stop();
    peers[..2].iter_mut().for_each(|peer| peer.tell("one has stopped"));
    let stopped = peers.pop();
    peers.into_iter().for_each(|peer| assert!(peer.join().success()));
    drop(stopped);
}

/// Rank 1 publishes its address and ends; rank 0 then finds the address and nobody there. Gloo's addresses decide who calls
/// whom, so rank 0 is either refused or waits in vain.
fn die_in_the_rendezvous(role: &Role) {
    if role.rank == 1 {
        let error = role.with_store(|store| Arc::new(DiesOnceSet(store))).join(0, 2, PATIENCE).err();
        unreachable!("{error:?}");
    }
    assert_eq!(role.listen(), "it is gone");
    let begun = Instant::now();
    let error = role.join(0, 2, Duration::from_secs(2)).err().unwrap();
    role.say(&format!("after {:?}: {error}", begun.elapsed()));
    assert!(
        matches!(error, C10dError::Form { rank: 0, world: 2, cause: Cause::PeerLost | Cause::TimedOut, .. }),
        "{error:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_peer_that_dies_in_the_rendezvous_is_an_error() {
    let mut peers = start("die in the rendezvous", 2);
    let (dead, mut survivor) = (peers.pop().unwrap(), peers.pop().unwrap());
    assert!(!dead.join().success());
    survivor.tell("it is gone");
    let error = survivor.hear();
    eprintln!("{error}");
    assert!(survivor.join().success());
}
