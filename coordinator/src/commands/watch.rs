//! The thread that watches a run (HANDS): progress, log lines, traces and the run's files, off the leader's path.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::SystemTime,
};

use esta_engine::{palette::Choice, run::Notice, spec::PaletteRule, table::Table};
use esta_telemetry::trace::Context;

use crate::{
    artifacts::{Artifacts, timeline::Happening},
    observer::{self, Observation, Receiver, Sender},
    progress::Progress,
};

/// What a run came to.
pub(super) struct Finished {
    /// What each rule chose.
    pub palettes: Vec<(PaletteRule, Vec<Choice>)>,
    /// The final table.
    pub table: Arc<Table>,
}

/// Watches on a thread of its own until the leader is gone.
pub(super) struct Watch {
    /// Gone after a failure: one clear line, and the run goes on without its files.
    artifacts: Option<Artifacts>,
    /// That failure: whoever reads the exit code has to hear of it too.
    failure: Option<io::Error>,
    progress: Progress,
    finished: Option<Finished>,
}

impl Watch {
    /// Starts the thread; it answers with itself when the other end of the queue is dropped.
    pub fn start(artifacts: Artifacts) -> io::Result<(Sender, JoinHandle<Self>)> {
        let (sender, seen) = observer::channel();
        let progress = Progress::new();
        let watch = Self { artifacts: Some(artifacts), failure: None, progress, finished: None };
        let thread = thread::Builder::new().name("watch".into()).spawn(move || watch.watch(seen))?;
        Ok((sender, thread))
    }

    fn watch(mut self, seen: Receiver) -> Self {
        for observation in seen {
            self.see(observation);
        }
        self
    }

    fn see(&mut self, observation: Observation) {
        match observation {
            Observation::Committed { steps, table, total, elapsed } => {
                for record in steps.iter() {
                    self.progress.step(record, total);
                    self.write(|artifacts| artifacts.step(record, &table, elapsed));
                }
            }
            Observation::Timed(spent) => {
                if let Some(artifacts) = &mut self.artifacts {
                    artifacts.add_time(&spent);
                }
            }
            Observation::Again(step) => tracing::debug!(step = step.0, "a step is given out again"),
            Observation::Samples(samples) => {
                if let Some(artifacts) = &mut self.artifacts {
                    artifacts.set_samples(samples);
                }
            }
            Observation::Notice(notice, context) => {
                // Its lines carry the ids of the generation's trace, where that is kept.
                let span = context.map(|Context { trace, span }| {
                    tracing::info_span!("generation", trace_id = %trace, span_id = %span).entered()
                });
                log(&notice);
                drop(span);
                self.write(|artifacts| artifacts.happened(&Happening::of(SystemTime::now(), &notice)));
            }
            Observation::Finished { palettes, table } => {
                self.progress.finishing();
                self.write(|artifacts| artifacts.happened(&Happening::finished(SystemTime::now())));
                self.write(|artifacts| artifacts.finish(&palettes, &table));
                self.finished = Some(Finished { palettes, table });
            }
            // Files with a gap would stay so. The next start finds where these end, and fills in the rest from the record.
            Observation::Missed => {
                self.write(|_| Err(io::Error::other("the run's folder is too slow to keep up with")))
            }
        }
    }

    /// After the run: writes what only its evaluation could tell, and answers what was chosen, if anything.
    ///
    /// # Errors
    /// The failure for which the files of the run are not complete.
    pub fn conclude(mut self) -> io::Result<Option<Finished>> {
        let finished = self.finished.take();
        if let Some(Finished { palettes, table }) = &finished {
            self.write(|artifacts| {
                artifacts.finish(palettes, table)?;
                artifacts.happened(&Happening::written(SystemTime::now()))
            });
        }
        self.failure.map_or(Ok(finished), Err)
    }

    fn write(&mut self, write: impl FnOnce(&mut Artifacts) -> io::Result<()>) {
        let Some(artifacts) = &mut self.artifacts else { return };
        if let Err(error) = write(artifacts) {
            let reason = error.to_string();
            tracing::error!(error = reason, "metrics and draws are no longer written; the run and its record go on");
            (self.artifacts, self.failure) = (None, Some(error));
        }
    }
}

fn log(notice: &Notice) {
    match notice {
        Notice::Formed(generation, workers) => {
            tracing::info!(generation = generation.0, workers = workers.join(" "), "a generation forms");
        }
        Notice::Preparing(generation, workers) => {
            tracing::info!(
                generation = generation.0,
                workers = workers.join(" "),
                "the group of a generation to come is being built"
            );
        }
        Notice::Forgone(generation, reason) => {
            tracing::info!(generation = generation.0, reason, "a generation will not come");
        }
        Notice::Ended(generation, reason) => {
            tracing::info!(generation = generation.0, reason, "a generation is over");
        }
        Notice::ForeignReport(session, step) => {
            tracing::warn!(session = session.0, step = step.0, "a report belongs to no plan of this run");
        }
        Notice::RedoDiffers(step) => {
            tracing::warn!(step = step.0, "a step done again gave other numbers; the record stands");
        }
        Notice::Skipped(step) => {
            tracing::warn!(step = step.0, "a step had a gradient that is not finite and is skipped");
        }
        Notice::TurnedAway(worker, reason) => tracing::warn!(worker, reason, "a worker is turned away"),
        Notice::Evicted(worker, reason) => tracing::warn!(worker, reason, "a worker is lost"),
        Notice::Straggler(worker, times) => tracing::warn!(worker, times, "a worker is slower than its peers"),
        Notice::Gone(worker) => tracing::info!(worker, "a worker's session ended"),
        Notice::KeepsUp(worker) => tracing::info!(worker, "a worker keeps up again"),
        Notice::Resumed(generation) => {
            tracing::info!(generation = generation.0, "the generation on record still stands and goes on");
        }
        Notice::Stranded(step) => {
            tracing::error!(
                step = step.0,
                "no worker that is here holds a state or a checkpoint of at least this many applied steps; waiting for one"
            );
        }
        Notice::Failed(reason) => tracing::error!(reason, "the run cannot go on"),
    }
}
