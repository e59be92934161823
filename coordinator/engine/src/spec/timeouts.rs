//! How long a run's parts may be silent or busy before something is done about it. No number of a run depends on it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SpecError;

/// One table of time-outs, in seconds, each longer than the one before it: a silent worker is noticed before its peers
/// lose patience with their collective, and a collective ends before whoever drains gives up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutSpec {
    /// Every so often a worker says what its trainer is doing.
    pub heartbeat: f64,
    /// A worker that says nothing for this long is lost; it may come back.
    pub keepalive: f64,
    /// A trainer may take this long for one slot, one batch or one update; ten times what the slot is known to cost where
    /// that is more. After that its process is stopped.
    pub phase: f64,
    /// A process group may take this long to form, and a collective to finish. A trainer that is at a group for three times as long,
    /// or at a checkpoint for ten times, while others wait for it, has its process stopped.
    pub collective: f64,
    /// A worker that was asked to leave may take this long.
    pub drain: f64,
    /// A new leader waits this long for the workers of the generation it found on record.
    pub resume: f64,
    /// Where several coordinators stand by: the leader renews its lease this often.
    pub renew: f64,
    /// A leader that could not renew its lease for this long stops serving: nobody else leads yet.
    pub fence: f64,
    /// A lease that was not renewed for this long is over, in whole seconds, and another coordinator leads.
    pub lease: f64,
    /// A worker that has lost its coordinator looks for one for this long.
    pub reconnect: f64,
}

impl Default for TimeoutSpec {
    fn default() -> Self {
        Self {
            heartbeat: 0.4,
            keepalive: 1.5,
            phase: 60.0,
            collective: 120.0,
            drain: 300.0,
            resume: 5.0,
            renew: 0.4,
            fence: 1.4,
            lease: 2.0,
            reconnect: 60.0,
        }
    }
}

/// Heartbeats that must fit into the time after which a silent worker is lost.
const BEATS: f64 = 3.0;
/// Renewals that must fit into the time after which a leader stops serving: one may be lost.
const RENEWALS: f64 = 2.0;

impl TimeoutSpec {
    /// Whether every value is the default's: such a section is not written out.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn validate(&self) -> Result<(), SpecError> {
        let workers = [
            ("heartbeat", self.heartbeat),
            ("keepalive", self.keepalive),
            ("phase", self.phase),
            ("collective", self.collective),
            ("drain", self.drain),
        ];
        let leaders =
            [("renew", self.renew), ("fence", self.fence), ("lease", self.lease), ("reconnect", self.reconnect)];
        for (key, seconds) in workers.into_iter().chain(leaders).chain([("resume", self.resume)]) {
            if !(seconds.is_finite() && (0.01..=1e6).contains(&seconds)) {
                return Err(flaw(key, format!("{seconds} is not between 0.01 and 1000000 seconds")));
            }
        }
        for pair in workers.windows(2).chain(leaders.windows(2)) {
            let [(earlier, short), (later, long)] = [pair[0], pair[1]];
            if short >= long {
                let why =
                    format!("{long} s is not longer than timeouts.{earlier} of {short} s, which has to come first");
                return Err(flaw(later, why));
            }
        }
        if self.heartbeat * BEATS > self.keepalive {
            let why = format!("{} s leaves no room for {BEATS} heartbeats of {} s", self.keepalive, self.heartbeat);
            return Err(flaw("keepalive", why));
        }
        if self.renew * RENEWALS > self.fence {
            let why = format!("{} s leaves no room for {RENEWALS} renewals of {} s", self.fence, self.renew);
            return Err(flaw("fence", why));
        }
        if self.lease.fract() != 0.0 {
            return Err(flaw("lease", format!("{} s is no whole number of seconds", self.lease)));
        }
        Ok(())
    }
}

/// Seconds of a validated table as a duration.
#[must_use]
pub fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or(Duration::MAX)
}

fn flaw(key: &str, flaw: String) -> SpecError {
    SpecError::new(format!("timeouts.{key}"), flaw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: impl FnOnce(&mut TimeoutSpec)) -> String {
        let mut timeouts = TimeoutSpec::default();
        change(&mut timeouts);
        timeouts.validate().expect_err("they contradict each other").to_string()
    }

    #[test]
    fn the_defaults_agree_with_each_other() {
        assert_eq!(TimeoutSpec::default().validate(), Ok(()));
    }

    #[test]
    fn contradictions_name_both_values() {
        let expected = "timeouts.collective: 30 s is not longer than timeouts.phase of 60 s, which has to come first";
        assert_eq!(said(|timeouts| timeouts.collective = 30.0), expected);
        let expected = "timeouts.keepalive: 1 s leaves no room for 3 heartbeats of 0.4 s";
        assert_eq!(said(|timeouts| timeouts.keepalive = 1.0), expected);
        let expected = "timeouts.lease: 1 s is not longer than timeouts.fence of 1.4 s, which has to come first";
        assert_eq!(said(|t| t.lease = 1.0), expected);
        assert_eq!(said(|t| t.renew = 1.0), "timeouts.fence: 1.4 s leaves no room for 2 renewals of 1 s");
        assert_eq!(said(|t| t.lease = 2.5), "timeouts.lease: 2.5 s is no whole number of seconds");
        assert_eq!(said(|t| t.resume = 0.0), "timeouts.resume: 0 is not between 0.01 and 1000000 seconds");
        assert!(said(|t| t.drain = f64::NAN).starts_with("timeouts.drain: NaN is not between"));
    }
}
