//! Plans, commits and the table they make (LAW): DESIGN.md sections 3 and 4.
//!
//! ST-2: step t draws from V(t), the table after step max(0, t-1-K) committed, exactly: the ledger draws a plan in the
//! moment its table version exists and never later. SC-2: facts enter once and in order of steps.

use std::{collections::BTreeMap, sync::Arc};

use esta_proto::{Digest, SlotId, Step, StitchId};
use thiserror::Error;

use super::message::{Report, Snapshot, StepRecord};
use crate::{
    law::Law,
    plan::Plan,
    table::{Outcome, Table},
};

/// A record that this version of the program does not derive again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReplayError {
    /// The records are not those of consecutive steps.
    #[error("the record of step {expected} is missing: the next one found is of step {found}")]
    Gap {
        /// Step whose record is due.
        expected: Step,
        /// Step of the record found.
        found: Step,
    },
    /// A snapshot of another family.
    #[error("the snapshot after {step} steps has {found} stitches, this job {expected}")]
    Snapshot {
        /// Its step.
        step: Step,
        /// Its stitches.
        found: usize,
        /// The job's.
        expected: usize,
    },
    /// A snapshot that no run leaves behind.
    #[error("the snapshot after {step} steps is damaged: {what}")]
    Damaged {
        /// Its step.
        step: Step,
        /// What is wrong with it.
        what: String,
    },
    /// The draws differ: another specification, seed or version made them.
    #[error(
        "step {step} was drawn as {recorded:?} but derives as {derived:?}: another seed, specification or version made this record"
    )]
    Draws {
        /// The step.
        step: Step,
        /// Stitches on record.
        recorded: Vec<StitchId>,
        /// Stitches derived again.
        derived: Vec<StitchId>,
    },
}

/// What a report is to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Of a plan of this run, and no step's outcomes are known that it would double.
    New,
    /// Known already.
    Duplicate,
    /// A re-execution whose scores differ from the record.
    RedoDiffers,
    /// Of no plan of this run.
    Foreign,
}

/// Facts of one step that are kept of those who have no rank.
const OPINIONS: usize = 16;

/// Whose word a fact is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// Of somebody who votes, once for each step: it always has room.
    Rank,
    /// Of whoever comes.
    Anybody,
}

/// Plans drawn, facts received, steps committed.
#[derive(Debug, Clone)]
pub struct Ledger {
    law: Arc<Law>,
    table: Table,
    /// Drawn and not committed.
    plans: BTreeMap<Step, Plan>,
    /// Score vectors of steps that are not committed, by what was reduced with them: which of them is the run's the ranks say.
    facts: BTreeMap<Step, BTreeMap<Digest, Vec<Outcome>>>,
    /// Committed steps since the oldest retained checkpoint, with the digests of their plans.
    records: BTreeMap<Step, (StepRecord, Digest)>,
    total: u64,
}

impl Ledger {
    /// The ledger of a run of `total` steps, with the plans of the first steps drawn.
    #[must_use]
    pub fn new(law: Arc<Law>, total: u64) -> Self {
        let table = Table::new(law.catalog.id_bound(), law.spec.sampling.momentum);
        let (plans, facts, records) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut ledger = Self { law, table, plans, facts, records, total };
        ledger.draw_ahead();
        ledger
    }

    /// Where the ledger is, for whoever goes on without its past.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let plan = |plan: &Plan| (plan.step, plan.table_version, plan.draws.clone());
        Snapshot {
            committed: self.committed(),
            rows: self.table.rows().to_vec(),
            trend: self.table.trend(),
            plans: self.plans.values().map(plan).collect(),
        }
    }

    /// Goes on from a snapshot, if there is one, with the records since the oldest checkpoint that may still be gone back
    /// to: those before the snapshot are kept as they are, those after it are derived again.
    ///
    /// # Errors
    /// [`ReplayError`] when snapshot or records are not what this run would have made.
    pub fn resume(
        law: Arc<Law>,
        total: u64,
        snapshot: Option<Snapshot>,
        records: Vec<StepRecord>,
    ) -> Result<Self, ReplayError> {
        let Some(snapshot) = snapshot else { return Self::replay(law, total, records) };
        let mut ledger = Self::new(law, total);
        let (found, expected) = (snapshot.rows.len(), ledger.table.rows().len());
        if found != expected {
            return Err(ReplayError::Snapshot { step: snapshot.committed, found, expected });
        }
        ledger.check_plans(&snapshot, &records)?;
        let momentum = ledger.law.spec.sampling.momentum;
        ledger.table = Table::restore(snapshot.rows, momentum, snapshot.committed, snapshot.trend);
        let plan = |(step, version, draws)| (step, ledger.plan_of(step, version, draws));
        ledger.plans = snapshot.plans.into_iter().map(plan).collect();
        let (before, after): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| record.step < snapshot.committed);
        let keep = |record: StepRecord| {
            let plan = ledger.plan_of(record.step, record.table_version, record.draws.clone());
            (record.step, (record, plan.digest))
        };
        ledger.records = before.into_iter().map(keep).collect();
        for record in after {
            ledger.replay_step(record)?;
        }
        Ok(ledger)
    }

    /// A snapshot holds the plans that were drawn and not committed, and these and the records draw stitches that exist.
    fn check_plans(&self, snapshot: &Snapshot, records: &[StepRecord]) -> Result<(), ReplayError> {
        let damaged = |what: String| Err(ReplayError::Damaged { step: snapshot.committed, what });
        if snapshot.committed.0 > self.total {
            return damaged(format!("the run has {} steps", self.total));
        }
        let lookahead = u64::from(self.law.spec.sampling.lookahead);
        let due = snapshot.committed.0..(snapshot.committed.0 + lookahead + 1).min(self.total);
        if !snapshot.plans.iter().map(|(step, ..)| step.0).eq(due.clone()) {
            return damaged(format!("it holds {} plans, not those of steps {due:?}", snapshot.plans.len()));
        }
        let drawn = records.iter().map(|record| (record.step, &record.draws));
        for (step, draws) in drawn.chain(snapshot.plans.iter().map(|(step, _, draws)| (*step, draws))) {
            if draws.len() != self.law.spec.sampling.slots as usize {
                return damaged(format!("step {step} has {} draws", draws.len()));
            }
            if let Some(draw) = draws.iter().find(|draw| self.law.catalog.get(draw.stitch).is_none()) {
                return damaged(format!("step {step} draws stitch {}, which the job does not have", draw.stitch));
            }
        }
        Ok(())
    }

    /// Derives the ledger again from the records of its first steps.
    ///
    /// # Errors
    /// [`ReplayError`] when the records are not what this run would have drawn.
    pub fn replay(law: Arc<Law>, total: u64, records: Vec<StepRecord>) -> Result<Self, ReplayError> {
        let mut ledger = Self::new(law, total);
        for record in records {
            ledger.replay_step(record)?;
        }
        Ok(ledger)
    }

    /// Goes on by one recorded step, whose draws are derived again.
    ///
    /// # Errors
    /// [`ReplayError`] when the record is not what this run would have drawn.
    pub fn replay_step(&mut self, record: StepRecord) -> Result<(), ReplayError> {
        let expected = self.committed();
        let Some(plan) = self.plans.get(&expected).filter(|_| record.step == expected) else {
            return Err(ReplayError::Gap { expected, found: record.step });
        };
        let stitches = |draws: &[crate::sampler::Draw]| draws.iter().map(|d| d.stitch).collect::<Vec<_>>();
        let (recorded, derived) = (stitches(&record.draws), stitches(&plan.draws));
        if recorded != derived {
            return Err(ReplayError::Draws { step: record.step, recorded, derived });
        }
        if record.outcomes.len() != recorded.len() {
            return Err(ReplayError::Damaged { step: record.step, what: "it lacks outcomes of its slots".to_owned() });
        }
        self.commit(record.outcomes, record.reduced);
        Ok(())
    }

    /// The number of committed steps.
    #[must_use]
    pub fn committed(&self) -> Step {
        self.table.version()
    }

    /// Steps of the whole run.
    #[must_use]
    pub fn total(&self) -> Step {
        Step(self.total)
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The plan of a step: drawn ahead, or derived again from its record. `None` when it is neither.
    #[must_use]
    pub fn plan(&self, step: Step) -> Option<Plan> {
        if let Some(plan) = self.plans.get(&step) {
            return Some(plan.clone());
        }
        let (record, _) = self.records.get(&step)?;
        Some(self.plan_of(step, record.table_version, record.draws.clone()))
    }

    /// The stitch that a slot of a step drew, while its plan or record is kept.
    #[must_use]
    pub fn drawn(&self, step: Step, slot: SlotId) -> Option<StitchId> {
        let recorded = self.records.get(&step).map(|(record, _)| &record.draws);
        let draws = recorded.or_else(|| self.plans.get(&step).map(|plan| &plan.draws))?;
        draws.get(slot.index()).map(|draw| draw.stitch)
    }

    /// The earliest step whose plan can still be given out.
    #[must_use]
    pub fn earliest_plan(&self) -> Step {
        let first = |keys: Option<&Step>| keys.copied();
        first(self.records.keys().next()).or(first(self.plans.keys().next())).unwrap_or(self.committed())
    }

    /// What a report is to the run, which does not change it.
    #[must_use]
    pub fn judge(&self, report: &Report) -> Verdict {
        let recorded = self.records.get(&report.step);
        let planned = self.plans.get(&report.step).map(|plan| (plan.digest, plan.draws.len()));
        let known = recorded.map(|(record, plan)| (*plan, record.draws.len())).or(planned);
        let Some((_, slots)) = known.filter(|(plan, _)| *plan == report.plan) else {
            // Steps before the oldest retained checkpoint are no longer compared.
            return if report.step < self.earliest_plan() { Verdict::Duplicate } else { Verdict::Foreign };
        };
        if !report.outcomes.is_empty() && report.outcomes.len() != slots {
            return Verdict::Foreign;
        }
        match recorded {
            Some((record, _)) => compare(record, report),
            None if report.outcomes.is_empty() || self.is_known(report) => Verdict::Duplicate,
            None => Verdict::New,
        }
    }

    /// Takes a report as a fact, which is kept until its step is the next to commit.
    pub fn accept(&mut self, report: &Report, teller: Teller) -> Verdict {
        let verdict = self.judge(report);
        if verdict == Verdict::New {
            let facts = self.facts.entry(report.step).or_default();
            if teller == Teller::Rank || facts.len() < OPINIONS {
                facts.insert(report.reduced, report.outcomes.clone());
            }
        }
        verdict
    }

    fn is_known(&self, report: &Report) -> bool {
        self.facts.get(&report.step).is_some_and(|facts| facts.contains_key(&report.reduced))
    }

    /// Commits every step below this one whose fact has arrived, in order; returns their records for the store. Of several facts
    /// of a step the one enters that was reduced to what its ranks hold.
    pub fn commit_ready(&mut self, below: Step, held: impl Fn(Step) -> Option<Digest>) -> Vec<StepRecord> {
        let mut records = Vec::new();
        while self.committed() < below {
            let step = self.committed();
            let Some(facts) = self.facts.get_mut(&step) else { break };
            let reduced = held(step).or_else(|| facts.keys().next().copied().filter(|_| facts.len() == 1));
            let Some((reduced, outcomes)) = reduced.and_then(|reduced| facts.remove_entry(&reduced)) else { break };
            self.facts.remove(&step);
            records.push(self.commit(outcomes, reduced));
        }
        records
    }

    /// The number of steps that are committed or will be once it is their turn: their facts are here without a gap.
    #[must_use]
    pub fn provable(&self) -> Step {
        let mut step = self.committed();
        while self.facts.contains_key(&step) {
            step = step.next();
        }
        step
    }

    /// Whether a step is on record as reduced to another digest than this one.
    #[must_use]
    pub fn contradicts(&self, step: Step, reduced: Digest) -> bool {
        self.records.get(&step).is_some_and(|(record, _)| record.reduced != reduced)
    }

    /// Forgets what was said of a step by whoever reduced it to anything else; whether nothing is left of what was known.
    pub fn believe(&mut self, step: Step, reduced: Digest) -> bool {
        let Some(facts) = self.facts.get_mut(&step) else { return false };
        facts.retain(|digest, _| *digest == reduced);
        let none = facts.is_empty();
        if none {
            self.facts.remove(&step);
        }
        none
    }

    /// Forgets the facts of steps from this one on: they are not the run's.
    pub fn distrust(&mut self, from: Step) {
        self.facts.split_off(&from);
    }

    /// Drops the records of steps below `step`: a retained checkpoint has them applied.
    pub fn forget_below(&mut self, step: Step) {
        self.records = self.records.split_off(&step);
    }

    fn commit(&mut self, outcomes: Vec<Outcome>, reduced: Digest) -> StepRecord {
        let step = self.committed();
        let plan = self.plans.remove(&step).expect("a step commits after its plan was drawn");
        let slots: Vec<_> = plan.draws.iter().map(|draw| draw.stitch).zip(outcomes.iter().copied()).collect();
        self.table.commit(&slots);
        let record = StepRecord { step, table_version: plan.table_version, draws: plan.draws, outcomes, reduced };
        self.records.insert(step, (record.clone(), plan.digest));
        self.draw_ahead();
        record
    }

    /// Draws the plans whose table version exists.
    fn draw_ahead(&mut self) {
        let lookahead = u64::from(self.law.spec.sampling.lookahead);
        let last = (self.committed().0 + lookahead).min(self.total.saturating_sub(1));
        let first = self.plans.keys().next_back().map_or(self.committed(), |step| step.next());
        for step in (first.0..=last).map(Step).filter(|step| step.0 < self.total) {
            let draws = self.law.sampler.draw_step(step, &self.table, &self.in_flight());
            let plan = self.plan_of(step, self.committed(), draws);
            self.plans.insert(step, plan);
        }
    }

    fn plan_of(&self, step: Step, table_version: Step, draws: Vec<crate::sampler::Draw>) -> Plan {
        let first_sample = step.0 * u64::from(self.law.spec.train.batch_size);
        Plan::new(step, table_version, first_sample, draws, &self.law.layout)
    }

    /// By stitch id: slots drawn and not in the table.
    fn in_flight(&self) -> Vec<u32> {
        let mut counts = vec![0; self.law.catalog.id_bound()];
        self.plans.values().flat_map(|plan| &plan.draws).for_each(|draw| counts[draw.stitch.index()] += 1);
        counts
    }
}

fn compare(record: &StepRecord, report: &Report) -> Verdict {
    let same_scores =
        report.outcomes.is_empty() || record.outcomes.iter().zip(&report.outcomes).all(|(old, new)| old.same_bits(new));
    if same_scores && record.reduced == report.reduced { Verdict::Duplicate } else { Verdict::RedoDiffers }
}
