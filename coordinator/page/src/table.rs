//! Tables, their captions and their best cells (HANDS).

/// A table of markup cells; the first `words` columns are words, the others numbers.
#[must_use]
pub fn table(heads: &[&str], words: usize, rows: &[Vec<String>]) -> String {
    whole("", heads, words, rows)
}

/// As [`table`], with a caption above; `caption` is markup.
#[must_use]
pub fn captioned_table(caption: &str, heads: &[&str], words: usize, rows: &[Vec<String>]) -> String {
    whole(&format!("<caption>{caption}</caption>\n"), heads, words, rows)
}

fn whole(caption: &str, heads: &[&str], words: usize, rows: &[Vec<String>]) -> String {
    let class = |column: usize| if column < words { "" } else { " class=\"n\"" };
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| -> String {
        cells.enumerate().map(|(column, cell)| format!("<{tag}{}>{cell}</{tag}>", class(column))).collect()
    };
    let head = cells("th", &mut heads.iter().copied());
    let body: String =
        rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", &mut row.iter().map(String::as_str)))).collect();
    format!(
        "<div class=\"scroll\"><table>\n{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n\
         </table></div>\n"
    )
}

/// Which value of some is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Best {
    /// Accuracies.
    Highest,
    /// Losses, regrets and costs.
    Lowest,
}

/// Cells of these values in words, the best of them marked, as all that read the same; a dash for what is not known.
#[must_use]
pub fn mark_best(values: &[Option<f64>], best: Best, words: impl Fn(f64) -> String) -> Vec<String> {
    let known = values.iter().flatten().copied().filter(|value| value.is_finite());
    let best = match best {
        Best::Highest => known.max_by(f64::total_cmp),
        Best::Lowest => known.min_by(f64::total_cmp),
    };
    let best = best.map(&words);
    let cell = |value: &Option<f64>| match value.map(&words) {
        None => "–".to_owned(),
        said if said == best => strong(&said.unwrap_or_default()),
        Some(said) => said,
    };
    values.iter().map(cell).collect()
}

/// A cell that stands out from its row; `cell` is markup.
#[must_use]
pub fn strong(cell: &str) -> String {
    format!("<b class=\"best\">{cell}</b>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::percent;

    #[test]
    fn a_caption_stands_inside_its_table() {
        let rows = [vec!["m".to_owned(), "73.7".to_owned()]];
        let (plain, captioned) =
            (table(&["anchor", "%"], 1, &rows), captioned_table("Three seeds", &["anchor", "%"], 1, &rows));
        assert_eq!(captioned.replace("<caption>Three seeds</caption>\n", ""), plain);
        assert!(captioned.contains("<table>\n<caption>"), "{captioned}");
        assert!(plain.contains("<th>anchor</th><th class=\"n\">%</th>"), "{plain}");
        assert!(plain.contains("<tr><td>m</td><td class=\"n\">73.7</td></tr>"), "{plain}");
    }

    #[test]
    fn values_that_read_the_same_share_the_mark() {
        let cells = mark_best(&[Some(0.7371), Some(0.7369), None, Some(0.61)], Best::Highest, percent);
        assert_eq!(cells, ["<b class=\"best\">73.7 %</b>", "<b class=\"best\">73.7 %</b>", "–", "61.0 %"]);
        let cells = mark_best(&[Some(2.0), Some(f64::NAN), Some(1.0)], Best::Lowest, |value| format!("{value:.1}"));
        assert_eq!(cells, ["2.0", "NaN", "<b class=\"best\">1.0</b>"]);
        assert_eq!(mark_best(&[None], Best::Lowest, percent), ["–"]);
    }
}
