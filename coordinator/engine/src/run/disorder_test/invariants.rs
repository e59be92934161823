//! What must hold of every command, one small check each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use esta_proto::{Digest, Generation, SessionId, SlotId, Step};

use super::{
    super::{Command, Event, Ledger, Message, Notice, Record, Report, Run, StepRecord},
    records::Records,
};
use crate::{law::Law, plan::RankPlan};

type Check = Result<(), String>;

/// What has been seen of one leader.
pub(super) struct Checks {
    /// Plans and table as the records alone have them.
    shadow: Ledger,
    lookahead: u64,
    generation: Generation,
    /// Score vectors that somebody said, by their step and what was reduced with them.
    said: BTreeMap<(Step, Digest), Vec<Vec<u64>>>,
    /// Slots of the steps that one event has given out.
    given: BTreeMap<Step, BTreeSet<SlotId>>,
    closed: BTreeSet<SessionId>,
    /// Of the generation that was formed last under this leader: its ranks, the first step it gave out, and their votes.
    formed: Option<(usize, Step)>,
    votes: BTreeMap<Step, BTreeMap<SessionId, Digest>>,
    /// Where the run was before the event.
    phase: &'static str,
    over: bool,
}

impl Checks {
    pub fn of(law: &Arc<Law>, total: u64, records: &Records) -> Self {
        let (snapshot, steps) = (records.durable.snapshot.clone(), records.durable.steps.clone());
        let shadow = Ledger::resume(law.clone(), total, snapshot, steps).expect("a leader went on from it");
        Self {
            shadow,
            lookahead: u64::from(law.spec.sampling.lookahead),
            generation: records.generation(),
            said: BTreeMap::new(),
            given: BTreeMap::new(),
            closed: BTreeSet::new(),
            formed: None,
            votes: BTreeMap::new(),
            phase: "",
            over: false,
        }
    }

    /// Takes in what is about to be heard.
    pub fn before(&mut self, event: &Event, run: &Run) {
        self.phase = run.phase_name();
        self.given.clear();
        match event {
            Event::Joined(_, hello) => hello.retained.iter().for_each(|report| self.hear(report)),
            Event::Reported(session, report) => {
                self.hear(report);
                let has_rank = run.members().ranks().contains(session);
                if has_rank && self.phase == "running" && report.plan != Digest([0xee; 32]) {
                    self.votes.entry(report.step).or_default().entry(*session).or_insert(report.reduced);
                }
            }
            Event::GroupReady(_, fence, ready) if self.phase == "forming" && *fence == run.fence() => {
                if let Some((_, first)) = &mut self.formed {
                    *first = ready.applied;
                }
            }
            _ => {}
        }
    }

    fn hear(&mut self, report: &Report) {
        let bits = bits(&report.outcomes);
        self.said.entry((report.step, report.reduced)).or_default().push(bits);
    }

    /// Weighs a command that an event led to.
    pub fn weigh(&mut self, event: &Event, command: &Command, run: &Run, records: &Records) -> Check {
        self.nothing_follows_the_end(command)?;
        match command {
            Command::Send(session, message) => {
                self.nobody_speaks_on_a_closed_session(*session)?;
                match message {
                    Message::Plan(plan) => {
                        self.st_1(plan)?;
                        self.st_2(plan)?;
                        self.dt_1(plan)?;
                        mb_2_durable_is_what_is_on_record(plan.durable, records)?;
                        self.a_plan_runs_ahead_by_no_more_than_the_lookahead(plan, records)
                    }
                    Message::Durable(step) => mb_2_durable_is_what_is_on_record(*step, records),
                    Message::Form(_) => self.mb_1_nobody_hears_of_a_generation_that_is_not_on_record(records),
                    Message::Finish(_) => a_run_is_finished_once_all_of_it_is_on_record(run, records),
                    _ => Ok(()),
                }
            }
            Command::Close(session) | Command::Evict(session, _) => {
                self.closed.insert(*session);
                Ok(())
            }
            Command::Persist(Record::Generation(generation, _)) => self.mb_1_generations_grow(*generation),
            Command::Persist(Record::Step(record)) => {
                self.mb_2_what_is_entered_was_said(record)?;
                self.rd_3(event, record)?;
                self.sc_2(record)
            }
            Command::Notice(Notice::Formed(_, names)) => {
                self.formed = Some((names.len(), Step(0)));
                self.votes.clear();
                Ok(())
            }
            Command::Notice(Notice::Resumed(_)) => {
                self.formed = None;
                Ok(())
            }
            Command::Complete => {
                self.over = true;
                Ok(())
            }
            Command::Persist(_) | Command::Notice(_) => Ok(()),
        }
    }

    /// Each slot of a step is given out once.
    fn st_1(&mut self, plan: &RankPlan) -> Check {
        let given = self.given.entry(plan.step).or_default();
        match plan.slots.iter().find(|(slot, _)| !given.insert(*slot)) {
            None => Ok(()),
            Some((slot, _)) => Err(format!("ST-1: slot {slot} of step {} is given out twice", plan.step)),
        }
    }

    /// What is drawn follows from the record alone.
    fn st_2(&self, plan: &RankPlan) -> Check {
        match self.shadow.plan(plan.step) {
            Some(drawn) if drawn.digest == plan.digest => Ok(()),
            drawn => Err(format!("ST-2: {plan:?} is given out where the record makes {drawn:?}")),
        }
    }

    /// The samples of a step follow those of the step before it.
    fn dt_1(&self, plan: &RankPlan) -> Check {
        let before = plan.step.0.checked_sub(1).and_then(|before| self.shadow.plan(Step(before)));
        let batch = u64::from(super::party::batch());
        match before.map_or(0, |before| before.first_sample + batch) {
            due if due == plan.first_sample || plan.step == self.shadow.earliest_plan() => Ok(()),
            due => Err(format!("DT-1: step {} begins with sample {} and not {due}", plan.step, plan.first_sample)),
        }
    }

    fn a_plan_runs_ahead_by_no_more_than_the_lookahead(&self, plan: &RankPlan, records: &Records) -> Check {
        let last = records.committed().0 + self.lookahead;
        if plan.step.0 <= last { Ok(()) } else { Err(format!("step {} is given out, {last} may be", plan.step)) }
    }

    /// Steps enter in order, each once, drawn as the steps before them have it.
    fn sc_2(&mut self, record: &StepRecord) -> Check {
        self.shadow.replay_step(record.clone()).map_err(|error| format!("SC-2: {error}"))
    }

    /// A step's scores are what somebody reported with what it was reduced to.
    fn mb_2_what_is_entered_was_said(&self, record: &StepRecord) -> Check {
        let bits = bits(&record.outcomes);
        let said = self.said.get(&(record.step, record.reduced)).is_some_and(|said| said.contains(&bits));
        if said { Ok(()) } else { Err(format!("MB-2: nobody said what is entered of step {}", record.step)) }
    }

    /// While steps are given out one commits once more than half of the ranks have named its digest, and all of them that of
    /// the step before it.
    fn rd_3(&self, event: &Event, record: &StepRecord) -> Check {
        let Some((ranks, first)) = self.formed.filter(|_| self.phase == "running") else { return Ok(()) };
        if !matches!(event, Event::Reported(..)) {
            return Ok(());
        }
        let named = |step: Step, digest: Option<Digest>| {
            let votes = self.votes.get(&step).into_iter().flat_map(BTreeMap::values);
            votes.filter(|vote| digest.is_none_or(|digest| **vote == digest)).count()
        };
        let most = 2 * named(record.step, Some(record.reduced)) > ranks;
        let before = record.step.0.checked_sub(1).map(Step).filter(|before| *before >= first);
        if most && before.is_none_or(|before| named(before, None) == ranks) {
            return Ok(());
        }
        let votes = (&self.votes.get(&record.step), before.map(|before| self.votes.get(&before)));
        Err(format!("RD-3: step {} is entered of {ranks} ranks, who said {votes:?}", record.step))
    }

    fn mb_1_generations_grow(&mut self, generation: Generation) -> Check {
        let before = std::mem::replace(&mut self.generation, generation);
        if generation > before { Ok(()) } else { Err(format!("MB-1: generation {generation} follows {before}")) }
    }

    fn mb_1_nobody_hears_of_a_generation_that_is_not_on_record(&self, records: &Records) -> Check {
        let (told, durable) = (self.generation, records.generation());
        if told == durable {
            Ok(())
        } else {
            Err(format!("MB-1: generation {told} is told of, {durable} is on record"))
        }
    }

    fn nobody_speaks_on_a_closed_session(&self, session: SessionId) -> Check {
        if self.closed.contains(&session) {
            Err(format!("something is said on session {session}, which is closed"))
        } else {
            Ok(())
        }
    }

    fn nothing_follows_the_end(&self, command: &Command) -> Check {
        if self.over { Err(format!("after the end: {command:?}")) } else { Ok(()) }
    }
}

/// Workers forget what they are told is durable.
fn mb_2_durable_is_what_is_on_record(told: Step, records: &Records) -> Check {
    let committed = records.committed();
    if told <= committed { Ok(()) } else { Err(format!("MB-2: {told} steps are called durable, {committed} are")) }
}

fn a_run_is_finished_once_all_of_it_is_on_record(run: &Run, records: &Records) -> Check {
    let total = run.ledger().map(Ledger::total);
    if total == Some(records.committed()) {
        Ok(())
    } else {
        Err("results are asked for before the last step".to_owned())
    }
}

fn bits(outcomes: &[crate::table::Outcome]) -> Vec<u64> {
    outcomes.iter().flat_map(|outcome| [outcome.score, outcome.loss, outcome.grad_norm]).map(f64::to_bits).collect()
}
