//! Effects as dots and whiskers around a zero line, one row each (HANDS).

use super::{
    Axis, Scale, extent,
    interval::{CAP, Interval, Side},
    push, svg, text,
    words::{width_of, wrap},
};
use crate::markup::escape;

/// A row: what was changed and by how much that moved the outcome.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect<'a> {
    /// What was changed; at the left.
    pub label: &'a str,
    /// The effect in the units of the axis; none where it is not known, and drawn as none if it is not finite.
    pub interval: Option<Interval>,
    /// What else there is to say, such as the number of pairs; at the right.
    pub note: &'a str,
}

/// Sizes of letters.
const LABEL: f64 = 13.0;
const NOTE: f64 = 12.0;
/// Distance between lines of a label or a note.
const LINE: f64 = 16.0;
/// Room above and below a row's words, together.
const PADDING: f64 = 12.0;
/// Room between columns.
const GUTTER: f64 = 18.0;
/// Room above the rows and below them, where the axis is.
const TOP: f64 = 6.0;
const BOTTOM: f64 = 46.0;

/// A forest plot: a row for each effect in the order given, labels at the left, notes at the right, one axis below.
///
/// The axis contains zero, which has a line of its own. A row whose interval excludes zero has the colour of its side
/// and a full dot; the others are grey and hollow. `width` is in pixels of the page, which scales the drawing to its
/// place; `label` says to a reader without eyes what it shows.
#[must_use]
pub fn forest(width: f64, axis: Axis<'_>, effects: &[Effect<'_>], label: &str) -> String {
    let rows: Vec<Row<'_>> = rows(width, effects);
    let (left, right) = columns(width, effects);
    let ends = effects.iter().filter_map(|effect| effect.interval).filter(Interval::is_finite);
    let x = Scale::linear(extent(ends.flat_map(|interval| interval.ends()).chain([0.0]), 0.06), (left, right));
    let bottom = rows.last().map_or(TOP, |row| row.top + row.height);
    let mut body = String::new();
    draw_axis(&mut body, &x, axis, bottom);
    for row in rows.iter().skip(1) {
        push(
            &mut body,
            format_args!("<line class=\"grid\" x1=\"0\" x2=\"{width:.1}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>", row.top),
        );
    }
    for row in &rows {
        row.draw(&mut body, &x, axis, width);
    }
    let drawing = svg((width, bottom + BOTTOM), label, &body);
    // On a narrow screen a drawing is scrolled rather than made smaller than this.
    let least = 0.6 * width;
    format!("<div class=\"scroll forest\" style=\"--least:{least:.0}px\">{drawing}</div>\n")
}

/// Where the axis begins and ends between labels and notes.
fn columns(width: f64, effects: &[Effect<'_>]) -> (f64, f64) {
    let widest = |size: f64, room: f64, words: &dyn Fn(&Effect<'_>) -> f64| {
        let widest = effects.iter().map(|effect| words(effect) * size).fold(0.0, f64::max);
        if widest > 0.0 { widest.min(room) + GUTTER } else { CAP + 1.0 }
    };
    let left = widest(LABEL, label_room(width), &|effect| width_of(effect.label, 1.0));
    let right = widest(NOTE, note_room(width), &|effect| width_of(effect.note, 1.0));
    (left, width - right)
}

fn label_room(width: f64) -> f64 {
    0.34 * width
}

fn note_room(width: f64) -> f64 {
    0.26 * width
}

/// An effect and the place of its row.
struct Row<'a> {
    effect: &'a Effect<'a>,
    labels: Vec<String>,
    notes: Vec<String>,
    top: f64,
    height: f64,
}

fn rows<'a>(width: f64, effects: &'a [Effect<'a>]) -> Vec<Row<'a>> {
    let mut top = TOP;
    let place = |effect: &'a Effect<'a>| {
        let (labels, notes) = (wrap(effect.label, LABEL, label_room(width)), wrap(effect.note, NOTE, note_room(width)));
        let height = PADDING + LINE * labels.len().max(notes.len()) as f64;
        let row = Row { effect, labels, notes, top, height };
        top += height;
        row
    };
    effects.iter().map(place).collect()
}

impl Row<'_> {
    fn draw(&self, out: &mut String, x: &Scale, axis: Axis<'_>, width: f64) {
        let middle = self.top + self.height / 2.0;
        self.lines(out, "label", 0.0, &self.labels);
        self.lines(out, "note e", width, &self.notes);
        let Some(interval) = self.effect.interval.filter(Interval::is_finite) else {
            return text(out, "note m", (x.at(0.0) + 14.0, middle + 4.0), "–");
        };
        let [mean, low, high] = [interval.mean, interval.low, interval.high].map(|value| x.at(value));
        let said = [interval.mean, interval.low, interval.high].map(axis.words);
        let title = format!("{}: {} ({} to {})", self.effect.label, said[0], said[1], said[2]);
        let (up, down) = (middle - CAP, middle + CAP);
        push(
            out,
            format_args!(
                "<g class=\"effect {}\"><path d=\"M{low:.1} {up:.1}V{down:.1}M{low:.1} {middle:.1}H{high:.1}M{high:.1} \
                 {up:.1}V{down:.1}\"/><circle cx=\"{mean:.1}\" cy=\"{middle:.1}\" r=\"4.6\"/><title>{}</title></g>",
                interval.side().class(),
                escape(&title)
            ),
        );
    }

    /// Lines of words around the middle of the row.
    fn lines(&self, out: &mut String, class: &str, x: f64, lines: &[String]) {
        let first = self.top + (self.height - LINE * lines.len() as f64) / 2.0 + 12.0;
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
            text(out, class, (x, first + LINE * number as f64), line);
        }
    }
}

fn draw_axis(out: &mut String, x: &Scale, axis: Axis<'_>, bottom: f64) {
    let wanted = ((x.pixels().1 - x.pixels().0) / 44.0).round().max(2.0) as usize;
    for tick in x.ticks(wanted) {
        let at = x.at(tick);
        push(
            out,
            format_args!("<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP:.1}\" y2=\"{bottom:.1}\"/>"),
        );
        text(out, "tick m", (at, bottom + 17.0), &(axis.words)(tick));
    }
    let zero = x.at(0.0);
    push(
        out,
        format_args!("<line class=\"zero\" x1=\"{zero:.1}\" x2=\"{zero:.1}\" y1=\"{TOP:.1}\" y2=\"{bottom:.1}\"/>"),
    );
    // The name ends where the axis does, or further right if it is too long for that.
    let name_end = x.pixels().1.max(1.1 * width_of(axis.name, LABEL));
    text(out, "axis e", (name_end, bottom + 37.0), axis.name);
}

/// What the colours of a forest plot mean, as keys of a legend; the words say which side is which.
#[must_use]
pub fn forest_keys(above: &str, below: &str, around: &str) -> Vec<String> {
    [(Side::Above, above), (Side::Below, below), (Side::Around, around)]
        .into_iter()
        .map(|(side, words)| {
            format!(
                "<span class=\"key\"><svg class=\"k\" viewBox=\"0 0 24 24\"><g class=\"effect {}\">\
                 <path d=\"M2.0 12.0H22.0\"/><circle cx=\"12.0\" cy=\"12.0\" r=\"4.6\"/></g></svg>{}</span>",
                side.class(),
                escape(words)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::signed_tick;

    const AXIS: Axis<'_> = Axis { name: "points of accuracy", words: signed_tick };

    fn effect(label: &str, interval: Option<Interval>) -> Effect<'_> {
        Effect { label, interval, note: "8 pairs" }
    }

    #[test]
    fn colours_say_which_intervals_exclude_zero() {
        let rows = [
            effect("helps", Some(Interval::around(1.0, 0.5))),
            effect("harms", Some(Interval::around(-1.0, 0.5))),
            effect("unclear", Some(Interval::around(0.2, 0.5))),
            effect("not run", None),
            effect("diverged", Some(Interval::around(f64::NAN, 1.0))),
        ];
        let drawn = forest(1040.0, AXIS, &rows, "effects");
        let count = |what: &str| drawn.matches(what).count();
        assert_eq!(["effect above", "effect below", "effect around", ">–<"].map(count), [1, 1, 1, 2], "{drawn}");
        assert!(drawn.contains("<title>harms: −1 (−1.5 to −0.5)</title>"), "{drawn}");
        assert!(!drawn.contains("NaN"), "{drawn}");
    }

    #[test]
    fn the_zero_line_is_there_whatever_the_effects_are() {
        let far = [effect("far", Some(Interval::around(5.0, 0.5)))];
        for rows in [&far[..], &[], &[effect("not run", None)]] {
            let drawn = forest(1040.0, AXIS, rows, "effects");
            assert_eq!(drawn.matches("class=\"zero\"").count(), 1, "{drawn}");
            assert!(drawn.contains(">0</text>"), "the zero line has its number: {drawn}");
        }
    }

    #[test]
    fn a_long_label_takes_more_lines_and_not_the_room_of_the_axis() {
        let label = "a switch whose name is a whole sentence because nobody could agree on a shorter one for it";
        let rows = [effect(label, Some(Interval::around(1.0, 0.5))), effect("<short>", None)];
        let (left, right) = columns(600.0, &rows);
        assert!(right - left > 0.3 * 600.0, "{left} to {right}");
        let drawn = forest(600.0, AXIS, &rows, "effects");
        assert!(drawn.matches("class=\"label\"").count() >= 5, "{drawn}");
        assert!(drawn.contains("&lt;short&gt;"), "{drawn}");
    }
}
