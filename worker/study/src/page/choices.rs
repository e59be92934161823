//! Choices that are ours and the claims they touch (HANDS).

use esta_page::{
    markup::{missing, section as markup_section},
    table::table,
};

use super::{
    claims::choice_words,
    view::{View, wrapped},
};

pub fn section(view: &View<'_>) -> String {
    let lead = "Where the text of the paper is silent this implementation chose. These choices touch the claims above; \
        a claim of the paper that does not hold here may not hold because of them. The report of each run lists all of \
        its choices with their values.";
    let rows: Vec<Vec<String>> = touched(view)
        .into_iter()
        .map(|(choice, claims)| vec![wrapped(&choice_words(choice)), claims.join(", ")])
        .collect();
    let body = if rows.is_empty() {
        missing("No claim of this study names a choice of ours.")
    } else {
        table(&["choice", "touches claims"], 2, &rows)
    };
    markup_section("Choices that are ours", lead, &body)
}

/// Choices in the order claims name them, with the numbers of those claims.
fn touched<'a>(view: &View<'a>) -> Vec<(&'a str, Vec<String>)> {
    let mut choices: Vec<(&str, Vec<String>)> = Vec::new();
    for (number, claim) in (1..).zip(&view.summary.claims) {
        for choice in &claim.claim.ours {
            match choices.iter_mut().find(|(known, _)| known == choice) {
                Some((_, claims)) => claims.push(number.to_string()),
                None => choices.push((choice, vec![number.to_string()])),
            }
        }
    }
    choices
}
