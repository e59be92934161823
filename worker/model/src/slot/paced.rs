//! A slot that goes through its blocks one at a time (TENSOR), at the pace of whoever brings their weights: all passes of the
//! slot run a block before any runs the next, so that a block is brought once on the way there and once on the way back.
//!
//! The numbers are those of [`run_slot`](super::run_slot) with checkpointing.

use std::time::Instant;

use tch::Tensor;

use super::{Measure, Pass, Slot, SlotError, SlotOptions, SlotResult, Teaching};
use crate::input::Input;
use crate::linear::Phase;
use crate::network::{Network, Stage};
use crate::params::ParamStore;
use crate::recompute::Way;
use crate::stitched::StitchedNet;

/// A slot under way. The caller counts blocks: those of a teacher, if it has one, are taught first; then its own run forward,
/// it turns, and they run back.
pub struct PacedSlot<'a> {
    pass: Pass<'a>,
    measure: Measure<'a>,
    runs: Vec<Run<'a>>,
    set_out: Instant,
}

/// One of its passes.
struct Run<'a> {
    input: Input,
    labels: Tensor,
    share: f64,
    lesson: Option<Lesson<'a>>,
    way: Way<'a>,
    loss: Option<Tensor>,
}

/// A teacher's way through a pass.
struct Lesson<'a> {
    stages: Vec<Stage<'a>>,
    done: usize,
    /// [B, N, D]
    x: Tensor,
}

impl<'a> PacedSlot<'a> {
    /// A slot in front of its first block.
    ///
    /// # Errors
    /// [`SlotError`] when the stitch is unknown or the batch has fewer samples than passes.
    ///
    /// # Panics
    /// As [`super::run_slot`], all methods of it.
    pub fn new(
        net: &'a StitchedNet,
        store: &'a ParamStore,
        slot: &Slot<'_>,
        options: &'a SlotOptions,
    ) -> Result<Self, SlotError> {
        let set_out = Instant::now();
        let pass = Pass::of(net, store, slot, options)?;
        let run = |(input, labels, share): (Input, Tensor, f64)| Run {
            lesson: pass.teacher.map(|(teacher, _)| Lesson::new(teacher, &input)),
            way: Way::new(pass.network, &input, pass.leaves(), pass.seed),
            input,
            labels,
            share,
            loss: None,
        };
        let runs = super::split(slot, options.micro_batches)?.into_iter().map(run).collect();
        let measure = Measure { store, stitch: slot.stitch, options };
        Ok(Self { pass, measure, runs, set_out })
    }

    /// Through the teacher's next block.
    pub fn teach(&mut self) {
        self.runs.iter_mut().filter_map(|run| run.lesson.as_mut()).for_each(Lesson::forward);
    }

    /// Through its own next block.
    pub fn forward(&mut self) {
        self.runs.iter_mut().for_each(|run| run.way.forward());
    }

    /// Through the head to the loss and back, pass by pass.
    pub fn turn(&mut self) {
        for Run { input, labels, share, lesson, way, loss } in &mut self.runs {
            let teaching = || {
                let ((teacher, how), lesson) = self.pass.teacher.zip(lesson.take())?;
                Some(Teaching { logits: tch::no_grad(|| teacher.tail.forward(&lesson.x, input, Phase::Eval)), how })
            };
            let learn = |logits: &Tensor| {
                let learned = self.pass.learn(logits, labels, *share, teaching);
                // Passes go side by side, and all of them are at their losses when the last one is.
                self.pass.at_the_loss(logits.device(), || self.set_out.elapsed());
                learned
            };
            *loss = Some(way.turn(input, learn));
        }
    }

    /// Back through the block before.
    pub fn back(&mut self) {
        self.runs.iter_mut().for_each(|run| run.way.back());
    }

    /// What the slot found.
    #[must_use]
    pub fn finish(self) -> SlotResult {
        let Self { pass, measure, runs, .. } = self;
        let parts = runs.into_iter().map(|Run { share, way, loss, .. }| {
            let loss = loss.expect("every pass has turned");
            pass.part(&loss, &way.gradients(), share)
        });
        let result = measure.result(&pass.groups, parts);
        SlotResult { forward: pass.way_there(), ..result }
    }
}

impl<'a> Lesson<'a> {
    fn new(teacher: &'a Network, input: &Input) -> Self {
        Self { stages: teacher.stages().collect(), done: 0, x: tch::no_grad(|| teacher.front.forward(input)) }
    }

    fn forward(&mut self) {
        self.x = tch::no_grad(|| self.stages[self.done].forward(&self.x, Phase::Eval));
        self.done += 1;
    }
}
