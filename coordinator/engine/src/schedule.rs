//! The learning rate of a step (LAW): linear warm-up, then a cosine or a line down to zero, or flat.

use crate::spec::{LrSchedule, TrainSpec};

/// The learning rate over a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub shape: LrSchedule,
    /// Learning rate at the end of the warm-up.
    pub peak: f64,
    /// Steps of the run.
    pub steps: u64,
    /// Share of the steps spent warming up, rounded up to whole steps as `TrainingArguments` does.
    pub warmup_ratio: f64,
}

impl Schedule {
    /// The schedule of a run of this many steps.
    #[must_use]
    pub fn of(train: &TrainSpec, steps: u64) -> Self {
        Self { shape: train.lr_scheduler_type, peak: train.learning_rate, steps, warmup_ratio: train.warmup_ratio }
    }

    /// The learning rate of a step, 0 being the first. Steps beyond the end stay at the end's rate.
    #[must_use]
    pub fn lr(&self, step: u64) -> f64 {
        let warmup = self.warmup();
        if step < warmup {
            return self.peak * (step + 1) as f64 / warmup as f64;
        }
        let left = self.steps.saturating_sub(warmup).max(1);
        let progress = ((step - warmup) as f64 / left as f64).min(1.0);
        self.peak
            * match self.shape {
                LrSchedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
                LrSchedule::Linear => 1.0 - progress,
                LrSchedule::Constant => 1.0,
            }
    }

    /// Steps of the warm-up.
    #[must_use]
    pub fn warmup(&self) -> u64 {
        (self.steps as f64 * self.warmup_ratio).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(shape: LrSchedule) -> Schedule {
        Schedule { shape, peak: 2.0, steps: 110, warmup_ratio: 10.0 / 110.0 }
    }

    #[test]
    fn warm_up_rises_to_the_peak_and_is_never_zero() {
        let schedule = schedule(LrSchedule::Cosine);
        assert_eq!(schedule.warmup(), 10);
        assert_eq!(schedule.lr(0), 0.2);
        assert_eq!(schedule.lr(9), 2.0);
        assert_eq!(schedule.lr(10), 2.0);
    }

    #[test]
    fn each_shape_comes_down_in_its_own_way() {
        let at = |shape, step| schedule(shape).lr(step);
        assert!((at(LrSchedule::Cosine, 60) - 1.0).abs() < 1e-12, "half-way a cosine is at half");
        assert!((at(LrSchedule::Linear, 35) - 1.5).abs() < 1e-12);
        assert_eq!(at(LrSchedule::Constant, 109), 2.0);
        assert_eq!(at(LrSchedule::Linear, 110), 0.0);
        assert_eq!(at(LrSchedule::Linear, 500), 0.0);
    }

    #[test]
    fn without_warm_up_the_first_step_is_the_peak() {
        let schedule = Schedule { warmup_ratio: 0.0, ..schedule(LrSchedule::Cosine) };
        assert_eq!(schedule.lr(0), 2.0);
    }
}
