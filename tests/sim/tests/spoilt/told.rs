//! What a worker is told, spoilt: bytes of anything, messages damaged, twice, late, early, left out, of other leaders and
//! other jobs. A worker runs what the leader of its run gave out, one step after another, or ends with one clear line.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use esta_engine::{
    law::Law,
    plan::RankPlan,
    run::{Command as RunCommand, Event as RunEvent, Message, Patience, Record, Recovered, Run, exit},
    spec::JobSpec,
    wire::to_worker,
};
use esta_proto::{LeaderEpoch, SessionId, v1::CoordinatorMessage};
use esta_sim::mutate::{Mutator, over_seeds};
use esta_worker_engine::{
    Event,
    wire::{Inbound, from_coordinator},
};
use prost::Message as _;

use super::{EPOCH, Worker, heard, law, message_of};

const RANKS: u32 = 2;

/// What each rank is told in a whole run, byte for byte.
fn told(law: &Arc<Law>) -> Vec<Vec<Vec<u8>>> {
    let patience = Patience { workers: RANKS, grace: Duration::MAX };
    let mut run = Run::new(law.clone(), EPOCH, patience, Recovered::default()).expect("nothing is on record");
    let mut fence = run.fence();
    let mut workers: BTreeMap<SessionId, Worker> =
        (1..=RANKS).map(|index| (SessionId(index.into()), Worker::new(index, law))).collect();
    let mut told: BTreeMap<SessionId, Vec<Vec<u8>>> = BTreeMap::new();
    let mut events = VecDeque::new();
    workers.values_mut().for_each(|worker| worker.handle(Event::Connected));
    loop {
        for (session, worker) in &mut workers {
            for (fence, reply) in std::mem::take(&mut worker.said) {
                events.extend(heard(*session, message_of(*session, fence, &reply)));
            }
        }
        let Some(event) = events.pop_front() else { panic!("nothing is left to hear") };
        for command in run.handle(event, Duration::ZERO) {
            match command {
                RunCommand::Send(session, message) => {
                    let body = Some(to_worker(&message));
                    let message = CoordinatorMessage { fence: Some(fence.into()), traceparent: String::new(), body };
                    let bytes = message.encode_to_vec();
                    workers.get_mut(&session).expect("it is a worker's").hear(&bytes);
                    told.entry(session).or_default().push(bytes);
                }
                RunCommand::Persist(Record::Generation(generation, _)) => {
                    fence.generation = generation;
                    events.push_back(RunEvent::Recorded(generation));
                }
                RunCommand::Persist(Record::Step(record)) => events.push_back(RunEvent::Persisted(record.step)),
                RunCommand::Persist(Record::Complete) => events.push_back(RunEvent::Concluded),
                RunCommand::Complete => return told.into_values().collect(),
                _ => {}
            }
        }
    }
}

/// The plans among messages, by step.
fn plans(messages: &[Vec<u8>]) -> Vec<RankPlan> {
    let plan = |bytes: &Vec<u8>| {
        let message = CoordinatorMessage::decode(bytes.as_slice()).expect("it is whole");
        match from_coordinator(message).expect("it is whole") {
            Inbound::Law(_, Message::Plan(plan)) => Some(plan),
            _ => None,
        }
    };
    messages.iter().filter_map(plan).collect()
}

#[test]
fn what_a_worker_is_told_in_peace_it_does_to_the_end() {
    let law = law(4);
    for (index, messages) in (1..).zip(told(&law)) {
        let mut worker = Worker::new(index, &law);
        worker.handle(Event::Connected);
        messages.iter().for_each(|bytes| worker.hear(bytes));
        let ran: Vec<RankPlan> = worker.ran.into_iter().map(|(_, plan)| plan).collect();
        assert_eq!((ran.len(), &ran), (12, &plans(&messages)));
        assert_eq!(worker.ended, Some(("the run is complete".to_owned(), exit::DONE)));
    }
}

#[test]
fn whatever_a_worker_is_told_it_runs_what_was_given_out_in_turn_or_ends_with_one_line() {
    let (law, other) = (law(4), law(8));
    let (own, foreign) = (told(&law), told_by_others(&law, &other));
    let given_out = plans(&own[0]);
    over_seeds(300, |seed| {
        let mut mutator = Mutator::new(seed);
        let mut worker = Worker::new(1, &law);
        worker.handle(Event::Connected);
        for bytes in disturbed(&mut mutator, &own[0], &foreign) {
            worker.hear(&bytes);
            if worker.ended.is_some() {
                break;
            }
        }
        for (generation, plan) in &worker.ran {
            assert!(given_out.contains(plan), "nobody gave out {plan:?} of generation {generation}");
        }
        let steps: Vec<_> = worker.ran.iter().map(|(generation, plan)| (*generation, plan.step)).collect();
        assert!(steps.is_sorted_by(|a, b| a < b), "{steps:?}");
        if let Some((reason, _)) = worker.ended {
            assert_eq!(reason.lines().count(), 1, "{reason:?}");
        }
    });
}

/// What another leader says in a run of this job, and what is said in a run of another one.
fn told_by_others(law: &Arc<Law>, other: &Arc<Law>) -> Vec<Vec<u8>> {
    let later = LeaderEpoch(EPOCH.0 + 1);
    let mut foreign = told(other).concat();
    foreign.extend(told_under(law, later));
    foreign
}

/// The same messages under another leader's epoch.
fn told_under(law: &Arc<Law>, epoch: LeaderEpoch) -> Vec<Vec<u8>> {
    let under = |bytes: Vec<u8>| {
        let mut message = CoordinatorMessage::decode(bytes.as_slice()).expect("it is whole");
        message.fence.as_mut().expect("it has one").epoch = epoch.0;
        message.encode_to_vec()
    };
    told(law).concat().into_iter().map(under).collect()
}

/// Messages on their way, and what becomes of them there: usually one or two things go wrong.
fn disturbed(mutator: &mut Mutator, whole: &[Vec<u8>], foreign: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut messages = whole.to_vec();
    let chance = 1.5 / whole.len() as f64;
    let mut at = 0;
    while at < messages.len() {
        if mutator.flips(chance) {
            match *mutator.one_of(&["spoilt", "noise", "twice", "late", "early", "left out", "foreign"]) {
                "spoilt" => messages[at] = mutator.bytes(&messages[at]),
                "noise" => messages.insert(at, mutator.noise(200)),
                "twice" => messages.insert(at, messages[at].clone()),
                "late" if at + 1 < messages.len() => messages.swap(at, at + 1),
                "early" => messages.insert(at, mutator.one_of(whole).clone()),
                "left out" => drop(messages.remove(at)),
                _ => messages.insert(at, mutator.one_of(foreign).clone()),
            }
        }
        at += 1;
    }
    messages
}

#[test]
fn a_job_that_was_spoilt_on_its_way_to_a_worker_is_refused_or_makes_a_law() {
    let whole = serde_json::to_string_pretty(&law(4).spec).expect("a job is JSON");
    over_seeds(200, |seed| {
        let spoilt = Mutator::new(seed).text(&whole);
        let Ok(spec) = serde_json::from_str::<JobSpec>(&spoilt) else { return };
        if let Err(flaw) = Law::new(spec) {
            assert_eq!(flaw.to_string().lines().count(), 1, "{flaw}");
        }
    });
}
