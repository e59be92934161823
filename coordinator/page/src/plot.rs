//! Axes and marks as SVG (HANDS). Colours are classes and custom properties of the page, so that they follow its theme.

mod forest;
mod interval;
mod mark;
mod scale;
mod svg;
mod words;

use crate::markup::escape;

use self::svg::path_of;
pub use self::{
    forest::{Effect, forest, forest_keys},
    interval::{Interval, Series, Side},
    mark::{Mark, budget_colour},
    scale::{Scale, ScaleKind, extent},
    svg::{document, push, svg, text},
};

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
        let ((left, right), (bottom, top)) = (self.x.pixels(), self.y.pixels());
        let out = &mut self.body;
        let grid = |out: &mut String, (x1, x2): (f64, f64), (y1, y2): (f64, f64)| {
            let ends = format_args!("x1=\"{x1:.1}\" x2=\"{x2:.1}\" y1=\"{y1:.1}\" y2=\"{y2:.1}\"");
            push(out, format_args!("<line class=\"grid\" {ends}/>"));
        };
        for tick in self.y.ticks(6) {
            let at = self.y.at(tick);
            grid(out, (left, right), (at, at));
            text(out, "tick e", (left - 8.0, at + 4.0), &(y.words)(tick));
        }
        for tick in self.x.ticks(8) {
            let at = self.x.at(tick);
            grid(out, (at, at), (bottom, top));
            text(out, "tick m", (at, bottom + 17.0), &(x.words)(tick));
        }
        text(out, "axis e", (right, bottom + 36.0), x.name);
        text(out, "axis", (left + 6.0, top + 13.0), y.name);
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
        corners.extend(corners.last().map(|(_, level)| (self.x.domain().1, *level)));
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
        let (class, dx) = if at > 0.2 * self.size.0 { ("word e", -9.0) } else { ("word", 9.0) };
        text(&mut self.body, class, (at + dx, height), word);
    }

    /// The drawing as markup; `label` says to a reader without eyes what it shows.
    #[must_use]
    pub fn finish(self, label: &str) -> String {
        svg(self.size, label, &self.body)
    }
}
