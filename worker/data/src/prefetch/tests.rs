//! The prefetcher against a preparation the tests hold back, count and break.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use crate::images::ImageBatch;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

fn numbered(counters: &Range<u64>) -> Batch {
    Batch::Images(ImageBatch { images: Vec::new(), labels: vec![counters.start as i64], shape: [1, 0, 0, 0] })
}

fn label(ticket: BatchTicket) -> i64 {
    match ticket.wait().expect("prepared") {
        Batch::Images(batch) => batch.labels[0],
        Batch::Texts(_) => panic!("images were asked for"),
    }
}

fn one(start: u64) -> Range<u64> {
    start..start + 1
}

/// A preparation that says when it begins a batch and goes on when it is told.
fn gated() -> (impl Fn(Range<u64>) -> Prepared + Send + Sync, Receiver<u64>, Sender<()>) {
    let (began, seen) = mpsc::channel();
    let (open, gate) = mpsc::channel();
    let (began, gate) = (Mutex::new(began), Mutex::new(gate));
    let prepare = move |counters: Range<u64>| {
        began.lock().unwrap().send(counters.start).ok();
        gate.lock().unwrap().recv_timeout(DEADLINE).expect("the test opens the gate");
        Ok(numbered(&counters))
    };
    (prepare, seen, open)
}

#[test]
fn one_thread_prepares_in_the_order_of_the_requests() {
    let (prepare, seen, open) = gated();
    let prefetcher = Prefetcher::start_with(prepare, 1).unwrap();
    let tickets: Vec<BatchTicket> = (0..3).map(|start| prefetcher.request(one(start))).collect();
    (0..3).for_each(|_| open.send(()).unwrap());
    assert_eq!(tickets.into_iter().map(label).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(seen.iter().take(3).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn tickets_may_be_waited_for_in_any_order_on_any_thread() {
    let prefetcher = Prefetcher::start_with(|counters| Ok(numbered(&counters)), 1).unwrap();
    // Many more than lie ready at once: the last one is prepared out of turn because somebody waits for it.
    let mut tickets: Vec<BatchTicket> = (0..50).map(|start| prefetcher.request(one(start))).collect();
    let last = tickets.pop().expect("fifty");
    assert_eq!(std::thread::spawn(move || label(last)).join().expect("a label"), 49);
    while let Some(ticket) = tickets.pop() {
        assert_eq!(label(ticket), tickets.len() as i64);
    }
}

#[test]
fn what_nobody_waits_for_is_bounded() {
    let begun = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&begun);
    let prepare = move |counters: Range<u64>| {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(numbered(&counters))
    };
    let prefetcher = Prefetcher::start_with(prepare, 2).unwrap();
    let tickets: Vec<BatchTicket> = (0..60).map(|start| prefetcher.request(one(start))).collect();
    for (taken, ticket) in (1..).zip(tickets) {
        assert_eq!(label(ticket), taken - 1);
        assert!(begun.load(Ordering::SeqCst) <= taken as u64 + 2 * AHEAD_PER_THREAD as u64, "{taken} taken");
    }
}

#[test]
fn a_dropped_ticket_gives_its_batch_up() {
    let (prepare, seen, open) = gated();
    let prefetcher = Prefetcher::start_with(prepare, 1).unwrap();
    let tickets: Vec<BatchTicket> = (0..20).map(|start| prefetcher.request(one(start))).collect();
    assert_eq!(seen.recv_timeout(DEADLINE).expect("the first batch is begun"), 0);
    // A new generation: the batch in preparation and those behind it are given up.
    drop(tickets);
    let other = prefetcher.request(one(100));
    (0..2).for_each(|_| open.send(()).unwrap());
    assert_eq!(label(other), 100);
    assert_eq!(seen.recv_timeout(DEADLINE).expect("the next batch is begun"), 100);
    assert!(prefetcher.shared.lock().requests.is_empty());
}

#[test]
fn an_error_or_a_panic_is_told_to_its_own_ticket() {
    let prepare = |counters: Range<u64>| match counters.start {
        1 => Err(DataError::Empty { path: "gone".into() }),
        2 => panic!("a decoder's defect"),
        _ => Ok(numbered(&counters)),
    };
    let prefetcher = Prefetcher::start_with(prepare, 2).unwrap();
    let mut tickets: Vec<BatchTicket> = (0..4).map(|start| prefetcher.request(one(start))).collect();
    assert_eq!(label(tickets.pop().expect("the fourth")), 3);
    let third = tickets.pop().expect("the third").wait();
    assert!(matches!(third, Err(DataError::Panicked { counters }) if counters == (2..3)));
    assert!(matches!(tickets.pop().expect("the second").wait(), Err(DataError::Empty { .. })));
    assert_eq!(label(tickets.pop().expect("the first")), 0);
}

#[test]
fn dropping_ends_the_threads_and_tells_the_open_tickets() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let prepare = move |counters: Range<u64>| {
        let _held = &held;
        Ok(numbered(&counters))
    };
    let prefetcher = Prefetcher::start_with(prepare, 3).unwrap();
    let tickets: Vec<BatchTicket> = (0..90).map(|start| prefetcher.request(one(start))).collect();
    drop(prefetcher);
    assert_eq!(Arc::strong_count(&alive), 1, "every thread has let go of its work");
    let stopped = tickets.into_iter().map(BatchTicket::wait).filter(|prepared| prepared.is_err()).count();
    assert!(stopped >= 90 - 3 * AHEAD_PER_THREAD - 3, "{stopped} of 90 say that the threads have stopped");
}
