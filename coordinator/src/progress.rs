//! Progress for whoever watches (HANDS): bars on a terminal, a log line now and then elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    sync::LazyLock,
    time::{Duration, Instant},
};

use esta_engine::run::StepRecord;
use esta_proto::Step;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often a log line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// m of the moving average shown: of the order of ten steps.
const SMOOTHING: f64 = 0.9;

/// The bars of this process; log lines pass above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Shows how far a run is.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    loss: Option<f64>,
    last_line: Option<Instant>,
    /// When the first step of this sitting was shown, and which it was.
    first: Option<(Instant, Step)>,
}

impl Progress {
    /// Bars if standard error is a terminal, else lines.
    #[must_use]
    pub fn new() -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = "{spinner} step {pos}/{len} {wide_bar} {msg}";
            let style = ProgressStyle::with_template(style).expect("the template is fixed");
            BARS.add(ProgressBar::new(0).with_style(style))
        });
        Self { bar, loss: None, last_line: None, first: None }
    }

    /// Shows a committed step.
    pub fn step(&mut self, record: &StepRecord, total: Step) {
        let losses = record.outcomes.iter().map(|outcome| outcome.loss).filter(|loss| loss.is_finite());
        let (count, sum) = losses.fold((0u32, 0.0), |(count, sum), loss| (count + 1, sum + loss));
        if count > 0 {
            let mean = sum / f64::from(count);
            self.loss = Some(self.loss.map_or(mean, |loss| SMOOTHING * loss + (1.0 - SMOOTHING) * mean));
        }
        self.show(record.step, total);
    }

    fn show(&mut self, step: Step, total: Step) {
        let now = Instant::now();
        let (began, first) = *self.first.get_or_insert((now, step));
        let rate = (step.0 - first.0) as f64 / now.duration_since(began).as_secs_f64().max(1e-9);
        let done = step.next();
        let left = if rate > 0.0 { (total.0 - done.0.min(total.0)) as f64 / rate } else { 0.0 };
        let loss = self.loss.unwrap_or(f64::NAN);
        if let Some(bar) = &self.bar {
            bar.set_length(total.0);
            bar.set_position(done.0);
            let pace = if step > first { format!("  {rate:.1} steps/s  {} left", clock(left)) } else { String::new() };
            bar.set_message(format!("loss {loss:.4}{pace}"));
            return;
        }
        // A rate needs two steps.
        let due = step > first && self.last_line.is_none_or(|last| now.duration_since(last) >= LINE_EVERY);
        if due || done == total {
            self.last_line = Some(now);
            tracing::info!(
                step = done.0,
                total = total.0,
                loss,
                steps_per_second = rate,
                seconds_left = left.round(),
                "progress"
            );
        }
    }

    /// Says what the run does after its last step.
    pub fn finishing(&self) {
        match &self.bar {
            Some(bar) => bar.set_message("evaluating and exporting"),
            None => tracing::info!("every step is done; the palette is evaluated and exported"),
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// Standard error, above the bars. One value writes one event.
#[derive(Debug, Default)]
pub struct LogWriter(Vec<u8>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let text = std::mem::take(&mut self.0);
        BARS.suspend(|| io::stderr().write_all(&text))
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // Nowhere is left to report that standard error is gone.
        self.flush().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_left_read_like_clocks() {
        assert_eq!([7.4, 61.0, 3725.0].map(clock), ["0:07", "1:01", "1:02:05"]);
    }
}
