//! The trainer thread's loop (HANDS): takes commands in order, owns every tensor, says what became of them.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use esta_data::{BatchTicket, Prefetcher};
use esta_engine::{
    plan::RankPlan,
    run::{Activity, Finish, Form, Ready, Report, Seat},
    spec::JobSpec,
};
use esta_proto::{Fence, Generation, Step};
use esta_worker_engine::{Reader, TrainerCommand, TrainerEvent};
use tokio::sync::{mpsc::UnboundedSender, oneshot};

use crate::telemetry::{Meters, Part, Traced};

use super::{
    Abandoned, Builder, Doing, Job, Setup, SetupError, State, StateError, TrainerOptions, Work,
    builder::Groups,
    finale,
    group::{Broken, Standing},
    in_one_line,
    keeper::Keeper,
    step::{StepError, Stepper},
};

/// What the thread has from the session.
pub struct Context {
    /// Where and how it trains.
    pub options: TrainerOptions,
    /// Which generations are over.
    pub(super) abandoned: Abandoned,
    /// What the thread is at, for whoever asks.
    pub doing: Doing,
    /// Builds its process groups.
    pub builder: Builder,
    /// The way to the worker's law.
    pub events: UnboundedSender<TrainerEvent>,
}

type Loaded = oneshot::Sender<Result<(Setup, Arc<Prefetcher>), SetupError>>;

/// Loads the job, says what it found, then does what it is told until nobody tells it anything.
pub fn main(spec: JobSpec, context: Context, loaded: Loaded, work: mpsc::Receiver<Work>) {
    let found = Job::load(spec, context.options.device).and_then(|job| Ok((job.family.checkpoints.complete()?, job)));
    let (checkpoints, job) = match found {
        Ok(found) => found,
        Err(error) => return drop(loaded.send(Err(error))),
    };
    // Sums inside kernels depend on the number of threads, so it belongs to the job.
    tch::set_num_threads(job.family.law.spec.train.intra_op_threads.cast_signed());
    let samples = job.train.len();
    let setup = Setup {
        reader: Reader::new(&job.family.law, samples),
        layout_digest: job.family.law.layout_digest,
        samples,
        save_steps: job.family.law.spec.train.save_steps,
        checkpoints,
        planned: job.planned,
    };
    if loaded.send(Ok((setup, job.prefetcher.clone()))).is_err() {
        return;
    }
    let stepper = Stepper::watched(&job, context.doing.clone());
    let keeper = job.family.checkpoints.kept().map(|_| Keeper::start(&job.family.checkpoints, context.events.clone()));
    let mut thread = Thread { job, stepper, context, meters: Meters::new(), keeper, standing: None, state: None };
    let mut idle_since = Instant::now();
    while let Ok(work) = work.recv() {
        thread.carry_out(work, idle_since.elapsed());
        thread.context.doing.begin(Activity::Idle);
        idle_since = Instant::now();
    }
    thread.leave();
}

struct Thread {
    job: Job,
    stepper: Stepper,
    context: Context,
    meters: Meters,
    /// Where object storage keeps the run.
    keeper: Option<Keeper>,
    standing: Option<Standing>,
    state: Option<State>,
}

impl Thread {
    fn carry_out(&mut self, work: Work, waited: Duration) {
        match work.command {
            TrainerCommand::Form(fence, form) => self.form(fence, &form),
            TrainerCommand::Enter(fence, form) => self.enter(fence, &form),
            TrainerCommand::Run(generation, plan) => self.run(generation, &plan, work.batches, (waited, work.part)),
            TrainerCommand::Stage(step) => self.stage(step),
            TrainerCommand::Publish(step) => self.publish(step),
            TrainerCommand::Finale(finish) => self.finale(&finish),
            TrainerCommand::Forget(step) => drop(self.state.take_if(|state| state.applied > step)),
        }
    }

    fn say(&self, event: TrainerEvent) {
        // A session that is gone ends the thread at its next command.
        drop(self.context.events.send(event));
    }

    /// Ends the worker with the exit code of whatever caused this, or `otherwise`.
    fn fail(&self, error: &(dyn std::error::Error + 'static), otherwise: u8) {
        let exit_code = crate::exit::of_chain(error).unwrap_or(otherwise);
        self.say(TrainerEvent::Failed(in_one_line(error), i32::from(exit_code)));
    }

    fn form(&mut self, fence: Fence, form: &Form) {
        self.context.builder.clear();
        if !self.begin_to_form(fence.generation) {
            return;
        }
        let Form { rank, world, .. } = *form;
        match self.context.builder.build(fence, Seat { generation: fence.generation, rank, world }) {
            Ok(groups) => self.stand(groups, fence.generation, form),
            Err(error) => self.broke(fence.generation, &error.into()),
        }
    }

    /// Goes over to a group that was built beside the steps.
    fn enter(&mut self, fence: Fence, form: &Form) {
        let prepared = self.context.builder.take(fence);
        if !self.begin_to_form(fence.generation) {
            return prepared.map_or((), Groups::abandon);
        }
        match prepared {
            Some(groups) => self.stand(groups, fence.generation, form),
            None => self.say(TrainerEvent::Broke(fence.generation, "the group that was prepared is gone".to_owned())),
        }
    }

    /// Leaves the group it stood in; false when the next one is over already.
    fn begin_to_form(&mut self, generation: Generation) -> bool {
        self.leave();
        self.context.doing.begin(Activity::Forming);
        !self.context.abandoned.covers(generation)
    }

    fn stand(&mut self, groups: Groups, generation: Generation, form: &Form) {
        let (abandoned, timeout) = (self.context.abandoned.clone(), self.context.builder.timeout());
        let standing = self.standing.insert(Standing::new(generation, groups, abandoned, timeout));
        match standing.align(form, &self.job, &mut self.state) {
            Ok(applied) => {
                let state = self.state.as_ref();
                let (chain, computed) =
                    (state.map(|state| state.chain), state.and_then(|state| self.stepper.computed(state)));
                self.say(TrainerEvent::Ready(generation, Ready { applied, chain, computed }));
            }
            Err(error) => self.broke(generation, &error),
        }
    }

    fn leave(&mut self) {
        if let Some(standing) = self.standing.take() {
            standing.abandon();
        }
    }

    fn broke(&mut self, generation: Generation, error: &Broken) {
        self.leave();
        match error {
            // What the coordinator heard of this rank is not so any more; the next group is formed from what there is.
            Broken::State(StateError::Forgotten(_) | StateError::Nobody) => {
                self.say(TrainerEvent::Broke(generation, in_one_line(error)));
            }
            Broken::State(error) => self.fail(error, crate::exit::FAILED),
            Broken::Abandoned | Broken::Group(_) | Broken::TimedOut(_) => {
                self.say(TrainerEvent::Broke(generation, in_one_line(error)));
            }
        }
    }

    /// Runs a step whose plan was waited for this long, and tells of it where its trace is kept.
    fn run(
        &mut self,
        generation: Generation,
        plan: &RankPlan,
        batches: Vec<BatchTicket>,
        (waited, part): (Duration, Option<Part>),
    ) {
        let over = self.context.abandoned.covers(generation);
        let (Some(standing), Some(state)) = (&self.standing, &mut self.state) else { return };
        if over || standing.generation != generation || state.applied != plan.step {
            return;
        }
        let traced = part.map(|part| Traced::begin(part, generation, plan, waited));
        let _lines = traced.as_ref().map(|traced| {
            tracing::info_span!("step", step = plan.step.0.cast_signed(), trace_id = traced.trace_id()).entered()
        });
        let done = self.stepper.run(&self.job, standing, state, plan, batches, traced.as_ref());
        if let Some(traced) = traced {
            traced.end(done.as_ref().map(|report| report.timings.slots.len()).map_err(|error| in_one_line(error)));
        }
        match done {
            Ok(mut report) => {
                report.timings.plan = waited;
                log_step(&report);
                self.meters.stepped(&report, self.stepper.reduced_bytes());
                self.say(TrainerEvent::Stepped(report));
            }
            Err(StepError::Broken(error)) => self.broke(generation, &error),
            Err(error @ (StepError::Data { .. } | StepError::Slot { .. })) => self.fail(&error, crate::exit::MISFIT),
        }
    }

    fn stage(&mut self, step: Step) {
        let Some(state) = self.state.as_ref().filter(|state| state.applied == step) else { return };
        self.context.doing.begin(Activity::Writing);
        let written = self.job.family.checkpoints.stage(&state.summary(&self.job), |folder| state.write(folder));
        match written {
            Ok(()) => self.say(TrainerEvent::Staged(step)),
            // A full disk costs a checkpoint, not the run: the next one is tried.
            Err(error) => tracing::error!(step = step.0, error = %in_one_line(&error), "no checkpoint"),
        }
    }

    fn publish(&mut self, step: Step) {
        self.context.doing.begin(Activity::Writing);
        let published = match &self.keeper {
            None => self.job.family.checkpoints.publish(step).map(|()| self.say(TrainerEvent::Published(step))),
            Some(keeper) => self.job.family.checkpoints.name(step).map(|()| keeper.keep(step)),
        };
        if let Err(error) = published {
            tracing::error!(step = step.0, error = %in_one_line(&error), "no checkpoint");
        }
    }

    fn finale(&mut self, finish: &Finish) {
        if !finish.writer {
            return self.say(TrainerEvent::FinaleDone(false));
        }
        let Some(state) = &self.state else { return self.fail(&StateError::Nobody, crate::exit::FAILED) };
        self.context.doing.begin(Activity::Writing);
        // What is on its way to object storage comes first: what follows may drop it.
        self.keeper.iter().for_each(Keeper::settle);
        match finale::write(&self.job, state, finish) {
            Ok(()) => self.say(TrainerEvent::FinaleDone(true)),
            Err(error) => self.fail(&*error, crate::exit::OUTPUT),
        }
    }
}

/// Where a step's time went, in microseconds; `plan_us` is the trainer's wait for its plan, `slots` has the compute time of
/// each slot.
fn log_step(Report { step, timings, .. }: &Report) {
    let us = |time: Duration| time.as_micros() as i64;
    let slots: Vec<(u32, i64)> = timings.slots.iter().map(|(slot, took)| (slot.0, us(*took))).collect();
    tracing::debug!(
        step = step.0.cast_signed(),
        plan_us = us(timings.plan),
        batch_us = us(timings.batch),
        compute_us = us(timings.compute()),
        slots = ?slots,
        reduce_us = us(timings.reduce),
        apply_us = us(timings.apply),
        "step applied"
    );
}
