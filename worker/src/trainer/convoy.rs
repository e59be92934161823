//! The ranks of a node on their way through a step (HANDS), each with a slot of its own and all with the same blocks: a block
//! is broadcast by the rank that keeps it, one ahead of use, to wherever some rank's path goes.

use std::time::{Duration, Instant};

use esta_c10d::{ProcessGroup, Work};
use esta_engine::{
    run::Activity,
    shard::{BlockId, Round, Stop, Tour},
};
use esta_model::{Opening, PacedSlot, SlotResult, Windows, wait_for};
use esta_proto::{SlotId, Step};
use tch::{Device, Kind, Tensor};

use super::{
    Doing, Shard,
    group::{Broken, Standing},
};

/// This rank's place among those of its node.
pub struct Convoy<'a> {
    pub shard: &'a Shard,
    pub standing: &'a Standing,
    pub node: &'a ProcessGroup,
    pub device: Device,
    pub doing: &'a Doing,
}

/// A block on its way into its window.
enum Coming {
    /// It is there.
    Here,
    /// This rank sends it.
    Sent(Work),
    /// Another rank sends it.
    Awaited(Work, Opening),
}

impl Convoy<'_> {
    /// Agrees on the rounds of a step: `tours` are this rank's, and nobody has more than `most`.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn rounds<'t>(&self, tours: impl Iterator<Item = &'t Tour>, most: u32) -> Result<Vec<Round>, Broken> {
        // What a window holds is agreed on only among those who have brought the same blocks since.
        self.shard.windows.clear();
        let marks = Tensor::from_slice(&self.shard.order.marks(tours, most)).to_device(self.device);
        self.standing.finish(self.node.all_reduce_sum(&marks)?)?;
        let marks = Vec::<i64>::try_from(marks.to_device(Device::Cpu).to_kind(Kind::Int64));
        Ok(self.shard.order.rounds(&marks.expect("integers become integers")))
    }

    /// Goes through a round without a slot, to bring the others theirs.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn escort(&self, round: &Round, step: Step) -> Result<(), Broken> {
        self.travel(&round.forward, step, |_| {})?;
        self.travel(&round.back, step, |_| {})
    }

    /// Goes through stops; `at` is called at each with its block in its window, and the next block on its way.
    fn travel(&self, stops: &[Stop], step: Step, mut at: impl FnMut(Stop)) -> Result<(), Broken> {
        let mut ahead: Option<Coming> = None;
        for (number, stop) in stops.iter().enumerate() {
            self.standing.goes_on()?;
            // Whoever waits for a block waits for its peers.
            self.doing.begin(Activity::Reduce(step));
            let coming = ahead.take().map_or_else(|| self.bring(stop.block), Ok)?;
            self.receive(coming)?;
            let next = stops.get(number + 1).map(|stop| stop.block);
            let next = next.filter(|next| !Windows::collide(stop.block, *next));
            ahead = next.map(|next| self.bring(next)).transpose()?;
            at(*stop);
        }
        Ok(())
    }

    /// Begins to bring a block: on all ranks of the node or on none.
    fn bring(&self, block: BlockId) -> Result<Coming, Broken> {
        let windows = &self.shard.windows;
        if windows.holds(block) {
            return Ok(Coming::Here);
        }
        let keeper = self.shard.order.blocks().keeper(block, self.node.world());
        if keeper == self.node.rank() {
            windows.bring(block);
            return Ok(Coming::Sent(self.node.broadcast(&windows.row(block), keeper)?));
        }
        let opening = windows.open_for(block);
        Ok(Coming::Awaited(self.node.broadcast(&opening.row, keeper)?, opening))
    }

    fn receive(&self, coming: Coming) -> Result<(), Broken> {
        match coming {
            Coming::Here => Ok(()),
            Coming::Sent(work) => self.standing.finish(work),
            Coming::Awaited(work, opening) => {
                self.standing.finish(work)?;
                self.shard.windows.arrived(opening);
                Ok(())
            }
        }
    }
}

/// A slot on its way through a round.
pub struct Traveller<'a> {
    pub slot: PacedSlot<'a>,
    pub tour: &'a Tour,
    /// What it is in the step.
    place: (Step, SlotId),
    device: Device,
    /// Stops it has made since it set out or turned.
    done: usize,
    computed: Duration,
}

impl<'a> Traveller<'a> {
    /// A slot that has not set out.
    pub fn new(slot: PacedSlot<'a>, tour: &'a Tour, place: (Step, SlotId), device: Device) -> Self {
        Self { slot, tour, place, device, done: 0, computed: Duration::ZERO }
    }

    /// Forward, the turn, and back: what the slot found. `computed` is how long it took without waiting for blocks.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn go(mut self, convoy: &Convoy<'_>, round: &Round, computed: &mut Duration) -> Result<SlotResult, Broken> {
        convoy.travel(&round.forward, self.place.0, |stop| self.pass(convoy.doing, stop))?;
        self.compute(convoy.doing, PacedSlot::turn);
        self.done = 0;
        convoy.travel(&round.back, self.place.0, |stop| self.come_back(convoy.doing, stop))?;
        *computed = self.computed;
        Ok(self.slot.finish())
    }

    fn pass(&mut self, doing: &Doing, stop: Stop) {
        let Tour { taught, own } = self.tour;
        match self.done.checked_sub(taught.len()) {
            None if taught[self.done] == stop => self.stop(doing, PacedSlot::teach),
            Some(done) if own.get(done) == Some(&stop) => self.stop(doing, PacedSlot::forward),
            _ => {}
        }
    }

    fn come_back(&mut self, doing: &Doing, stop: Stop) {
        if self.tour.own.iter().rev().nth(self.done) == Some(&stop) {
            self.stop(doing, PacedSlot::back);
        }
    }

    fn stop(&mut self, doing: &Doing, run: impl FnOnce(&mut PacedSlot<'a>)) {
        self.compute(doing, run);
        self.done += 1;
    }

    fn compute(&mut self, doing: &Doing, run: impl FnOnce(&mut PacedSlot<'a>)) {
        let (step, slot) = self.place;
        doing.begin(Activity::Compute(step, slot));
        let started = Instant::now();
        run(&mut self.slot);
        // A device is given its work and goes on by itself: its time is what is measured.
        wait_for(self.device);
        self.computed += started.elapsed();
    }
}
