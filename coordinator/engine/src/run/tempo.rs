//! How fast a rank is (LAW): the time of its slots over what they are known to cost, so that the holder of the largest
//! stitch is not blamed. What comes out decides who is flagged and who gets how many slots; it reaches no number of the
//! run (RD-4), and it is not recorded.

use std::{collections::VecDeque, time::Duration};

/// Steps that are remembered: a rank that turns slow is flagged within as many.
const STEPS: usize = 5;
/// Steps that say something.
const ENOUGH: usize = 3;
/// Steps without work after which an old tempo is forgotten: a rank that recovered unseen gets another trial.
const STALE: u32 = 50;
/// Median absolute deviations (as standard deviations of a normal distribution) beyond the median that are no chance.
const DEVIATIONS: f64 = 4.0;
const MAD_TO_SIGMA: f64 = 1.4826;
/// A rank this much slower than the median is slow, however alike the others are.
const SLOWER: f64 = 0.5;
/// A flagged rank keeps up when it is this much less slow than it takes to be flagged,
const RELIEF: f64 = 0.7;
/// and its flag falls once it has for this long: an operator is told once of a rank that is slow now and then.
const KEPT_UP: Duration = Duration::from_secs(30);

/// The tempo of one rank: time taken over time expected of its last steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tempo {
    ratios: VecDeque<f64>,
    idle: u32,
    /// When it was slow last, while it is flagged.
    slow: Option<Duration>,
}

impl Tempo {
    /// Takes in a step's slots: what they took and what was expected; nothing is expected before enough was seen.
    pub fn hear(&mut self, took: Duration, expected: Option<Duration>) {
        let Some(expected) = expected.filter(|expected| !expected.is_zero() && !took.is_zero()) else {
            self.idle = self.idle.saturating_add(1);
            if self.idle > STALE {
                self.ratios.clear();
            }
            return;
        };
        self.idle = 0;
        self.ratios.push_back(took.as_secs_f64() / expected.as_secs_f64());
        if self.ratios.len() > STEPS {
            self.ratios.pop_front();
        }
    }

    /// Whether it is slow, and its operator knows.
    #[must_use]
    pub fn is_flagged(&self) -> bool {
        self.slow.is_some()
    }

    /// Compares it with what is normal by now. Something changes if it is to be flagged, with how many times the median it
    /// takes, or if its flag falls.
    pub fn compare(&mut self, normal: &Normal, now: Duration) -> Option<Change> {
        let ratio = self.ratio()?;
        match (normal.flags(ratio, self.is_flagged()), self.slow) {
            (true, before) => {
                self.slow = Some(now);
                before.is_none().then_some(Change::Slow(ratio / normal.median))
            }
            (false, Some(slow)) if now.saturating_sub(slow) >= KEPT_UP => {
                self.slow = None;
                Some(Change::KeepsUp)
            }
            (false, _) => None,
        }
    }

    /// The median ratio of its last steps, once there are enough of them.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.ratios.len() >= ENOUGH).then(|| lower_median(self.ratios.iter().copied().collect())).flatten()
    }
}

/// What an operator is told of a rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// It takes this many times the median.
    Slow(f64),
    /// It keeps up again.
    KeepsUp,
}

/// What is normal in a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normal {
    /// Median ratio.
    pub median: f64,
    /// The ratio beyond which a rank is slow.
    pub limit: f64,
}

impl Normal {
    /// What is normal among ranks of these ratios; `None` of a single rank, which is slower than nobody.
    #[must_use]
    pub fn of(ratios: Vec<f64>) -> Option<Self> {
        if ratios.len() < 2 {
            return None;
        }
        let median = lower_median(ratios.clone())?;
        let deviation = lower_median(ratios.into_iter().map(|ratio| (ratio - median).abs()).collect())?;
        let beyond = (DEVIATIONS * MAD_TO_SIGMA * deviation).max(SLOWER * median);
        Some(Self { median, limit: median + beyond })
    }

    /// Whether a rank that is or is not flagged should be.
    #[must_use]
    pub fn flags(&self, ratio: f64, flagged: bool) -> bool {
        let limit = if flagged { self.median + RELIEF * (self.limit - self.median) } else { self.limit };
        ratio > limit
    }
}

/// Of an even number the lower of the two in the middle: of two ranks the faster one is the norm.
fn lower_median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    let (_, median, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*median)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rank_that_turns_slow_is_seen_within_5_steps_and_one_hiccup_is_not() {
        let mut tempo = Tempo::default();
        (0..20).for_each(|_| tempo.hear(SECOND, Some(SECOND)));
        tempo.hear(9 * SECOND, Some(SECOND));
        assert_eq!(tempo.ratio(), Some(1.0));
        (0..2).for_each(|_| tempo.hear(2 * SECOND, Some(SECOND)));
        assert_eq!(tempo.ratio(), Some(2.0));
    }

    #[test]
    fn the_holder_of_the_largest_stitch_is_not_slow() {
        let mut tempo = Tempo::default();
        (0..5).for_each(|step| tempo.hear(step % 2 * 9 * SECOND + SECOND, Some(step % 2 * 9 * SECOND + SECOND)));
        assert_eq!(tempo.ratio(), Some(1.0));
    }

    #[test]
    fn of_two_ranks_the_slower_one_is_flagged_and_the_flag_falls_when_it_keeps_up() {
        let normal = Normal::of(vec![5.0, 1.0]).expect("two ranks");
        assert!(normal.flags(5.0, false) && !normal.flags(1.0, false));
        assert!(normal.flags(1.4, true) && !normal.flags(1.4, false) && !normal.flags(1.3, true));
        assert_eq!(Normal::of(vec![5.0]), None, "nobody is slow alone");
    }

    #[test]
    fn a_rank_that_is_slow_now_and_then_is_told_of_once() {
        let normal = Normal::of(vec![1.0, 1.0]).expect("two ranks");
        let (mut tempo, mut told) = (Tempo::default(), Vec::new());
        // Five steps slow, five not, a second each; then it keeps up.
        let slow = |step: u32| step < 100 && (step / 5).is_multiple_of(2);
        for step in 0..160 {
            tempo.hear(if slow(step) { 2 * SECOND } else { SECOND }, Some(SECOND));
            told.extend(tempo.compare(&normal, step * SECOND).map(|change| (step, change)));
        }
        // Its last slow step that the median of five shows is 96.
        assert_eq!(told, [(2, Change::Slow(2.0)), (126, Change::KeepsUp)]);
        assert!(!tempo.is_flagged());
    }

    #[test]
    fn ranks_that_differ_a_lot_among_themselves_flag_nobody_who_is_among_them() {
        let normal = Normal::of(vec![0.6, 0.8, 1.0, 1.3, 1.6, 1.9]).expect("ranks");
        assert!(!normal.flags(1.9, false) && normal.flags(4.0, false));
    }

    #[test]
    fn a_tempo_is_forgotten_when_a_rank_had_nothing_to_do_for_long() {
        let mut tempo = Tempo::default();
        (0..5).for_each(|_| tempo.hear(5 * SECOND, Some(SECOND)));
        (0..=STALE).for_each(|_| tempo.hear(Duration::ZERO, Some(Duration::ZERO)));
        assert_eq!(tempo.ratio(), None);
    }
}
