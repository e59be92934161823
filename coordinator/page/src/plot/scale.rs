//! Values to pixels (HANDS).

/// A value axis: domain to pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    domain: (f64, f64),
    pixels: (f64, f64),
    kind: ScaleKind,
}

/// How an axis spaces its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleKind {
    /// Equal differences, equal distances.
    Linear,
    /// Equal ratios, equal distances; the domain is positive.
    Log,
}

impl Scale {
    /// A linear axis; an empty or broken domain is widened to something drawable.
    #[must_use]
    pub fn linear(domain: (f64, f64), pixels: (f64, f64)) -> Self {
        Self { domain: drawable(domain), pixels, kind: ScaleKind::Linear }
    }

    /// A logarithmic axis where that is sensible: a positive domain whose ends lie four times apart.
    #[must_use]
    pub fn of_costs(domain: (f64, f64), pixels: (f64, f64)) -> Self {
        let kind = if domain.0 > 0.0 && domain.1 >= 4.0 * domain.0 { ScaleKind::Log } else { ScaleKind::Linear };
        Self { domain: drawable(domain), pixels, kind }
    }

    /// The least and the greatest value.
    #[must_use]
    pub fn domain(&self) -> (f64, f64) {
        self.domain
    }

    /// The pixels of the least and the greatest value.
    #[must_use]
    pub fn pixels(&self) -> (f64, f64) {
        self.pixels
    }

    /// The value that lies so many pixels further on: for marks side by side that share a value.
    #[must_use]
    pub fn beside(&self, value: f64, pixels: f64) -> f64 {
        let share = pixels / (self.pixels.1 - self.pixels.0);
        match self.kind {
            ScaleKind::Linear => value + share * (self.domain.1 - self.domain.0),
            ScaleKind::Log => value * (self.domain.1 / self.domain.0).powf(share),
        }
    }

    /// The pixel of a value.
    #[must_use]
    pub fn at(&self, value: f64) -> f64 {
        let on = |v: f64| if self.kind == ScaleKind::Log { v.max(f64::MIN_POSITIVE).ln() } else { v };
        let (low, high) = (on(self.domain.0), on(self.domain.1));
        self.pixels.0 + (on(value) - low) / (high - low) * (self.pixels.1 - self.pixels.0)
    }

    /// Round values inside the domain, about `wanted` of them.
    #[must_use]
    pub fn ticks(&self, wanted: usize) -> Vec<f64> {
        let inside = |value: &f64| *value >= self.domain.0 * 0.999_999 && *value <= self.domain.1 * 1.000_001;
        if self.kind == ScaleKind::Log {
            let decades = self.domain.0.log10().floor() as i32..=self.domain.1.log10().ceil() as i32;
            let wide = self.domain.1 > 30.0 * self.domain.0;
            let factors = if wide { &[1.0, 2.0, 5.0][..] } else { &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0] };
            return decades.flat_map(|e| factors.iter().map(move |m| m * 10_f64.powi(e))).filter(inside).collect();
        }
        let step = round_step((self.domain.1 - self.domain.0) / wanted.max(1) as f64);
        let (first, last) = ((self.domain.0 / step).ceil() as i64, (self.domain.1 / step + 1e-9).floor() as i64);
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

fn drawable((low, high): (f64, f64)) -> (f64, f64) {
    match (low.is_finite() && high.is_finite(), high > low) {
        (false, _) => (0.0, 1.0),
        (true, true) => (low, high),
        (true, false) => (low - 0.5 * low.abs().max(1.0), low + 0.5 * low.abs().max(1.0)),
    }
}

fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough * 0.999).unwrap_or(10.0);
    factor * power
}

/// The least and the greatest of some values, stretched by a share of their distance on both sides.
#[must_use]
pub fn extent(values: impl Iterator<Item = f64>, stretch: f64) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    let margin = (high - low) * stretch;
    (low - margin, high + margin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(Scale::linear((0.13, 0.97), (0.0, 1.0)).ticks(5), [0.2, 0.4, 0.6000000000000001, 0.8]);
        assert_eq!(
            Scale::of_costs((1.2e9, 1.7e10), (0.0, 1.0)).ticks(5),
            [1.5e9, 2e9, 3e9, 4e9, 5e9, 7e9, 1e10, 1.5e10]
        );
        assert_eq!(Scale::of_costs((10.0, 20.0), (0.0, 1.0)).ticks(5), [10.0, 12.0, 14.0, 16.0, 18.0, 20.0]);
    }

    #[test]
    fn a_flat_or_empty_domain_can_be_drawn() {
        let (low, high) = extent(std::iter::empty(), 0.1);
        for scale in [Scale::linear((low, high), (0.0, 100.0)), Scale::linear((3.0, 3.0), (0.0, 100.0))] {
            assert!(scale.at(3.0).is_finite());
            assert!(!scale.ticks(4).is_empty());
        }
    }

    #[test]
    fn a_logarithmic_axis_spaces_ratios() {
        let scale = Scale::of_costs((1.0, 100.0), (0.0, 200.0));
        assert!((scale.at(10.0) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn beside_is_a_distance_in_pixels_on_every_axis() {
        for scale in [Scale::of_costs((1e6, 1e8), (50.0, 250.0)), Scale::linear((-3.0, 7.0), (110.0, 10.0))] {
            let value = 0.3 * scale.domain().1;
            assert!((scale.at(scale.beside(value, 6.0)) - scale.at(value) - 6.0).abs() < 1e-9, "{scale:?}");
        }
    }
}
