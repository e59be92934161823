//! A palette as people and programs read it (HANDS): choices with their paths in words.

use esta_engine::{
    catalog::{Catalog, Segment, Stitch},
    law::Law,
    palette::{self, Choice},
    spec::{JobSpec, PaletteRule},
    table::Table,
};
use serde::{Deserialize, Serialize};

/// One choice with its path in words: an item of `palette --format json` and of the `Palette` call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The choice.
    #[serde(flatten)]
    pub choice: Choice,
    /// Its blocks, such as `Ti[0-5]>S[6-11]`.
    pub path: String,
    /// The rule that chose it.
    pub rule: PaletteRule,
}

/// The whole palette of a rule, or the one best stitch of at most `at_most` MACs; empty before any visit.
#[must_use]
pub fn entries(law: &Law, table: &Table, rule: PaletteRule, at_most: Option<u64>) -> Vec<Entry> {
    let choices = match at_most {
        Some(macs) => palette::at_most(&law.catalog, table, rule, macs).into_iter().collect(),
        None => palette::palette(&law.catalog, table, rule),
    };
    choices.into_iter().map(|choice| entry(law, choice, rule)).collect()
}

/// A choice of a rule with its path in words.
#[must_use]
pub fn entry(law: &Law, choice: Choice, rule: PaletteRule) -> Entry {
    let path = path_of(&law.spec, &law.catalog, choice.stitch.0);
    Entry { choice, path, rule }
}

fn path_of(spec: &JobSpec, catalog: &Catalog, stitch: u32) -> String {
    catalog.get(stitch.into()).map_or_else(String::new, |stitch| path(spec, stitch))
}

/// A stitch's blocks in words: `Ti[0-5]>S[6-11]`; an anchor alone is its name.
#[must_use]
pub fn path(spec: &JobSpec, stitch: &Stitch) -> String {
    let name = |anchor: usize| spec.family.anchors.get(anchor).map_or("?", |anchor| anchor.name.as_str());
    if stitch.is_anchor() {
        return name(stitch.end_anchor().index()).to_owned();
    }
    let segment = |s: &Segment| match s.first == s.last {
        true => format!("{}[{}]", name(s.anchor.index()), s.first),
        false => format!("{}[{}-{}]", name(s.anchor.index()), s.first, s.last),
    };
    stitch.segments.iter().map(segment).collect::<Vec<_>>().join(">")
}

/// A rule by its name in the specification.
///
/// # Errors
/// A line naming the rules there are.
pub fn parse_rule(text: &str) -> Result<PaletteRule, String> {
    match text {
        "snip" => Ok(PaletteRule::Snip),
        "loss" => Ok(PaletteRule::Loss),
        other => Err(format!("{other:?} is no palette rule; there are snip and loss")),
    }
}

/// A rule's name in the specification.
#[must_use]
pub fn rule_name(rule: PaletteRule) -> &'static str {
    match rule {
        PaletteRule::Snip => "snip",
        PaletteRule::Loss => "loss",
    }
}

/// Reads a cost such as `4.6G`, `800M` or `1258411200`, in MACs.
///
/// # Errors
/// A line saying what a cost looks like.
pub fn parse_cost(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K', 'M', 'G', 'T']) {
        Some(digits) => (digits, text.chars().last().expect("a suffix was stripped")),
        None => (text, ' '),
    };
    let factor = match unit {
        'k' | 'K' => 1e3,
        'M' => 1e6,
        'G' => 1e9,
        'T' => 1e12,
        _ => 1.0,
    };
    match digits.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok((number * factor).round() as u64),
        _ => Err(format!("{text:?} is no cost; write MACs such as 4.6G, 800M or 1258411200")),
    }
}

/// A cost for reading: `4.61 G`, `800 M`.
#[must_use]
pub fn show_cost(count: u64) -> String {
    let count = count as f64;
    let (scaled, unit) = match count {
        c if c >= 1e9 => (c / 1e9, " G"),
        c if c >= 1e6 => (c / 1e6, " M"),
        c if c >= 1e3 => (c / 1e3, " k"),
        c => (c, ""),
    };
    let digits = if scaled >= 100.0 || unit.is_empty() { 0 } else { 2 };
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read_with_their_units() {
        assert_eq!(parse_cost("4.6G"), Ok(4_600_000_000));
        assert_eq!(parse_cost("800M"), Ok(800_000_000));
        assert_eq!(parse_cost("1258411200"), Ok(1_258_411_200));
        assert!(parse_cost("4.6GB").is_err_and(|why| why.contains("4.6GB")));
        assert!(parse_cost("-1G").is_err());
        assert!(parse_cost("").is_err());
    }

    #[test]
    fn costs_are_shown_to_three_digits() {
        assert_eq!(
            [4_608_338_304, 800_000_000, 61_604_135_936, 9_120, 7].map(show_cost),
            ["4.61 G", "800 M", "61.60 G", "9.12 k", "7"]
        );
    }
}
