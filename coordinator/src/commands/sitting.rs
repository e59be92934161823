//! One sitting of a run (HANDS), as `serve` and `run` share it: open the record, lead, watch, conclude.

use std::{
    future::pending,
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, SystemTime},
};

use esta_client::Leash;
use esta_engine::{
    law::Law,
    palette::{Choice, of_every_rule},
    run::{Ledger, Patience},
    spec::PaletteRule,
};
use esta_objects::RunPlace;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    outcome::palette_table,
    say,
    watch::{Finished, Watch},
};
use crate::{
    archive::{self, Archivist},
    artifacts::{Artifacts, History, timeline::Happening},
    coordinator::{Front, Office, Opened, StartError},
    failure::Failure,
    http::TermName,
    leader::Ending,
    observer::Observers,
    report,
    rpc::Retired,
};

/// How long a run waits for company after its first worker came.
const GRACE: Duration = Duration::from_secs(60);

/// A run that is being led by this process.
pub(super) struct Sitting {
    pub office: Office,
    pub papers: Papers,
}

/// What is written of a run in a sitting.
pub(super) struct Papers {
    law: Arc<Law>,
    place: RunPlace,
    archivist: Option<Archivist>,
    run_id: String,
    watch: JoinHandle<Watch>,
}

impl Sitting {
    /// Begins to lead a job for a term; the first generation waits for this many workers.
    pub fn begin(law: Arc<Law>, front: &Front, opened: Opened, workers: u32) -> Result<Self, Failure> {
        let place = RunPlace::of(&law.spec.run_dir(), &law.spec.name)?;
        archive::bring_files(&place)?;
        archive::forget_report(&place)?;
        let (run_id, epoch, step) = (opened.meta().run_id.clone(), opened.meta().epoch, opened.resume_from());
        let mut artifacts = artifacts(&law, &place.folder, &opened)?;
        let failed = |source| Failure::Artifacts { run_dir: place.folder.clone(), source };
        artifacts.happened(&Happening::leads(SystemTime::now(), epoch, step)).map_err(failed)?;
        let history = artifacts.history().map_err(failed)?;
        let no_thread = |error| Failure::Other(format!("cannot start a thread: {error}"));
        let (observer, watch) = Watch::start(artifacts).map_err(no_thread)?;
        let archivist = Archivist::begin(&place).map_err(no_thread)?;
        let name = TermName { run_id: run_id.clone(), run_dir: place.shown() };
        let board = front.board().begin(name, opened.recovered().samples, history).map_err(no_thread)?;
        let patience = Patience { workers, grace: GRACE };
        let office = Office::begin(front, opened, patience, Observers::new(vec![observer, board]))?;
        tracing::info!(
            run = run_id,
            address = front.address().to_string(),
            folder = place.shown().display().to_string(),
            stitches = law.catalog.stitches().count(),
            budgets = law.catalog.bins().len(),
            epoch = epoch.0,
            from_step = step.0,
            "leading"
        );
        Ok(Self { office, papers: Papers { law, place, archivist, run_id, watch } })
    }

    /// Interrupts the run.
    pub fn stop(&self) {
        self.office.stop();
    }

    /// Waits until the run ends.
    pub async fn ended(&mut self) -> Ending {
        self.office.ended().await
    }
}

impl Papers {
    /// Closes what this term wrote: another coordinator goes on.
    pub fn set_aside(self) -> Result<(), Failure> {
        self.watch.join().map_err(|_| Failure::Other("the watching thread broke".into()))?;
        // Whoever leads next writes the run's files: what this one has of them is not sent over theirs.
        Ok(())
    }

    /// Writes what remains and prints the palette; an ending that is no completion is a failure. Whoever still asks the front is
    /// told how the run ended. Takes as long as the files do: not for a thread that others need.
    pub fn conclude(self, ending: Ending, front: &Front) -> Result<(), Failure> {
        let watch = self.watch.join().map_err(|_| Failure::Other("the watching thread broke".into()))?;
        let brought = match &ending {
            Ending::Complete => archive::bring_evaluation(&self.place),
            _ => Ok(()),
        };
        let finished = watch.conclude();
        // Whoever goes on after a stop may lead already, and has files of its own to send.
        let archivist = self.archivist.filter(|_| !matches!(ending, Ending::Stopped));
        if let Err(failure) = ending.into_result() {
            front.board().fail(&failure.line());
            if let Some(Err(error)) = archivist.map(Archivist::end) {
                tracing::warn!(error = archive::line(&error), "the run's files are not all in object storage");
            }
            return Err(failure);
        }
        brought?;
        let finished = finished.map_err(|source| Failure::Artifacts { run_dir: self.place.folder.clone(), source })?;
        let Some(Finished { palettes, table }) = finished else {
            return Err(Failure::Other("the run ended without a word of what it chose".to_owned()));
        };
        say(&palette_table(&self.law, &palettes, &self.place))?;
        let page = report::write(&self.place.folder)?;
        archivist.map_or(Ok(()), Archivist::end_with_report)?;
        let shown = self.place.shown().join(page.file_name().unwrap_or_default());
        front.retire(Retired { run_id: self.run_id, law: self.law, table, place: self.place, written: true });
        say(&format!("report: {}", shown.display()))
    }
}

/// Answers for a run that is on record as complete: nobody leads it again. Brings its files, and writes what whoever led it was lost
/// before: not for a thread that others need.
pub(super) fn answer_for(law: &Arc<Law>, opened: &Opened, front: &Front) -> Result<Outcome, Failure> {
    let recovered = opened.recovered().clone();
    let total = recovered.samples.map_or(0, |samples| law.total_steps(samples));
    let ledger = Ledger::resume(law.clone(), total, recovered.snapshot, recovered.steps).map_err(StartError::Replay)?;
    let place = RunPlace::of(&law.spec.run_dir(), &law.spec.name)?;
    let (run_id, table) = (opened.meta().run_id.clone(), Arc::new(ledger.table().clone()));
    let retired = |written| {
        let (run_id, law, table, place) = (run_id.clone(), law.clone(), table.clone(), place.clone());
        Retired { run_id, law, table, place, written }
    };
    front.service().retire(retired(false));
    let is_kept = archive::bring_outcome(&place)?;
    archive::bring_evaluation(&place)?;
    let failed = |source| Failure::Artifacts { run_dir: place.folder.clone(), source };
    if !History::read(&place.folder).map_err(failed)?.is_written() || !place.folder.join(report::FILE).is_file() {
        let mut artifacts = artifacts(law, &place.folder, opened)?;
        artifacts.finish(&of_every_rule(&law.catalog, &table), &table).map_err(failed)?;
        artifacts.happened(&Happening::written(SystemTime::now())).map_err(failed)?;
        report::write(&place.folder)?;
    }
    if !is_kept && let Some(archivist) = Archivist::begin(&place).map_err(StartError::Thread)? {
        archivist.end_with_report()?;
    }
    front.retire(retired(true));
    Ok(Outcome { palettes: of_every_rule(&law.catalog, &table), place })
}

/// What a complete run came to.
pub(super) struct Outcome {
    palettes: Vec<(PaletteRule, Vec<Choice>)>,
    place: RunPlace,
}

impl Outcome {
    /// Prints what it printed when it was complete.
    pub fn show(&self, law: &Law) -> Result<(), Failure> {
        say(&palette_table(law, &self.palettes, &self.place))?;
        say(&format!("report: {}", self.place.shown().join(report::FILE).display()))
    }
}

fn artifacts(law: &Law, run_dir: &Path, opened: &Opened) -> Result<Artifacts, Failure> {
    let failed = |source| Failure::Artifacts { run_dir: run_dir.to_owned(), source };
    let mut artifacts = Artifacts::open(run_dir, law, opened.meta().epoch, opened.resume_from()).map_err(failed)?;
    if let Some(samples) = opened.recovered().samples {
        artifacts.set_samples(samples);
    }
    let missing = opened.steps(artifacts.missing_from()..opened.resume_from())?;
    artifacts.backfill(&missing).map_err(failed)?;
    Ok(artifacts)
}

/// Requests that the process end: from the keyboard, from an orchestrator, or by a parent that lets go.
pub(super) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    leash: Option<Leash>,
}

impl Interrupts {
    /// Listens from here on: before anything is begun that must be ended in order.
    pub fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::Other(format!("cannot listen for signals: {error}")));
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, leash: None })
    }

    /// Takes the end of standard input for a request too.
    pub fn on_leash(self) -> Result<Self, Failure> {
        let leash = Leash::hold().map_err(|error| Failure::Other(format!("cannot start a thread: {error}")))?;
        Ok(Self { leash: Some(leash), ..self })
    }

    /// Waits for the next request.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = let_go(&mut self.leash) => {}
        }
    }
}

async fn let_go(leash: &mut Option<Leash>) {
    match leash {
        Some(leash) => leash.is_let_go().await,
        None => pending().await,
    }
}
