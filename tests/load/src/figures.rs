//! Numbers from samples (HANDS).

/// The value that a share `q` of the samples does not exceed; 0 of none.
#[must_use]
pub fn quantile(samples: &mut [f64], q: f64) -> f64 {
    let Some(last) = samples.len().checked_sub(1) else { return 0.0 };
    let at = ((q * samples.len() as f64) as usize).min(last);
    *samples.select_nth_unstable_by(at, f64::total_cmp).1
}

/// The mean; 0 of none.
#[must_use]
pub fn mean(samples: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = samples.into_iter().fold((0.0, 0_u64), |(sum, count), sample| (sum + sample, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}
