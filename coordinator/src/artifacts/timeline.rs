//! `timeline.jsonl` (HANDS): what happened to a run, one line each, over all of its leaders.

use std::{
    borrow::Cow,
    fs::File,
    io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use esta_engine::run::Notice;
use esta_proto::{Generation, LeaderEpoch, Step};
use serde::{Deserialize, Serialize};

use super::lines;

/// Workers that are named in one line.
const NAMED: usize = 8;

/// Letters of a sentence at most.
const LETTERS: usize = 500;

/// What the last line of a complete run is called.
pub const WRITTEN: &str = "written";

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Happening {
    /// Milliseconds since 1970.
    pub at: u64,
    /// One word, such as `formed` or `lost`.
    pub kind: Cow<'static, str>,
    /// A sentence.
    pub text: String,
    /// The generation it is about.
    #[serde(default)]
    pub generation: Option<u64>,
}

impl Happening {
    fn new(at: SystemTime, kind: &'static str, text: String) -> Self {
        Self { at: millis(at), kind: kind.into(), text: cut(text), generation: None }
    }

    /// Another coordinator leads from here on.
    #[must_use]
    pub fn leads(at: SystemTime, epoch: LeaderEpoch, from: Step) -> Self {
        Self::new(at, "leads", format!("leader epoch {epoch} begins with step {from}"))
    }

    /// Every step is durable.
    #[must_use]
    pub fn finished(at: SystemTime) -> Self {
        Self::new(at, "finished", "every step is durable; the palette is evaluated and exported".to_owned())
    }

    /// The results are there.
    #[must_use]
    pub fn written(at: SystemTime) -> Self {
        Self::new(at, WRITTEN, "the results are written".to_owned())
    }

    /// Whether nothing follows it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.kind == WRITTEN
    }

    /// What a notice says.
    #[must_use]
    pub fn of(at: SystemTime, notice: &Notice) -> Self {
        let (kind, text, generation) = match notice {
            Notice::Formed(g, workers) => ("formed", format!("generation {g} forms: {}", names(workers)), Some(g)),
            Notice::Preparing(g, workers) => {
                ("preparing", format!("generation {g} is being prepared: {}", names(workers)), Some(g))
            }
            Notice::Forgone(g, reason) => ("forgone", format!("generation {g} will not come: {reason}"), Some(g)),
            Notice::Ended(g, reason) => ("ended", format!("generation {g} is over: {reason}"), Some(g)),
            Notice::ForeignReport(_, step) => ("foreign", format!("a report of step {step} is of no plan"), None),
            Notice::RedoDiffers(step) => ("redo", format!("step {step} done again gave other numbers"), None),
            Notice::Skipped(step) => ("skipped", format!("step {step} had numbers that are not finite"), None),
            Notice::TurnedAway(name, reason) => ("turned-away", format!("{name} is turned away: {reason}"), None),
            Notice::Evicted(name, reason) => ("lost", format!("{name} is lost: {reason}"), None),
            Notice::Gone(name) => ("gone", format!("{name} is gone: its session ended"), None),
            Notice::Straggler(name, times) => {
                ("straggler", format!("{name} takes {times:.1} times as long as its peers"), None)
            }
            Notice::KeepsUp(name) => ("keeps-up", format!("{name} keeps up again"), None),
            Notice::Resumed(g) => ("resumed", format!("generation {g} still stands and goes on"), Some(g)),
            Notice::Stranded(step) => {
                ("stranded", format!("nobody here holds a state of at least {step} steps; waiting for one"), None)
            }
            Notice::Failed(reason) => ("failed", reason.clone(), None),
        };
        let of = |generation: &Generation| generation.0;
        Self { generation: generation.map(of), ..Self::new(at, kind, text) }
    }
}

/// What somebody of elsewhere gives for a reason may be long.
fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(LETTERS) {
        text.truncate(at);
        text.push('…');
    }
    text
}

fn names(workers: &[String]) -> String {
    match workers {
        [] => String::new(),
        few if few.len() <= NAMED => few.join(" "),
        many => format!("{} and {} more", many[..NAMED].join(" "), many.len() - NAMED),
    }
}

/// As pages count time.
pub fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The file, open for appending until the results are written: what happens after that is no part of the run.
#[derive(Debug)]
pub struct Timeline {
    file: File,
    over: bool,
}

impl Timeline {
    /// Opens the run's file; its first leader begins it anew.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(run_dir: &Path, epoch: LeaderEpoch) -> io::Result<Self> {
        let (file, kept) = lines::open(&run_dir.join("timeline.jsonl"), |_: &Happening| epoch > LeaderEpoch(1))?;
        let over = kept.last().is_some_and(Happening::is_last);
        Ok(Self { file, over })
    }

    /// Appends a line, unless the run is over.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, happening: &Happening) -> io::Result<()> {
        if self.over {
            return Ok(());
        }
        lines::append(&mut self.file, happening)?;
        self.over = happening.is_last();
        Ok(())
    }
}
