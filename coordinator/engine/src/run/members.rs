//! Who takes part (LAW): live workers, the generation they form, and what each of them has said.
//!
//! MB-1: generations only grow. A member is a session, so a restarted process is never taken for its predecessor.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use esta_proto::{Generation, Rank, SessionId, SlotId, Step};

use super::{
    activity::Progress,
    message::{Form, HeldShare, Hello, Origin, Ready, Standing},
    tempo::{Normal, Tempo},
};
use crate::plan::Plan;

/// A live worker.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its identity.
    pub name: String,
    /// Which process of that identity.
    pub incarnation: u64,
    /// Steps applied to what it holds in memory.
    pub applied: Option<Step>,
    /// Complete checkpoints it can read.
    pub checkpoints: BTreeSet<Step>,
    /// Its place in the current generation.
    pub rank: Option<Rank>,
    /// Stands in the current generation's process group.
    pub ready: bool,
    /// Slots of the first step of its generation whose sum it has from an earlier one.
    pub computed: Option<HeldShare>,
    /// Makes the state that its group begins with, from nothing or from a checkpoint.
    pub originates: bool,
    /// Has done what the end of the run asked.
    pub finished: bool,
    /// Writes the results at the end of the run.
    pub writer: bool,
    /// Was asked to leave: it takes part until the steps given out are done.
    pub draining: bool,
    /// The process group it says it stands in, until a leader has settled whether that goes on.
    pub standing: Option<Standing>,
    /// Its last sign of life.
    pub heard: Duration,
    /// What its trainer was at then.
    pub doing: Option<Progress>,
    /// How fast it is.
    pub tempo: Tempo,
}

impl Member {
    /// How many times as long as the median of its group it takes for the same work.
    #[must_use]
    pub fn slowness(&self, normal: Option<Normal>) -> Option<f64> {
        self.tempo.ratio().zip(normal).map(|(ratio, normal)| ratio / normal.median)
    }

    /// The member that a hello introduces.
    #[must_use]
    pub fn new(hello: &Hello, now: Duration) -> Self {
        Self {
            name: hello.name.clone(),
            incarnation: hello.incarnation,
            applied: hello.applied,
            checkpoints: hello.checkpoints.iter().copied().collect(),
            rank: None,
            ready: false,
            computed: None,
            originates: false,
            finished: false,
            writer: false,
            draining: false,
            standing: hello.standing.clone(),
            heard: now,
            doing: None,
            tempo: Tempo::default(),
        }
    }
}

/// The live workers and their generation.
#[derive(Debug, Clone, Default)]
pub struct Members {
    live: BTreeMap<SessionId, Member>,
    /// Their sessions by name.
    names: BTreeMap<String, SessionId>,
    /// Sessions of the current generation by rank; empty between generations.
    ranks: Vec<SessionId>,
    /// How many of them stand in its process group.
    ready: usize,
    generation: Generation,
    /// The last number that was given to a generation, whether it came or not.
    numbered: Generation,
}

impl Members {
    /// No members yet, after the last recorded generation.
    #[must_use]
    pub fn after(generation: Generation) -> Self {
        Self { generation, numbered: generation, ..Self::default() }
    }

    /// The current generation, or the last one between two.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// All live workers by session.
    #[must_use]
    pub fn live(&self) -> &BTreeMap<SessionId, Member> {
        &self.live
    }

    /// A live worker.
    pub fn get_mut(&mut self, session: SessionId) -> Option<&mut Member> {
        self.live.get_mut(&session)
    }

    /// Adds a worker.
    pub fn insert(&mut self, session: SessionId, member: Member) {
        self.names.insert(member.name.clone(), session);
        self.live.insert(session, member);
    }

    /// Removes a worker; true when it was in the current generation.
    pub fn remove(&mut self, session: SessionId) -> bool {
        let Some(member) = self.live.remove(&session) else { return false };
        self.names.remove(&member.name);
        member.rank.is_some()
    }

    /// The live worker of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<(SessionId, &Member)> {
        let session = self.names.get(name)?;
        Some((*session, self.live.get(session)?))
    }

    /// Sessions of the current generation by rank.
    #[must_use]
    pub fn ranks(&self) -> &[SessionId] {
        &self.ranks
    }

    /// Members of the current generation.
    pub fn in_group(&self) -> impl Iterator<Item = &Member> {
        self.ranks.iter().filter_map(|session| self.live.get(session))
    }

    /// A member of the current generation stands in its process group, and says what it holds; whether all do.
    pub fn stands(&mut self, session: SessionId, ready: Ready) -> bool {
        let Some(member) = self.live.get_mut(&session).filter(|member| member.rank.is_some()) else { return false };
        self.ready += usize::from(!member.ready);
        member.ready = true;
        (member.applied, member.computed) = (Some(ready.applied), ready.computed);
        self.ready == self.ranks.len()
    }

    /// Which ranks need not run slots of this plan again: each slot at most once (ST-1). Of two that have the same one the
    /// second keeps none, since its sum cannot be parted.
    #[must_use]
    pub fn computed(&self, plan: &Plan) -> BTreeMap<SlotId, Rank> {
        let mut kept = BTreeMap::new();
        for (member, rank) in self.in_group().zip((0..).map(Rank)) {
            let share = member.computed.as_ref().filter(|share| (share.step, share.plan) == (plan.step, plan.digest));
            let Some(HeldShare { slots, .. }) = share else { continue };
            let fits = |slot: &SlotId| slot.index() < plan.draws.len() && !kept.contains_key(slot);
            if slots.iter().all(fits) {
                kept.extend(slots.iter().map(|slot| (*slot, rank)));
            }
        }
        kept
    }

    /// Everybody has been heard of now.
    pub fn all_heard(&mut self, now: Duration) {
        self.live.values_mut().for_each(|member| member.heard = now);
    }

    /// Ends the current generation: nobody has a rank.
    pub fn dissolve(&mut self) {
        self.ranks.clear();
        self.ready = 0;
        for member in self.live.values_mut() {
            member.rank = None;
            member.ready = false;
            (member.finished, member.writer, member.originates) = (false, false, false);
        }
    }

    /// Goes on with the recorded generation, whose ranks are these sessions.
    pub fn resume(&mut self, ranks: &[SessionId]) {
        self.ranks = ranks.to_vec();
        self.ready = ranks.len();
        for (rank, session) in ranks.iter().enumerate() {
            if let Some(member) = self.live.get_mut(session) {
                member.rank = Some(Rank(rank as u32));
                member.ready = true;
            }
        }
        self.live.values_mut().for_each(|member| member.standing = None);
    }

    /// What is normal among the ranks' tempi.
    #[must_use]
    pub fn normal(&self) -> Option<Normal> {
        Normal::of(self.in_group().filter_map(|member| member.tempo.ratio()).collect())
    }

    /// By rank: how many times as long as the median it takes, to the nearest tenth. Differences within a tenth are none,
    /// and a few speeds are packed for, whatever the number of ranks.
    #[must_use]
    pub fn slowness(&self, normal: Option<Normal>) -> Vec<f64> {
        let slowness = |member: &Member| {
            let ratio = member.slowness(normal).unwrap_or(1.0);
            if (0.9..1.1).contains(&ratio) { 1.0 } else { (10.0 * ratio).round().clamp(1.0, 100.0) / 10.0 }
        };
        self.in_group().map(slowness).collect()
    }

    /// The number of a generation that may come: no other will have it.
    pub fn number(&mut self) -> Generation {
        self.numbered = self.numbered.next();
        self.numbered
    }

    /// Begins the generation whose group these sessions have prepared, by rank; where none is, the next one with every live
    /// worker, ranked in order of session. Says what each must do; `None` when nobody lives or nobody holds a state from
    /// which the run can go on.
    pub fn form(
        &mut self,
        prepared: Option<(Generation, Vec<SessionId>)>,
        resumable: Resumable,
    ) -> Option<Vec<(SessionId, Form)>> {
        let (generation, ranks) = match prepared {
            Some((generation, ranks)) => (Some(generation), ranks),
            None => (None, self.live.keys().copied().collect()),
        };
        let (source, origin) = self.source(&ranks, resumable)?;
        self.generation = generation.unwrap_or_else(|| self.number());
        self.ranks = ranks;
        self.ready = 0;
        let world = self.ranks.len() as u32;
        let place = |rank: usize| Rank(rank as u32);
        let source = place(self.ranks.iter().position(|session| *session == source)?);
        for (rank, session) in self.ranks.iter().enumerate() {
            let member = self.live.get_mut(session)?;
            member.rank = Some(place(rank));
            member.ready = false;
            member.originates = place(rank) == source && !matches!(origin, Origin::Memory(_));
            (member.standing, member.doing, member.computed) = (None, None, None);
        }
        let form = |(rank, session): (usize, &SessionId)| (*session, Form { rank: place(rank), world, source, origin });
        Some(self.ranks.iter().enumerate().map(form).collect())
    }

    /// The one of these workers whose state the next generation takes: the highest applied step in memory or in a usable
    /// checkpoint, memory first; else a fresh start. Ties go to the first. A state of before the earliest plan is of no
    /// use, wherever it lies: a worker that was away for long may hold one.
    pub fn source(&self, ranks: &[SessionId], resumable: Resumable) -> Option<(SessionId, Origin)> {
        let memory = |member: &Member| member.applied.filter(|applied| *applied >= resumable.earliest);
        let checkpoint =
            |member: &Member| member.checkpoints.range(resumable.earliest..=resumable.durable).next_back().copied();
        let members = || ranks.iter().filter_map(|session| Some((*session, self.live.get(session)?)));
        let newest = |held: &dyn Fn(&Member) -> Option<Step>| members().filter_map(|(_, member)| held(member)).max();
        let holder = |held: &dyn Fn(&Member) -> Option<Step>, step: Step| {
            members().find(|(_, member)| held(member) == Some(step)).map(|(session, _)| session)
        };
        match (newest(&memory), newest(&checkpoint)) {
            (Some(applied), saved) if saved.is_none_or(|saved| saved <= applied) => {
                Some((holder(&memory, applied)?, Origin::Memory(applied)))
            }
            (_, Some(step)) => Some((holder(&checkpoint, step)?, Origin::Checkpoint(step))),
            (_, None) => (resumable.earliest == Step(0)).then_some((*ranks.first()?, Origin::Fresh)),
        }
    }
}

/// From which applied steps a run can go on: its plans reach back to `earliest`, its record to `durable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resumable {
    /// The earliest step whose plan is known.
    pub earliest: Step,
    /// The number of durable steps; a checkpoint never runs ahead of the record.
    pub durable: Step,
}
