//! The palette of one target and seed, and how it answers constraints (LAW: pure).

use esta_engine::{regret::Measured, spec::PaletteRule};

use crate::cell::{CellResult, Costs, StitchResult};

/// The rule by which all arms answer where training is to be told from selection.
pub const ONE_RULE: PaletteRule = PaletteRule::Auto;

/// One point of a front: a constraint of this many MACs is answered with this accuracy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrontPoint {
    /// MACs of the model that answers.
    pub macs: u64,
    /// Its held-out accuracy 0..1.
    pub accuracy: f64,
}

/// By whose word constraints are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Each arm's own rule, which its job deploys by: what a user of the arm gets.
    Own,
    /// [`ONE_RULE`] for every arm: what the arm's training is worth, selection apart.
    OneRule,
    /// Held-out accuracy: what the best rule could reach.
    Oracle,
}

/// How constraints are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// By a palette rule.
    Rule(PaletteRule),
    /// By held-out accuracy.
    Oracle,
    /// By the largest that fits: the only rule for anchors tuned alone, whose losses are not compared in training.
    Largest,
}

impl Answer {
    /// What it compares, higher is better.
    fn value(self, stitch: &StitchResult) -> Option<f64> {
        match self {
            Self::Rule(rule) => rule.value(&stitch.row),
            Self::Oracle => Some(stitch.accuracy),
            Self::Largest => Some(stitch.macs as f64),
        }
    }

    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rule(rule) => rule.name(),
            Self::Oracle => "oracle",
            Self::Largest => "largest",
        }
    }
}

/// The palette of one target and seed: the union of an arm's parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The rule that its job deploys by.
    pub rule: PaletteRule,
    /// Stitches in ascending cost.
    pub stitches: Vec<StitchResult>,
    /// Costs of all parts: sums, but for memory, whose largest counts.
    pub costs: Costs,
}

impl Outcome {
    /// One palette of the results of an arm's parts.
    #[must_use]
    pub fn of(parts: &[&CellResult], rule: PaletteRule) -> Self {
        let mut stitches: Vec<StitchResult> = parts.iter().flat_map(|part| part.stitches.clone()).collect();
        stitches.sort_by_key(|stitch| (stitch.macs, stitch.stitch));
        let sum = |of: fn(&Costs) -> f64| parts.iter().map(|part| of(&part.costs)).sum::<f64>();
        let count = |of: fn(&Costs) -> u64| parts.iter().map(|part| of(&part.costs)).sum::<u64>();
        let costs = Costs {
            train_seconds: sum(|costs| costs.train_seconds),
            cpu_seconds: parts.iter().map(|part| part.costs.cpu_seconds).sum(),
            eval_seconds: sum(|costs| costs.eval_seconds),
            images: count(|costs| costs.images),
            held_out: parts.iter().map(|part| part.costs.held_out).max().unwrap_or(0),
            peak_memory: parts.iter().filter_map(|part| part.costs.peak_memory).max(),
            trained_params: count(|costs| costs.trained_params),
            state_bytes: count(|costs| costs.state_bytes),
        };
        Self { rule, stitches, costs }
    }

    /// Whether it is anchors tuned alone: there is no stitch between any.
    #[must_use]
    pub fn is_lone(&self) -> bool {
        self.stitches.iter().all(|stitch| stitch.anchor)
    }

    /// How it answers.
    #[must_use]
    pub fn answer(&self, by: By) -> Answer {
        match by {
            By::Oracle => Answer::Oracle,
            By::Own | By::OneRule if self.is_lone() => Answer::Largest,
            By::Own => Answer::Rule(self.rule),
            By::OneRule => Answer::Rule(ONE_RULE),
        }
    }

    /// The models that ascending constraints are answered with: at every cost the best at or below it.
    #[must_use]
    pub fn front(&self, by: By) -> Vec<FrontPoint> {
        let answer = self.answer(by);
        let mut front: Vec<FrontPoint> = Vec::new();
        let mut best = f64::NEG_INFINITY;
        for stitch in &self.stitches {
            let Some(value) = answer.value(stitch).filter(|value| *value > best) else { continue };
            best = value;
            let point = FrontPoint { macs: stitch.macs, accuracy: stitch.accuracy };
            match front.last_mut() {
                Some(last) if last.macs == point.macs => *last = point,
                _ => front.push(point),
            }
        }
        front
    }

    /// Mean accuracy in percent over constraints from `lowest` to `highest` MACs, equally spaced by ratio; a constraint
    /// that nothing fits counts as zero.
    #[must_use]
    pub fn area(&self, by: By, (lowest, highest): (u64, u64)) -> f64 {
        let (low, high) = ((lowest as f64).ln(), (highest as f64).ln());
        let front = self.front(by);
        let ends = front.iter().skip(1).map(|point| point.macs).chain([highest]);
        let pieces = front.iter().zip(ends).map(|(point, end)| {
            let (from, to) = ((point.macs as f64).ln().clamp(low, high), (end as f64).ln().clamp(low, high));
            point.accuracy * (to - from)
        });
        100.0 * pieces.sum::<f64>() / (high - low)
    }

    /// Accuracy in percent of what answers a constraint of so many MACs; zero where nothing fits.
    #[must_use]
    pub fn accuracy_at(&self, by: By, macs: u64) -> f64 {
        let front = self.front(by);
        let answer = front.iter().take_while(|point| point.macs <= macs).last();
        answer.map_or(0.0, |point| 100.0 * point.accuracy)
    }

    /// What the engine's regrets are computed from.
    #[must_use]
    pub fn measured(&self) -> Vec<Measured> {
        self.stitches.iter().map(StitchResult::measured).collect()
    }

    /// Least and greatest cost.
    #[must_use]
    pub fn span(&self) -> Option<(u64, u64)> {
        Some((self.stitches.first()?.macs, self.stitches.last()?.macs))
    }
}
