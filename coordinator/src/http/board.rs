//! What is known of the run for whoever looks (HANDS): gathered off the leader's path from what it lets observers see, and, now
//! and then, from a look inside the run.

mod rate;
mod telling;
mod term;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::SystemTime,
};

use esta_engine::law::Law;
use esta_proto::Step;

use self::term::{End, Term};
pub use self::{telling::View, term::TermName};
use super::state::Inside;
use crate::{
    artifacts::{
        History,
        summary::read_optional,
        timeline::{Happening, WRITTEN},
    },
    observer::{self, Sender},
    rpc::Retired,
    store::Whereabouts,
    telemetry::Meters,
};

/// The board of a process; clones share it.
#[derive(Debug, Clone)]
pub struct Board {
    law: Arc<Law>,
    shown: Arc<Mutex<Shown>>,
}

#[derive(Debug, Default)]
struct Shown {
    leader: Option<Whereabouts>,
    term: Option<Term>,
}

impl Board {
    /// An empty board of a job.
    #[must_use]
    pub fn new(law: Arc<Law>) -> Self {
        Self { law, shown: Arc::default() }
    }

    /// This coordinator stands by; another leads, there where it is known.
    pub fn stand_by(&self, leader: Option<Whereabouts>) {
        let mut shown = self.shown();
        // What a run that ended under this leader came to stays to be seen, unless somebody tries again what failed.
        let goes_on = |term: &Term| match term.over {
            None => true,
            Some(End::Failed(_)) => leader.is_some(),
            Some(End::Complete(_)) => false,
        };
        if shown.term.as_ref().is_none_or(goes_on) {
            *shown = Shown { leader, term: None };
        }
    }

    /// Where the page of the leader is, if that is another coordinator and known.
    pub fn leader_page(&self) -> Option<String> {
        let shown = self.shown();
        shown.leader.as_ref().filter(|_| shown.term.is_none())?.page.clone()
    }

    /// A term begins, of a run with this history: everything it lets observers see is to be sent here.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn begin(&self, name: TermName, samples: Option<u64>, history: History) -> io::Result<Sender> {
        let term = Term::new(&self.law, name, samples, history);
        *self.shown() = Shown { leader: None, term: Some(term) };
        let (sender, seen) = observer::channel();
        let board = self.clone();
        let meters = Meters::new();
        thread::Builder::new().name("board".into()).spawn(move || {
            for observation in seen {
                if let Some(term) = &mut board.shown().term {
                    term.see(&board.law, &meters, observation);
                }
            }
        })?;
        Ok(sender)
    }

    /// Whether a look inside the run has to bring the table: no step was committed since this leader began.
    pub fn lacks_table(&self) -> bool {
        self.shown().term.as_ref().is_some_and(|term| term.table.version() == Step(0))
    }

    /// What a look inside the run found; it may come late.
    pub fn found(&self, inside: Inside) {
        if let Some(term) = self.shown().term.as_mut().filter(|term| term.over.is_none()) {
            term.find(inside);
        }
    }

    /// The results of a run are written, in this term or long ago.
    pub fn retire(&self, run: &Retired) {
        let eval = read_optional(&run.place.folder.join("eval.json")).ok().flatten().map(Box::new);
        let name = TermName { run_id: run.run_id.clone(), run_dir: run.place.shown() };
        let mut shown = self.shown();
        let history = || History::read(&run.place.folder).unwrap_or_default();
        let term = shown.term.get_or_insert_with(|| Term::new(&self.law, name, None, history()));
        let steps = run.table.version().0;
        term.table = run.table.clone();
        // Whoever tried again what had failed here may have got there.
        term.over = Some(End::Complete(eval));
        term.inside =
            Inside { phase: "complete", committed: steps, durable: steps, total: Some(steps), ..term.inside.clone() };
        term.inside.members.clear();
        // One that is answered for long after its end says so already.
        if term.events.iter().all(|happening| happening.kind != WRITTEN) {
            term.tell(Happening::written(SystemTime::now()));
        }
    }

    /// The run ended under this leader and is not complete.
    pub fn fail(&self, reason: &str) {
        if let Some(term) = &mut self.shown().term {
            (term.inside.phase, term.over) = ("failed", Some(End::Failed(reason.to_owned())));
            // Everybody was told to end.
            term.inside.members.clear();
        }
    }

    /// `/api/state`.
    #[must_use]
    pub fn to_json(&self, now: SystemTime) -> String {
        let shown = self.shown();
        serde_json::to_string(&shown.state(&self.law, now)).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// Numbers for gauges.
    pub fn measure<T>(&self, read: impl FnOnce(&Law, Option<View<'_>>) -> T) -> T {
        let shown = self.shown();
        read(&self.law, shown.term.as_ref().map(View::of))
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
