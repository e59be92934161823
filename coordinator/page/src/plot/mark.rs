//! Marks of points, and colours of budgets (HANDS).

use super::path_of;
use crate::markup::escape;

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

    pub(super) fn shape(self, x: f64, y: f64) -> String {
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
