//! How long the record takes (HANDS): counted by the writer's thread, read by whoever asks how things stand.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

/// Four to an octave of microseconds: up to half an hour, to a fifth.
const BUCKETS: usize = 4 * 31;

/// The writes of a term of office.
#[derive(Debug)]
pub struct RecordTimes {
    steps: AtomicU64,
    /// Writes that held a step, by what they took.
    writes: [AtomicU64; BUCKETS],
}

impl Default for RecordTimes {
    fn default() -> Self {
        Self { steps: AtomicU64::new(0), writes: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl RecordTimes {
    /// Counts a write that made so many steps durable.
    pub fn note(&self, steps: usize, took: Duration) {
        if steps == 0 {
            return;
        }
        self.steps.fetch_add(steps as u64, Ordering::Relaxed);
        let bucket = (4.0 * (took.as_secs_f64() * 1e6).max(1.0).log2()) as usize;
        self.writes[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// Steps, writes that held them, and what these took in microseconds.
    #[must_use]
    pub fn describe(&self) -> Value {
        let counts: Vec<u64> = self.writes.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let writes: u64 = counts.iter().sum();
        json!({
            "steps": self.steps.load(Ordering::Relaxed),
            "writes": writes,
            "p50_us": quantile(&counts, writes, 0.5),
            "p99_us": quantile(&counts, writes, 0.99),
        })
    }
}

/// The middle of the bucket that a share `q` of the writes does not exceed; none of none.
fn quantile(counts: &[u64], writes: u64, q: f64) -> Option<u64> {
    let within = (q * writes as f64).ceil() as u64;
    let mut seen = 0;
    let bucket = counts.iter().position(|count| {
        seen += count;
        seen >= within.max(1)
    });
    bucket.map(|bucket| ((bucket as f64 + 0.5) / 4.0).exp2().round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_told_apart_to_a_fifth() {
        let times = RecordTimes::default();
        assert_eq!(times.describe(), json!({"steps": 0, "writes": 0, "p50_us": null, "p99_us": null}));
        (0..98).for_each(|_| times.note(2, Duration::from_micros(600)));
        (0..2).for_each(|_| times.note(1, Duration::from_millis(9)));
        times.note(0, Duration::from_secs(1));
        let told = times.describe();
        assert_eq!((told["steps"].as_u64(), told["writes"].as_u64()), (Some(198), Some(100)));
        let near = |key: &str, us: f64| told[key].as_f64().is_some_and(|found| (found / us - 1.0).abs() < 0.2);
        assert!(near("p50_us", 600.0) && near("p99_us", 9000.0), "{told}");
    }
}
