//! A curve that stays short however long a run is (HANDS): neighbours are merged where there is no room for more.

/// Points at most.
const MOST: usize = 400;

/// Means of consecutive observations, `width` of them to a point.
#[derive(Debug, Clone)]
pub struct Series {
    width: u64,
    points: Vec<(f64, f64)>,
    /// Of the point to come: observations, sum of their values.
    open: (u64, f64),
}

impl Default for Series {
    fn default() -> Self {
        Self { width: 1, points: Vec::new(), open: (0, 0.0) }
    }
}

impl Series {
    /// Adds an observation at `x`, which grows.
    pub fn push(&mut self, x: f64, y: f64) {
        self.push_mean(x, y, 1);
    }

    /// Adds so many observations, the last of them at `x`, of which the mean is known.
    pub fn push_mean(&mut self, x: f64, y: f64, count: u64) {
        self.open = (self.open.0 + count, self.open.1 + y * count as f64);
        if self.open.0 < self.width {
            return;
        }
        self.points.push((x, self.open.1 / self.open.0 as f64));
        self.open = (0, 0.0);
        if self.points.len() >= MOST {
            // A point stands at its last observation, so a pair does at its second's.
            self.points = self.points.chunks_exact(2).map(|pair| (pair[1].0, (pair[0].1 + pair[1].1) / 2.0)).collect();
            self.width *= 2;
        }
    }

    /// The points so far, ascending.
    #[must_use]
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_keeps_its_means_and_its_end_in_a_bounded_number_of_points() {
        let mut series = Series::default();
        (1..=100_000).for_each(|x| series.push(f64::from(x), f64::from(x)));
        let points = series.points();
        assert!((100..400).contains(&points.len()), "{}", points.len());
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1));
        let width = points[1].0 - points[0].0;
        assert!(100_000.0 - points.last().expect("points").0 < width);
        assert!((points[0].1 - (width + 1.0) / 2.0).abs() < 1e-9, "the mean of 1 to {width}");
    }
}
