//! What a run came to, for reading (HANDS): the palette as a table.

use std::fmt::Write as _;

use esta_engine::{budget::Price, law::Law, palette::Choice, spec::PaletteRule};
use esta_objects::RunPlace;

use crate::{
    artifacts::summary::{EvalFile, SpeechEntry, read_optional},
    palette::{Entry, entry, show_cost, show_price},
};

/// Columns of cells, as wide as their widest cell; a column of numbers is aligned to the right.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let numeric = |column: usize| {
        let number = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        rows.iter().skip(1).all(|row| number(&row[column]))
    };
    let right: Vec<bool> = (0..count).map(numeric).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
            // Writing to a String cannot fail.
            let _ = if *right { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What stands in a cell whose content is not known.
pub(super) const UNKNOWN: &str = "-";

/// The palette of the job's rule, with held-out accuracies of every rule's choice where they were measured.
pub(super) fn palette_table(law: &Law, palettes: &[(PaletteRule, Vec<Choice>)], place: &RunPlace) -> String {
    let eval: Option<EvalFile> = read_optional(&place.folder.join("eval.json")).ok().flatten();
    let shown = place.shown();
    let main = law.spec.palette.rule;
    let Some((_, choices)) = palettes.iter().find(|(rule, _)| *rule == main) else { return String::new() };
    let known = |choice: &Choice, rule| entry(law, choice.clone(), rule).evaluated(eval.as_ref(), &shown);
    let speaks = eval.as_ref().is_some_and(|eval| eval.speech.is_some());
    let mut header = vec!["budget".to_owned()];
    header.extend(titles(main, law.catalog.knows_latencies()));
    if eval.is_some() {
        header.extend(speaks.then(|| "loss".to_owned()));
        let word = if speaks { "exact match" } else { "accuracy" };
        header.extend(palettes.iter().map(|(rule, _)| format!("{word} by {}", rule.name())));
    }
    header.push("file".into());
    let mut rows = vec![header];
    for choice in choices {
        let most = law.catalog.most_of(choice.budget).unwrap_or(Price::Macs(choice.macs));
        let entry = known(choice, main);
        let mut row = [vec![show_price(most)], cells(&entry)].concat();
        if eval.is_some() {
            row.extend(speaks.then(|| loss_of(eval.as_ref(), choice)));
            let accuracy = |(rule, others): &(PaletteRule, Vec<Choice>)| {
                let chosen = others.iter().find(|other| other.budget == choice.budget)?;
                known(chosen, *rule).accuracy
            };
            row.extend(palettes.iter().map(|palette| percent(accuracy(palette))));
        }
        row.push(file(&entry));
        rows.push(row);
    }
    let spoken = eval.as_ref().and_then(|eval| eval.speech.as_ref());
    columns(&rows) + &spoken.map_or_else(String::new, |speech| spoken_words(law, choices, speech))
}

fn loss_of(eval: Option<&EvalFile>, choice: &Choice) -> String {
    let result = eval.and_then(|eval| eval.results.iter().find(|result| result.stitch == choice.stitch));
    result.and_then(|result| result.loss).map_or_else(|| UNKNOWN.to_owned(), |loss| format!("{loss:.4}"))
}

/// What trivial answers reach, and a question that every choice answers.
fn spoken_words(law: &Law, choices: &[Choice], speech: &SpeechEntry) -> String {
    let mut words = format!("held-out loss is the mean over {} tokens", speech.tokens);
    if let (Some(majority), Some(copy)) = (speech.majority, speech.copy) {
        let (majority, copy) = (percent(Some(majority)), percent(Some(copy)));
        // Writing to a String cannot fail.
        let _ = write!(words, "; exact match of the majority answer {majority}, of copying the closest line {copy}");
    }
    words.push('\n');
    let Some(question) = &speech.question else { return words };
    let _ = writeln!(words, "\n{}\n  the set: {}", question.instruction, question.answer);
    for choice in choices {
        let Some(answer) = speech.answers.iter().find(|answer| answer.stitch == choice.stitch) else { continue };
        let path = law.catalog.get(choice.stitch).map_or_else(String::new, |stitch| stitch.path(&law.spec.family));
        let _ =
            writeln!(words, "  {path}, {} parameters: {}", show_cost(choice.params), answer.text.replace('\n', " "));
    }
    words
}

/// What stands above [`cells`] of choices whose latencies are known or not.
pub(super) fn titles(rule: PaletteRule, latencies: bool) -> Vec<String> {
    let latency = latencies.then_some("latency");
    ["stitch", "path", "MACs", "params"].into_iter().chain(latency).chain([rule.name()]).map(str::to_owned).collect()
}

/// Stitch, path, MACs, parameters, latency where it is known, and the rule's value.
pub(super) fn cells(Entry { choice, path, .. }: &Entry) -> Vec<String> {
    let (macs, params) = (show_cost(choice.macs), show_cost(choice.params));
    let mut cells = vec![choice.stitch.to_string(), path.clone(), macs, params];
    cells.extend(choice.latency.map(|latency| latency.to_string()));
    // A sum with zero has no negative zero.
    cells.push(format!("{:.4e}", choice.value + 0.0));
    cells
}

/// A held-out accuracy.
pub(super) fn percent(accuracy: Option<f64>) -> String {
    accuracy.map_or_else(|| UNKNOWN.to_owned(), |share| format!("{:.2} %", 100.0 * share))
}

/// Where a choice was exported to.
pub(super) fn file(entry: &Entry) -> String {
    entry.file.as_ref().map_or_else(|| UNKNOWN.to_owned(), |file| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_words_to_the_left() {
        let rows = [["id", "path"], ["7", "a"], ["12", "a[0-1]>b[1-2]"]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        assert_eq!(columns(&rows), "id  path\n 7  a\n12  a[0-1]>b[1-2]\n");
    }
}
