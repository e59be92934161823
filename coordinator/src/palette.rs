//! A palette as people and programs read it (HANDS): choices with their paths in words.

use std::path::{Path, PathBuf};

use esta_engine::{
    budget::Price,
    catalog::Catalog,
    latency::InvalidLatency,
    law::Law,
    palette::{self, Choice},
    spec::PaletteRule,
    table::Table,
};
use serde::{Deserialize, Serialize};

use crate::artifacts::summary::EvalFile;

/// One choice with its path in words: an item of `palette --format json` and of the `Palette` call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The choice.
    #[serde(flatten)]
    pub choice: Choice,
    /// Its blocks, such as `ti[0-5]>s[6-11]`.
    pub path: String,
    /// The rule that chose it.
    pub rule: PaletteRule,
    /// Its held-out accuracy, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The folder it was exported to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl Entry {
    /// Adds what the evaluation of the run in `run_dir` knows, if there is one.
    #[must_use]
    pub fn evaluated(self, eval: Option<&EvalFile>, run_dir: &Path) -> Self {
        let Some(eval) = eval else { return self };
        let result = eval.results.iter().find(|result| result.stitch == self.choice.stitch);
        let export = eval.exports.iter().find(|export| export.stitch == self.choice.stitch);
        let (accuracy, file) = (result.map(|result| result.accuracy), export.map(|export| run_dir.join(&export.path)));
        Self { accuracy, file, ..self }
    }
}

/// The whole palette of a rule, or the one best stitch of at most `at_most`; empty before any visit.
#[must_use]
pub fn entries(law: &Law, table: &Table, rule: PaletteRule, at_most: Option<Price>) -> Vec<Entry> {
    let choices = match at_most {
        Some(most) => palette::at_most(&law.catalog, table, rule, most).into_iter().collect(),
        None => palette::palette(&law.catalog, table, rule),
    };
    choices.into_iter().map(|choice| entry(law, choice, rule)).collect()
}

/// A choice of a rule with its path in words.
#[must_use]
pub fn entry(law: &Law, choice: Choice, rule: PaletteRule) -> Entry {
    let path = law.catalog.get(choice.stitch).map_or_else(String::new, |stitch| stitch.path(&law.spec.family));
    Entry { choice, path, rule, accuracy: None, file: None }
}

/// A rule by its name in the specification.
///
/// # Errors
/// A line naming the rules there are.
pub fn parse_rule(text: &str) -> Result<PaletteRule, String> {
    let known = PaletteRule::ALL.map(PaletteRule::name).join(", ");
    PaletteRule::named(text).ok_or_else(|| format!("{text:?} is no palette rule; there are {known}"))
}

/// Whether a constraint on the run in `run_dir` can be answered at all.
///
/// # Errors
/// A line saying what to do where latencies are asked for and not known.
pub fn check_answerable(catalog: &Catalog, at_most: Option<Price>, run_dir: &str) -> Result<(), String> {
    match at_most {
        Some(Price::Latency(_)) if !catalog.knows_latencies() => Err(format!(
            "no latency of this run's stitches is known; run `esta-worker profile --run-dir {run_dir}`, or give \
             --run-dir {run_dir} --latency FILE with what it measured elsewhere"
        )),
        _ => Ok(()),
    }
}

/// Reads a constraint: a latency such as `12ms` or `0.8s`, parameters such as `8B` (as models are named) or `350Mparams`, or
/// MACs such as `4.6G`.
///
/// # Errors
/// A line saying what a constraint looks like.
pub fn parse_price(text: &str) -> Result<Price, String> {
    if let Some(count) = text.strip_suffix("params") {
        return parse_cost(count.trim_end()).map(Price::Params);
    }
    if let Some(billions) = text.strip_suffix('B') {
        return parse_cost(&format!("{billions}G")).map(Price::Params).map_err(|_| no_cost(text));
    }
    match text.ends_with('s') {
        true => text.parse().map(Price::Latency).map_err(|wrong: InvalidLatency| wrong.to_string()),
        false => parse_cost(text).map(Price::Macs),
    }
}

fn no_cost(text: &str) -> String {
    format!(
        "{text:?} is no cost; write MACs such as 4.6G, 800M or 1258411200, parameters such as 8B or 350Mparams, or a \
         latency such as 12ms"
    )
}

/// Reads a cost such as `4.6G`, `800M` or `1258411200`, in MACs.
fn parse_cost(text: &str) -> Result<u64, String> {
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
        _ => Err(no_cost(text)),
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

/// A price for reading: `4.61 G` MACs, or `12.30 ms`.
#[must_use]
pub fn show_price(price: Price) -> String {
    match price {
        Price::Macs(count) | Price::Params(count) => show_cost(count),
        Price::Latency(latency) => latency.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use esta_engine::latency::Latency;

    use super::*;

    #[test]
    fn a_constraint_is_a_latency_by_its_unit_and_macs_without_one() {
        let millis = |millis| Ok(Price::Latency(Latency::from_millis(millis).expect("a latency")));
        assert_eq!(["12ms", "0.8s"].map(parse_price), [millis(12.0), millis(800.0)]);
        assert_eq!(["4.6G", "12"].map(parse_price), [Ok(Price::Macs(4_600_000_000)), Ok(Price::Macs(12))]);
        assert_eq!(
            ["8B", "0.6B", "350Mparams", "7 params"].map(parse_price),
            [8_000_000_000, 600_000_000, 350_000_000, 7].map(|count| Ok(Price::Params(count)))
        );
        assert!(parse_price("4.6GB").is_err_and(|why| why.contains("4.6GB")));
        assert!(parse_price("0ms").is_err_and(|why| why.contains("\"0ms\" is no latency; write 12ms")));
        assert!(parse_price("12m").is_err_and(|why| why.contains("4.6G") && why.contains("12ms")));
    }

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
