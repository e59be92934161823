//! A worker process: its law, its trainer, its connection.

use std::{sync::Arc, time::Duration};

use esta_engine::law::Law;
use esta_proto::Step;
use esta_worker_engine::{Identity, Session};

use crate::{job::SAMPLES, network::Process, trainer::Trainer};

/// A machine that runs a worker, one process after another.
#[derive(Debug)]
pub struct Worker {
    /// Its name, the same for every process.
    pub name: String,
    /// The process of the moment.
    pub process: Process,
    /// Whether it runs.
    pub alive: bool,
    /// It is stopped until then: whatever reaches it waits.
    pub paused_until: Duration,
    /// It was asked to leave.
    pub leaving: bool,
    /// The law.
    pub law: Session,
    /// The trainer.
    pub trainer: Trainer,
    /// Its connection.
    pub line: Option<u64>,
    /// It has heard something there.
    pub heard: bool,
    /// Attempts to have one: it tries one coordinator after another.
    pub tries: u64,
    /// What it and coordinators say to each other takes long until then.
    pub slow_until: Duration,
    /// How many times as long as others it takes.
    pub slowness: u32,
}

impl Worker {
    /// A machine on which nothing runs.
    pub fn new(index: usize, law: &Law) -> Self {
        let name = format!("w{index}");
        let session = session(&name, 0, law, &[]);
        Self {
            process: Process { index, life: 0 },
            alive: false,
            paused_until: Duration::ZERO,
            leaving: false,
            law: session,
            trainer: Trainer::default(),
            line: None,
            heard: false,
            tries: index as u64,
            slow_until: Duration::ZERO,
            slowness: 1,
            name,
        }
    }

    /// Starts the next process, which finds these checkpoints.
    pub fn start(&mut self, law: &Arc<Law>, checkpoints: &[Step]) {
        self.process.life += 1;
        (self.alive, self.leaving) = (true, false);
        self.law = session(&self.name, self.process.life, law, checkpoints);
        self.trainer = Trainer::default();
        self.line = None;
    }

    /// Whether this process is the one that runs.
    pub fn runs(&self, process: Process) -> bool {
        self.alive && self.process == process
    }
}

fn session(name: &str, incarnation: u64, law: &Law, checkpoints: &[Step]) -> Session {
    let identity = Identity { name: name.to_owned(), incarnation, layout_digest: law.layout_digest, samples: SAMPLES };
    Session::new(identity, law.spec.train.save_steps, checkpoints.iter().copied())
}
