//! What a run came to, for reading (HANDS): the palette as a table.

use std::{fmt::Write as _, path::Path};

use esta_engine::{law::Law, palette::Choice, spec::PaletteRule};
use esta_proto::StitchId;

use crate::{
    artifacts::summary::{EvalFile, read_optional},
    palette::show_cost,
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

/// The palette of the job's rule, with held-out accuracies of every rule's choice where they were measured.
pub(super) fn palette_table(law: &Law, palettes: &[(PaletteRule, Vec<Choice>)], run_dir: &Path) -> String {
    let eval: Option<EvalFile> = read_optional(&run_dir.join("eval.json")).ok().flatten();
    let main = law.spec.palette.rule;
    let Some((_, choices)) = palettes.iter().find(|(rule, _)| *rule == main) else { return String::new() };
    let mut header = ["budget", "stitch", "path", "MACs", "params", main.name()].map(str::to_owned).to_vec();
    if eval.is_some() {
        header.extend(palettes.iter().map(|(rule, _)| format!("accuracy by {}", rule.name())));
    }
    header.push("file".into());
    let mut rows = vec![header];
    for choice in choices {
        let mut row = cells(law, choice);
        if let Some(eval) = &eval {
            row.extend(palettes.iter().map(|(_, others)| accuracy(eval, others, choice)));
        }
        row.push(file(eval.as_ref(), choice.stitch, run_dir));
        rows.push(row);
    }
    columns(&rows)
}

fn cells(law: &Law, choice: &Choice) -> Vec<String> {
    let budget = law.catalog.bin_range(choice.budget).map_or(choice.macs, |(_, most)| most);
    let words = law.catalog.get(choice.stitch).map_or_else(String::new, |stitch| stitch.path(&law.spec.family));
    vec![
        show_cost(budget),
        choice.stitch.to_string(),
        words,
        show_cost(choice.macs),
        show_cost(choice.params),
        format!("{:.4e}", choice.value),
    ]
}

/// Held-out accuracy of what a rule chose for the same budget.
fn accuracy(eval: &EvalFile, choices: &[Choice], of: &Choice) -> String {
    let chosen = choices.iter().find(|choice| choice.budget == of.budget);
    let result = chosen.and_then(|choice| eval.results.iter().find(|result| result.stitch == choice.stitch));
    result.map_or_else(|| "-".into(), |result| format!("{:.2} %", 100.0 * result.accuracy))
}

fn file(eval: Option<&EvalFile>, stitch: StitchId, run_dir: &Path) -> String {
    let export = eval.and_then(|eval| eval.exports.iter().find(|export| export.stitch == stitch));
    export.map_or_else(|| "-".into(), |export| run_dir.join(&export.path).display().to_string())
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
