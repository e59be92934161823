//! Who leads: leases of the store, renewed and waited for by clocks that need not be right.

use std::time::Duration;

use esta_engine::{
    run::{Patience, Recovered, Run},
    spec::seconds,
};
use esta_proto::LeaderEpoch;

use super::{Happening, Sim};
use crate::{clock::Pace, coordinator::Office, invariants::Violation, network::Process};

/// Between two attempts to lead.
const LOOK: Duration = Duration::from_millis(700);

impl Sim {
    fn lease(&self) -> Duration {
        seconds(self.law.spec.timeouts.lease)
    }

    pub(super) fn lives(&self, process: Process) -> bool {
        let coordinator = &self.coordinators[process.index];
        coordinator.alive && coordinator.process == process
    }

    fn shows(&self, process: Process) -> Duration {
        self.coordinators[process.index].clock.shows(self.clock.now())
    }

    /// The moment at which a coordinator's own clock will have run on by this much.
    pub(super) fn later(&self, process: Process, by: Duration) -> Duration {
        let clock = &self.coordinators[process.index].clock;
        clock.moment(clock.shows(self.clock.now()) + by)
    }

    pub(super) fn campaign(&mut self, process: Process) -> Result<(), Violation> {
        if !self.lives(process) {
            return Ok(());
        }
        if self.coordinators[process.index].office.is_none() {
            if !self.leased() {
                let (epoch, recovered) = self.store.begin_term();
                return self.granted(process, None, epoch, recovered);
            }
            let (sent, way) = (self.shows(process), self.way_to_store(process));
            self.clock.after(way, Happening::Asked(process, sent));
        }
        self.clock.at(self.later(process, LOOK), Happening::Campaign(process));
        Ok(())
    }

    pub(super) fn asked(&mut self, process: Process, sent: Duration) {
        if !self.reaches_store(process) {
            return;
        }
        let (now, lease, delay) = (self.clock.now(), self.lease(), self.delay());
        let granted = self.store.grant(process, now, lease);
        // A lease that nobody hears of runs out.
        if let Some((epoch, recovered)) = granted.filter(|_| self.is_answered(process)) {
            self.clock.after(delay, Happening::Granted(process, sent, epoch, Box::new(recovered)));
        }
    }

    /// A term begins, with a lease that was asked for when the coordinator's clock showed `sent`, or without one.
    pub(super) fn granted(
        &mut self,
        process: Process,
        sent: Option<Duration>,
        epoch: LeaderEpoch,
        recovered: Recovered,
    ) -> Result<(), Violation> {
        // One that leads by now does not look for an earlier answer.
        if !self.lives(process) || self.coordinators[process.index].office.is_some() {
            return Ok(());
        }
        let patience = Patience { workers: self.weather.workers as u32, grace: Duration::from_secs(10) };
        let run = Run::new(self.law.clone(), epoch, patience, recovered)
            .map_err(|error| Violation::new("SC-2", format!("the record cannot be continued: {error}")))?;
        let since = self.shows(process);
        let mut office = Office::new(run, epoch, since, sent, self.store.written());
        office.sound = self.coordinators[process.index].clock.pace() != Pace::Slow;
        self.coordinators[process.index].office = Some(office);
        if sent.is_some() {
            self.clock.after(Duration::ZERO, Happening::Renew(process, epoch));
            self.clock.after(Duration::ZERO, Happening::Expiry(process, epoch));
        }
        self.settle(process)
    }

    fn serves(&self, process: Process, epoch: LeaderEpoch) -> bool {
        let office = self.coordinators[process.index].office.as_ref();
        self.lives(process) && office.is_some_and(|office| office.epoch == epoch)
    }

    pub(super) fn renew(&mut self, process: Process, epoch: LeaderEpoch) {
        if !self.serves(process, epoch) {
            return;
        }
        let (sent, way) = (self.shows(process), self.way_to_store(process));
        self.clock.after(way, Happening::RenewalAsked(process, epoch, sent));
        let pause = seconds(self.law.spec.timeouts.renew);
        self.clock.at(self.later(process, pause), Happening::Renew(process, epoch));
    }

    pub(super) fn renewal_asked(&mut self, process: Process, epoch: LeaderEpoch, sent: Duration) {
        let (now, lease, delay) = (self.clock.now(), self.lease(), self.delay());
        if self.reaches_store(process) && self.store.renew(process, now, lease) && self.is_answered(process) {
            self.clock.after(delay, Happening::Renewed(process, epoch, sent));
        }
    }

    pub(super) fn renewed(&mut self, process: Process, epoch: LeaderEpoch, sent: Duration) {
        if !self.serves(process, epoch) || !self.reaches_store(process) {
            return;
        }
        let sound = self.coordinators[process.index].clock.pace() != Pace::Slow;
        if let Some(office) = &mut self.coordinators[process.index].office {
            (office.renewed, office.sound) = (office.renewed.max(Some(sent)), sound);
        }
    }

    /// When a leader stops serving, by its own clock, if nothing is heard of its lease before.
    fn expires(&self, process: Process) -> Option<Duration> {
        let office = self.coordinators[process.index].office.as_ref()?;
        Some(office.renewed? + seconds(self.law.spec.timeouts.fence))
    }

    pub(super) fn is_expired(&self, process: Process) -> bool {
        self.expires(process).is_some_and(|expires| expires <= self.shows(process))
    }

    pub(super) fn expire(&mut self, process: Process, epoch: LeaderEpoch) -> Result<(), Violation> {
        if !self.serves(process, epoch) {
            return Ok(());
        }
        if self.is_expired(process) {
            return self.falls(process.index, Duration::from_millis(300));
        }
        if let Some(expires) = self.expires(process) {
            let moment = self.coordinators[process.index].clock.moment(expires);
            self.clock.at(moment, Happening::Expiry(process, epoch));
        }
        Ok(())
    }

    /// A coordinator's clock was meddled with: what it waits for comes at another moment.
    pub(super) fn wakes(&mut self, index: usize) -> Result<(), Violation> {
        let process = self.coordinators[index].process;
        let Some(office) = self.coordinators[index].office.as_mut() else { return Ok(()) };
        (office.tick, office.ticked) = (None, None);
        let epoch = office.epoch;
        self.clock.after(Duration::ZERO, Happening::Expiry(process, epoch));
        self.settle(process)
    }
}
