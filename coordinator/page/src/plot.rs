//! Axes and marks as SVG (HANDS). Colours are classes and custom properties of the page, so that they follow its theme.

use std::fmt::Write;

use crate::markup::escape;

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

/// A drawing with two axes.
#[derive(Debug)]
pub struct Plot {
    /// Horizontal axis.
    pub x: Scale,
    /// Vertical axis; its pixels descend.
    pub y: Scale,
    size: (f64, f64),
    body: String,
}

/// Room around the axes: left, right, top, bottom.
const MARGIN: (f64, f64, f64, f64) = (58.0, 14.0, 10.0, 42.0);

/// What an axis is called and how its ticks read.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    /// Its name, with the unit.
    pub name: &'a str,
    /// Words of a tick.
    pub words: fn(f64) -> String,
}

impl Plot {
    /// An empty drawing of this size; `scale` makes the horizontal axis.
    #[must_use]
    pub fn new(size: (f64, f64), x: (f64, f64), y: (f64, f64), scale: fn((f64, f64), (f64, f64)) -> Scale) -> Self {
        let (left, right, top, bottom) = MARGIN;
        let x = scale(x, (left, size.0 - right));
        let y = Scale::linear(y, (size.1 - bottom, top));
        Self { x, y, size, body: String::new() }
    }

    /// Draws grid, ticks and names.
    pub fn axes(&mut self, x: Axis<'_>, y: Axis<'_>) {
        let ((left, right), (bottom, top)) = (self.x.pixels, self.y.pixels);
        let mut out = String::new();
        for tick in self.y.ticks(6) {
            let at = self.y.at(tick);
            push(
                &mut out,
                format_args!(
                    "<line class=\"grid\" x1=\"{left:.1}\" x2=\"{right:.1}\" y1=\"{at:.1}\" \
                y2=\"{at:.1}\"/>"
                ),
            );
            push(
                &mut out,
                format_args!(
                    "<text class=\"tick e\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    left - 8.0,
                    at + 4.0,
                    escape(&(y.words)(tick))
                ),
            );
        }
        for tick in self.x.ticks(8) {
            let at = self.x.at(tick);
            push(
                &mut out,
                format_args!(
                    "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom:.1}\" \
                y2=\"{top:.1}\"/>"
                ),
            );
            push(
                &mut out,
                format_args!(
                    "<text class=\"tick m\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
                    bottom + 17.0,
                    escape(&(x.words)(tick))
                ),
            );
        }
        push(
            &mut out,
            format_args!(
                "<text class=\"axis e\" x=\"{right:.1}\" y=\"{:.1}\">{}</text>",
                bottom + 36.0,
                escape(x.name)
            ),
        );
        push(
            &mut out,
            format_args!(
                "<text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                left + 6.0,
                top + 13.0,
                escape(y.name)
            ),
        );
        self.body.push_str(&out);
    }

    /// A line through points; `style` is an attribute text such as `class="front"`.
    pub fn line(&mut self, points: &[(f64, f64)], style: &str, title: &str) {
        let path = path_of(points.iter().map(|(x, y)| (self.x.at(*x), self.y.at(*y))));
        push(&mut self.body, format_args!("<path {style} d=\"{path}\"><title>{}</title></path>", escape(title)));
    }

    /// The stairs of what is the best at most at a cost: level until the next point, to the end of the axis.
    pub fn stairs(&mut self, points: &[(f64, f64)], style: &str, title: &str) {
        let mut corners = Vec::with_capacity(2 * points.len() + 1);
        for (x, y) in points {
            if let Some((_, level)) = corners.last().copied() {
                corners.push((*x, level));
            }
            corners.push((*x, *y));
        }
        corners.extend(corners.last().map(|(_, level)| (self.x.domain.1, *level)));
        self.line(&corners, style, title);
    }

    /// A mark at a point with a hover title.
    pub fn mark(&mut self, (x, y): (f64, f64), mark: Mark, title: &str) {
        let shape = mark.shape(self.x.at(x), self.y.at(y));
        push(&mut self.body, format_args!("<g class=\"{}\">{shape}<title>{}</title></g>", mark.class(), escape(title)));
    }

    /// A word beside a point, to its left, where a cloud under a front leaves room, or else to its right.
    pub fn word(&mut self, (x, y): (f64, f64), word: &str) {
        let (at, height) = (self.x.at(x), self.y.at(y) - 8.0);
        let (end, dx) = if at > 0.2 * self.size.0 { (" e", -9.0) } else { ("", 9.0) };
        push(
            &mut self.body,
            format_args!("<text class=\"word{end}\" x=\"{:.1}\" y=\"{height:.1}\">{}</text>", at + dx, escape(word)),
        );
    }

    /// The drawing as markup; `label` says to a reader without eyes what it shows.
    #[must_use]
    pub fn finish(self, label: &str) -> String {
        svg(self.size, label, &self.body)
    }
}

/// Forms that tell series apart without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A stitch that was evaluated.
    Dot,
    /// Chosen by `snip`: a disc.
    Snip,
    /// Chosen by `loss`: an open diamond around whatever else is there.
    Loss,
    /// Chosen by `auto`: an open square, inside the diamond where both agree.
    Auto,
    /// An anchor tuned alone.
    Star,
}

impl Mark {
    /// Its class.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Dot => "dot",
            Self::Snip => "snip",
            Self::Loss => "loss",
            Self::Auto => "auto",
            Self::Star => "star",
        }
    }

    fn shape(self, x: f64, y: f64) -> String {
        let polygon = |corners: &mut dyn Iterator<Item = (f64, f64)>| {
            format!("<path d=\"{}z\"/>", path_of(corners.map(|(dx, dy)| (x + dx, y + dy))))
        };
        match self {
            Self::Dot => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.4\"/>"),
            Self::Snip => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5.5\"/>"),
            Self::Loss => polygon(&mut [(0.0, -9.5), (9.5, 0.0), (0.0, 9.5), (-9.5, 0.0)].into_iter()),
            Self::Auto => polygon(&mut [(-6.6, -6.6), (6.6, -6.6), (6.6, 6.6), (-6.6, 6.6)].into_iter()),
            Self::Star => polygon(&mut (0..10).map(|corner| {
                let (angle, radius) =
                    (f64::from(corner) * std::f64::consts::PI / 5.0, [10.0, 4.2][corner as usize % 2]);
                (radius * angle.sin(), -radius * angle.cos())
            })),
        }
    }

    /// The mark in a legend.
    #[must_use]
    pub fn key(self, words: &str) -> String {
        let shape = self.shape(12.0, 12.0);
        format!(
            "<span class=\"key\"><svg class=\"k\" viewBox=\"0 0 24 24\"><g class=\"{}\">{shape}</g></svg>{}</span>",
            self.class(),
            escape(words)
        )
    }
}

/// A drawing as markup.
#[must_use]
pub fn svg((width, height): (f64, f64), label: &str, body: &str) -> String {
    format!(
        "<svg class=\"plot\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\" aria-label=\"{}\">{body}</svg>\n",
        escape(label)
    )
}

/// Appends formatted text.
pub fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes any text");
}

fn path_of(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (i, (x, y)) in points.enumerate() {
        push(&mut path, format_args!("{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' }));
    }
    path
}

/// The colour of a budget: from cool and cheap to warm and dear, readable on light and dark.
#[must_use]
pub fn budget_colour(budget: usize, budgets: usize) -> String {
    const STOPS: [[f64; 3]; 5] =
        [[99.0, 102.0, 224.0], [22.0, 150.0, 178.0], [62.0, 163.0, 82.0], [218.0, 143.0, 24.0], [214.0, 72.0, 92.0]];
    let place = budget as f64 / budgets.saturating_sub(1).max(1) as f64 * (STOPS.len() - 1) as f64;
    let (stop, share) = ((place as usize).min(STOPS.len() - 2), place - (place as usize).min(STOPS.len() - 2) as f64);
    let channel = |i: usize| (STOPS[stop][i] + share * (STOPS[stop + 1][i] - STOPS[stop][i])).round() as u8;
    format!("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2))
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
}
