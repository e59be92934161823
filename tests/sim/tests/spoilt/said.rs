//! What a member of the run says, spoilt: it may cost the run that member, or end the run with a reason, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use esta_engine::{
    law::Law,
    run::{
        Activity, Command as RunCommand, Event as RunEvent, Ledger, Notice, Patience, Progress, Record, Recovered, Run,
    },
    wire::to_worker,
};
use esta_proto::{
    Fence, Generation, SessionId, Step,
    v1::{CoordinatorMessage, WorkerMessage},
};
use esta_sim::mutate::{Mutator, over_seeds};
use esta_worker_engine::{Event, Reply};
use prost::Message as _;

use super::{EPOCH, SAMPLES, Worker, done, heard, law, message_of};

/// More does not happen in a run of twelve steps, whatever one of its members says.
const MOST: usize = 20_000;
const RANKS: u32 = 3;
/// The one whose words are spoilt. Once its session has ended it does not come back; the others do, unless they are told
/// to leave.
const SPOILT: u32 = 0;

struct Party {
    mutator: Mutator,
    run: Run,
    fence: Fence,
    now: Duration,
    events: VecDeque<RunEvent>,
    workers: BTreeMap<SessionId, (u32, Worker)>,
    /// So far.
    sessions: u64,
    /// Of workers that are gone.
    checkpoints: Vec<Step>,
    said: Vec<Vec<u8>>,
    /// Who it said it is.
    names: BTreeSet<String>,
    /// Everything that was ever written, in order.
    record: Vec<Record>,
    /// Why workers, or the run, have ended.
    reasons: Vec<String>,
    complete: bool,
}

impl Party {
    fn new(seed: u64, law: &Arc<Law>) -> Self {
        let patience = Patience { workers: RANKS, grace: Duration::from_secs(1) };
        let run = Run::new(law.clone(), EPOCH, patience, Recovered::default()).expect("nothing is on record");
        let mut party = Self {
            mutator: Mutator::new(seed),
            fence: run.fence(),
            run,
            now: Duration::ZERO,
            events: VecDeque::new(),
            workers: BTreeMap::new(),
            sessions: 0,
            checkpoints: Vec::new(),
            said: Vec::new(),
            names: BTreeSet::new(),
            record: Vec::new(),
            reasons: Vec::new(),
            complete: false,
        };
        (0..RANKS).for_each(|index| party.connect(index, Worker::new(index, law)));
        party
    }

    fn connect(&mut self, index: u32, mut worker: Worker) {
        self.sessions += 1;
        worker.handle(Event::Connected);
        self.workers.insert(SessionId(self.sessions), (index, worker));
    }

    /// A session is over.
    fn end(&mut self, session: SessionId) {
        let Some((index, mut worker)) = self.workers.remove(&session) else { return };
        self.checkpoints.append(&mut worker.published);
        match worker.ended.take() {
            Some((reason, _)) => self.reasons.push(reason),
            None if index == SPOILT => {}
            None => {
                worker.handle(Event::Disconnected);
                self.connect(index, worker);
            }
        }
    }

    fn hear_everybody(&mut self) {
        let sessions: Vec<SessionId> = self.workers.keys().copied().collect();
        for session in sessions {
            let Some((index, worker)) = self.workers.get_mut(&session) else { continue };
            let (index, ended) = (*index, worker.ended.is_some());
            for (fence, reply) in std::mem::take(&mut worker.said) {
                let bytes = self.on_its_way(index, session, fence, &reply);
                let read = WorkerMessage::decode(bytes.as_slice()).ok().and_then(|message| heard(session, message));
                // A stream that makes no sense is ended, and who waits for it is not left waiting.
                let over = read.is_none();
                if let Some(RunEvent::Joined(_, hello)) = read.as_ref().filter(|_| index == SPOILT) {
                    self.names.insert(hello.name.clone());
                }
                self.events.push_back(read.unwrap_or(RunEvent::Left(session)));
                if over {
                    self.end(session);
                    break;
                }
            }
            if ended && self.workers.contains_key(&session) {
                self.events.push_back(RunEvent::Left(session));
                self.end(session);
            }
        }
    }

    fn on_its_way(&mut self, index: u32, session: SessionId, fence: Fence, reply: &Reply) -> Vec<u8> {
        let whole = message_of(session, fence, reply).encode_to_vec();
        self.said.push(whole.clone());
        if index != SPOILT || !self.mutator.flips(0.1) {
            return whole;
        }
        if self.mutator.flips(0.3) { self.mutator.one_of(&self.said).clone() } else { self.mutator.bytes(&whole) }
    }

    /// Time passes, and those who are well say so.
    fn wait(&mut self) {
        self.now += Duration::from_millis(100);
        self.events.push_back(RunEvent::Tick);
        let idle = Progress { activity: Activity::Idle, since: Duration::ZERO };
        let well = self.workers.values_mut().filter(|(index, _)| *index != SPOILT);
        well.for_each(|(_, worker)| worker.handle_if_alive(Event::Beat(idle)));
    }

    fn carry_out(&mut self, command: RunCommand) {
        match command {
            RunCommand::Send(session, message) => {
                let body = Some(to_worker(&message));
                let message = CoordinatorMessage { fence: Some(self.fence.into()), traceparent: String::new(), body };
                if let Some((_, worker)) = self.workers.get_mut(&session).filter(|(_, worker)| worker.ended.is_none()) {
                    worker.hear(&message.encode_to_vec());
                }
            }
            RunCommand::Close(session) | RunCommand::Evict(session, _) => self.end(session),
            RunCommand::Persist(record) => {
                match &record {
                    Record::Generation(generation, _) => {
                        self.fence.generation = *generation;
                        self.events.push_back(RunEvent::Recorded(*generation));
                    }
                    Record::Step(record) => self.events.push_back(RunEvent::Persisted(record.step)),
                    Record::Complete => self.events.push_back(RunEvent::Concluded),
                    _ => {}
                }
                self.record.push(record);
            }
            RunCommand::Notice(Notice::Failed(reason)) => self.reasons.push(reason),
            // Whoever finds the checkpoints of those who are gone can go on.
            RunCommand::Notice(Notice::Stranded(_)) => {
                let worker = Worker::starting(RANKS, self.sessions, self.run.law(), self.checkpoints.clone());
                self.connect(RANKS, worker);
            }
            RunCommand::Notice(_) => {}
            RunCommand::Complete => self.complete = true,
        }
    }
}

/// A record as whoever reads it later has it.
struct Read {
    ledger: Ledger,
    generation: Generation,
    /// Most of the generation's ranks are well.
    well: bool,
}

impl Read {
    fn of(law: &Arc<Law>, record: &[Record]) -> Self {
        let samples = record.iter().find_map(|record| match record {
            Record::Samples(samples) => Some(*samples),
            _ => None,
        });
        let ledger = Ledger::new(law.clone(), law.total_steps(samples.unwrap_or(SAMPLES)));
        Self { ledger, generation: Generation(0), well: false }
    }

    /// Generations grow, steps follow each other, each is drawn as those before it have it, and a snapshot is one of them.
    /// What enters of a step is what most of its ranks hold of it.
    fn go_on(&mut self, record: &Record, spoilt: &BTreeSet<String>) {
        match record {
            Record::Generation(generation, names) => {
                assert!(*generation > self.generation, "{generation} follows {}", self.generation);
                self.generation = *generation;
                let well = names.iter().filter(|name| !spoilt.contains(*name)).count();
                self.well = 2 * well > names.len();
            }
            Record::Step(record) => {
                let plan = self.ledger.plan(record.step).expect("a step follows the one before it");
                let (outcomes, reduced) = done(plan.digest, plan.draws.len() as u32);
                let same = record.outcomes.iter().zip(&outcomes).all(|(entered, did)| entered.same_bits(did));
                assert!(!self.well || record.reduced == reduced, "step {} is what few hold", record.step);
                assert!(!self.well || same, "step {} has scores that nobody had", record.step);
                self.ledger.replay_step(record.clone()).expect("it is drawn as those before it have it");
            }
            Record::Snapshot(snapshot) => assert_eq!(**snapshot, self.ledger.snapshot()),
            Record::Checkpoint(step) | Record::Trim(step) => assert!(*step <= self.ledger.committed(), "{step}"),
            Record::Samples(_) | Record::Complete => {}
        }
    }
}

impl Party {
    fn read_the_record(&self) {
        let mut read = Read::of(self.run.law(), &self.record);
        self.record.iter().for_each(|record| read.go_on(record, &self.names));
        let told = |what: fn(&Record) -> bool| self.record.iter().filter(|record| what(record)).count();
        assert!(told(|record| matches!(record, Record::Samples(_))) <= 1, "a training set has one size");
        let complete = told(|record| matches!(record, Record::Complete));
        assert!(complete == 0 || read.ledger.committed() == read.ledger.total(), "it is complete before its last step");
        if let Some(ledger) = self.run.ledger() {
            assert_eq!(ledger.table(), read.ledger.table(), "the table is that of the record");
        }
    }
}

#[test]
fn whatever_a_member_says_the_run_goes_on_to_its_end_or_ends_with_one_line() {
    let law = law(4);
    over_seeds(200, |seed| {
        let mut party = Party::new(seed, &law);
        for _ in 0..MOST {
            party.hear_everybody();
            match party.events.pop_front() {
                None => party.wait(),
                Some(event) => {
                    let commands = party.run.handle(event, party.now);
                    commands.into_iter().for_each(|command| party.carry_out(command));
                }
            }
            if party.complete || party.workers.is_empty() {
                break;
            }
        }
        // Where it lied about the job itself the others are told, and leave.
        let (phase, durable) = (party.run.phase_name(), party.run.durable());
        let over = party.complete || party.workers.is_empty();
        assert!(over, "{phase} with {durable} steps after {:?}: it neither goes on nor ends", party.now);
        party.read_the_record();
        let clear = |reason: &String| reason.lines().count() == 1 && !reason.contains("makes no sense");
        assert!(party.reasons.iter().all(clear), "what a coordinator says always makes sense: {:?}", party.reasons);
    });
}
