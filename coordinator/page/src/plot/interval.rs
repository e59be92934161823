//! Means with their uncertainty: intervals, bands and whiskers (HANDS).

use super::{Plot, path_of, push};
use crate::markup::escape;

/// A mean and how far it may be off, such as two standard errors; in the units of an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// Where an interval lies beside zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// All of it is below zero.
    Below,
    /// It contains zero, or it has no width: a single measurement claims nothing.
    Around,
    /// All of it is above zero.
    Above,
}

impl Interval {
    /// The interval that reaches as far down as up.
    #[must_use]
    pub fn around(mean: f64, reach: f64) -> Self {
        Self { mean, low: mean - reach, high: mean + reach }
    }

    /// Where it lies beside zero.
    #[must_use]
    pub fn side(&self) -> Side {
        match self {
            Self { low, high, .. } if low >= high => Side::Around,
            Self { low, .. } if *low > 0.0 => Side::Above,
            Self { high, .. } if *high < 0.0 => Side::Below,
            _ => Side::Around,
        }
    }

    /// Its two ends, for an axis that has to contain them.
    #[must_use]
    pub fn ends(&self) -> [f64; 2] {
        [self.low, self.high]
    }

    pub(super) fn is_finite(&self) -> bool {
        self.mean.is_finite() && self.low.is_finite() && self.high.is_finite()
    }
}

impl Side {
    /// Its class: one colour each.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Below => "below",
            Self::Around => "around",
            Self::Above => "above",
        }
    }
}

/// One of the series that a plot compares: a colour of the page's palette of six, which starts again after the sixth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series(pub usize);

impl Series {
    /// Colours of the palette.
    const COLOURS: usize = 6;

    /// Style of its line, for [`Plot::line`] and [`Plot::stairs`].
    #[must_use]
    pub fn trace(self) -> String {
        format!("class=\"trace {}\"", self.class())
    }

    /// Style of its band, for [`Plot::band`].
    #[must_use]
    pub fn band(self) -> String {
        format!("class=\"band {}\"", self.class())
    }

    /// Style of its whiskers, for [`Plot::bar_range`].
    #[must_use]
    pub fn range(self) -> String {
        format!("class=\"range {}\"", self.class())
    }

    /// The series in a legend: its line, dashed as in the plot, and a word.
    #[must_use]
    pub fn key(self, words: &str) -> String {
        let line = format!("<path {} d=\"M1.0 12.0L31.0 12.0\"/>", self.trace());
        format!("<span class=\"key\"><svg class=\"k\" viewBox=\"4 0 24 24\">{line}</svg>{}</span>", escape(words))
    }

    fn class(self) -> String {
        format!("c{}", self.0 % Self::COLOURS)
    }
}

/// Half the width of a whisker's ends, in pixels.
pub(super) const CAP: f64 = 4.0;

impl Plot {
    /// The area between two curves, such as a confidence band; points are (x, low, high) in the order of x, and those
    /// that are not finite are left out. `style` is an attribute text such as `class="band c0"`.
    pub fn band(&mut self, points: &[(f64, f64, f64)], style: &str) {
        let finite = || points.iter().filter(|(x, low, high)| x.is_finite() && low.is_finite() && high.is_finite());
        let upper = finite().map(|(x, _, high)| (self.x.at(*x), self.y.at(*high)));
        let lower = finite().rev().map(|(x, low, _)| (self.x.at(*x), self.y.at(*low)));
        let outline = path_of(upper.chain(lower));
        if !outline.is_empty() {
            push(&mut self.body, format_args!("<path {style} d=\"{outline}z\"/>"));
        }
    }

    /// A vertical whisker over an interval with a dot at its mean and a hover title; nothing where it is not finite.
    /// `style` is an attribute text such as `class="range c0"`. Whiskers at one x can be told apart by
    /// [`Scale::beside`](super::Scale::beside).
    pub fn bar_range(&mut self, x: f64, interval: Interval, style: &str, title: &str) {
        if !(x.is_finite() && interval.is_finite()) {
            return;
        }
        let (at, mean) = (self.x.at(x), self.y.at(interval.mean));
        let [low, high] = interval.ends().map(|end| self.y.at(end));
        let (left, right) = (at - CAP, at + CAP);
        push(
            &mut self.body,
            format_args!(
                "<g {style}><path d=\"M{left:.1} {low:.1}H{right:.1}M{at:.1} {low:.1}V{high:.1}M{left:.1} {high:.1}\
                 H{right:.1}\"/><circle cx=\"{at:.1}\" cy=\"{mean:.1}\" r=\"4.2\"/><title>{}</title></g>",
                escape(title)
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Scale, *};

    fn plot() -> Plot {
        Plot::new((172.0, 152.0), (0.0, 10.0), (0.0, 100.0), Scale::linear)
    }

    #[test]
    fn a_band_goes_out_above_and_comes_back_below() {
        let mut plot = plot();
        plot.band(&[(0.0, 10.0, 30.0), (5.0, f64::NAN, 1.0), (10.0, 20.0, 40.0)], &Series(7).band());
        // The drawing's axes reach from 58 to 158 and from 110 up to 10.
        let drawn = plot.finish("a band");
        assert!(
            drawn.contains("<path class=\"band c1\" d=\"M58.0 80.0L158.0 70.0L158.0 90.0L58.0 100.0z\"/>"),
            "{drawn}"
        );
    }

    #[test]
    fn a_whisker_reaches_from_end_to_end_with_its_mean_between() {
        let mut plot = plot();
        let skewed = Interval { mean: 50.0, low: 40.0, high: 80.0 };
        plot.bar_range(5.0, skewed, &Series(0).range(), "a < b");
        let drawn = plot.finish("a whisker");
        assert!(drawn.contains("M108.0 70.0V30.0"), "{drawn}");
        assert!(drawn.contains("<circle cx=\"108.0\" cy=\"60.0\" r=\"4.2\"/><title>a &lt; b</title>"), "{drawn}");
    }

    #[test]
    fn what_is_not_a_number_is_not_drawn() {
        let mut plot = plot();
        plot.band(&[(f64::NAN, 1.0, 2.0)], "class=\"band c0\"");
        plot.bar_range(1.0, Interval::around(f64::NAN, 1.0), "class=\"range c0\"", "");
        plot.bar_range(1.0, Interval::around(1.0, f64::INFINITY), "class=\"range c0\"", "");
        let drawn = plot.finish("nothing");
        assert!(!drawn.contains("<path") && !drawn.contains("<g"), "{drawn}");
    }

    #[test]
    fn an_interval_without_width_claims_nothing() {
        let sides = [(1.0, 0.5), (1.0, 1.0), (1.0, 0.0), (-1.0, 0.5)].map(|(mean, reach)| {
            let interval = Interval::around(mean, reach);
            interval.side()
        });
        assert_eq!(sides, [Side::Above, Side::Around, Side::Around, Side::Below]);
    }
}
