//! Worker processes: connections, and carrying out what the law of a worker decides.

use std::time::Duration;

use esta_engine::run::{Event as RunEvent, Message, exit};
use esta_proto::Fence;
use esta_worker_engine::{Command, Event, Reply};
use rand::RngExt;

use super::{Happening, Sim};
use crate::{
    invariants::{Violation, mb_1},
    network::{Process, Way},
};

impl Sim {
    pub(super) fn start_worker(&mut self, index: usize) {
        let checkpoints: Vec<_> = self.disk.keys().copied().collect();
        let worker = &mut self.workers[index];
        if worker.alive {
            return;
        }
        worker.start(&self.law, &checkpoints);
        let process = worker.process;
        let attempt = worker.tries;
        self.clock.after(self.weather.times.load, Happening::Connect(process, attempt));
        self.clock.after(self.weather.times.beat, Happening::Beat(process));
    }

    /// Whether this process is the one that runs.
    pub(super) fn runs(&self, process: Process) -> bool {
        self.workers[process.index].runs(process)
    }

    /// Gives an event to the law of a worker and carries out what it answers.
    pub(super) fn advise(&mut self, process: Process, event: Event) -> Result<(), Violation> {
        if !self.runs(process) {
            return Ok(());
        }
        let commands = self.workers[process.index].law.handle(event);
        self.obey(process, commands)
    }

    fn obey(&mut self, process: Process, commands: Vec<Command>) -> Result<(), Violation> {
        for command in commands {
            match command {
                Command::Send(fence, reply) => {
                    if let Some(line) = self.workers[process.index].line {
                        self.post(line, Way::Up, |line| Happening::Up(line, fence, reply));
                    }
                }
                Command::Train(command) => {
                    self.workers[process.index].trainer.queue.push_back(command);
                    self.work(process)?;
                }
                Command::Prepare(fence, seat) => self.prepare(process, fence, seat)?,
                Command::Abandon(generation) => self.abandon(process, generation),
                Command::Exit(_, code) => return self.exit(process, code),
            }
        }
        Ok(())
    }

    pub(super) fn down(&mut self, line: u64, fence: Fence, message: Message) -> Result<(), Violation> {
        let delivered = self.network.delivers(line, Way::Down);
        let Some(process) = self.network.line(line).filter(|_| delivered).map(|line| line.worker) else {
            return Ok(());
        };
        if !self.runs(process) || self.workers[process.index].line != Some(line) {
            return Ok(());
        }
        self.workers[process.index].heard = true;
        let before = self.workers[process.index].law.fence();
        self.advise(process, Event::Received(fence, message))?;
        let worker = &self.workers[process.index];
        if worker.process == process { mb_1(&worker.name, before, worker.law.fence()) } else { Ok(()) }
    }

    pub(super) fn up(&mut self, line: u64, fence: Fence, reply: Reply) -> Result<(), Violation> {
        let delivered = self.network.delivers(line, Way::Up);
        let Some(known) = self.network.line(line).filter(|_| delivered).cloned() else { return Ok(()) };
        let (coordinator, session) = (known.coordinator, known.session);
        let lives = self.coordinators[coordinator.index].process == coordinator;
        let Some(office) = self.coordinators[coordinator.index].office.as_mut().filter(|_| lives) else {
            return Ok(());
        };
        let event = match reply {
            Reply::Hello(hello) => {
                if office.expected.get(&hello.name) != Some(&session) {
                    self.post(line, Way::Down, |line| Happening::Disconnected(known.worker, line));
                    return Ok(());
                }
                office.expected.remove(&hello.name);
                office.sessions.insert(session, line);
                RunEvent::Joined(session, hello)
            }
            // A session that was closed or cut off has nothing more to say.
            _ if !office.sessions.contains_key(&session) => return Ok(()),
            Reply::GroupReady(ready) => RunEvent::GroupReady(session, fence, ready),
            Reply::GroupFailed(reason) => RunEvent::GroupFailed(session, fence, reason),
            Reply::GroupPrepared => RunEvent::GroupPrepared(session, fence),
            Reply::Report(report) => {
                // What was summed with one that lies is nobody's: heard again it would be another story.
                if !self.somebody_differs() {
                    self.heard.push((known.worker, report.clone()));
                }
                RunEvent::Reported(session, report)
            }
            Reply::CheckpointSaved(step) => RunEvent::CheckpointSaved(session, step),
            Reply::FinaleDone(writer) => RunEvent::FinaleDone(session, writer),
            Reply::Heartbeat(progress) => RunEvent::Heard(session, progress),
            Reply::Draining => RunEvent::Draining(session),
            Reply::Leaving(..) => return Ok(()),
        };
        self.tell(coordinator.index, event);
        self.settle(coordinator)
    }

    pub(super) fn beat(&mut self, process: Process) -> Result<(), Violation> {
        if !self.runs(process) {
            return Ok(());
        }
        self.clock.after(self.weather.times.beat, Happening::Beat(process));
        if self.workers[process.index].line.is_none() {
            return Ok(());
        }
        let progress = self.workers[process.index].trainer.progress(self.clock.now());
        self.advise(process, Event::Beat(progress))
    }

    /// A process ended: whoever started it starts another one, unless it is not needed.
    fn exit(&mut self, process: Process, code: i32) -> Result<(), Violation> {
        self.dies(process);
        let pause = Duration::from_millis(100) + self.upto(Duration::from_secs(2));
        match code {
            exit::MISFIT | exit::IDENTITY => {
                return Err(Violation::new("exit", format!("worker {} ended with code {code}", process.index)));
            }
            _ => self.clock.after(pause, Happening::Start(process.index)),
        }
        Ok(())
    }

    /// A worker's process is gone, and its connection with it.
    pub(super) fn dies(&mut self, process: Process) {
        if !self.runs(process) {
            return;
        }
        let worker = &mut self.workers[process.index];
        worker.alive = false;
        worker.paused_until = Duration::ZERO;
        if let Some(line) = worker.line.take() {
            self.ends_at(line, Way::Up);
        }
        for (generation, peer) in self.groups.died(process) {
            self.feels(process, peer, generation);
        }
        self.spoil(process);
    }

    /// A worker that runs, if any.
    pub(super) fn some_worker(&mut self) -> Option<Process> {
        let running: Vec<Process> =
            self.workers.iter().filter(|worker| worker.alive).map(|worker| worker.process).collect();
        if running.is_empty() { None } else { Some(running[self.rng.random_range(0..running.len())]) }
    }
}
