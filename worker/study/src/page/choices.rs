//! Choices that are ours and the claims they touch (HANDS).

use esta_page::{
    markup::{escape, missing, section as markup_section},
    table::table,
};

use super::view::{View, code, wrapped};
use crate::plan::Claim;

pub fn section(view: &View<'_>) -> String {
    let lead = "Where the text of the paper is silent this implementation chose. These choices touch the claims above; \
        a claim of the paper that does not hold here may not hold because of them. The report of each run lists all of \
        its choices with their values.";
    let rows: Vec<Vec<String>> = touched(view)
        .into_iter()
        .map(|(choice, value, claims)| vec![wrapped(&name(choice)), wrapped(&escape(&value)), claims.join(", ")])
        .collect();
    let body = if rows.is_empty() {
        missing("No claim of this study names a choice of ours.")
    } else {
        table(&["choice", "value", "touches claims"], 3, &rows)
    };
    markup_section("Choices that are ours", lead, &body)
}

/// A key of a job as code, a sentence as it is.
fn name(choice: &str) -> String {
    if choice.contains(' ') { escape(choice) } else { code(choice) }
}

/// A choice with the value it has in both arms of a claim, or on each side of it.
pub fn with_value(view: &View<'_>, claim: &Claim, choice: &str) -> String {
    format!("{} {}", name(choice), escape(&value(view, claim, choice))).trim_end().to_owned()
}

fn value(view: &View<'_>, claim: &Claim, choice: &str) -> String {
    let said = |value: Option<String>| value.unwrap_or_else(|| "as ever".to_owned());
    match [&claim.arm, &claim.against].map(|arm| view.jobs.value(arm, choice)) {
        [None, None] => String::new(),
        [own, other] if own == other => said(own),
        [own, other] => format!("{} over {}", said(own), said(other)),
    }
}

/// Choices in the order claims name them, each with its values and the numbers of the claims it has them in.
fn touched<'a>(view: &View<'a>) -> Vec<(&'a str, String, Vec<String>)> {
    let mut choices: Vec<(&str, String, Vec<String>)> = Vec::new();
    for (number, summary) in (1..).zip(&view.summary.claims) {
        for choice in &summary.claim.ours {
            let value = value(view, &summary.claim, choice);
            match choices.iter_mut().find(|(known, of, _)| known == choice && *of == value) {
                Some((.., claims)) => claims.push(number.to_string()),
                None => choices.push((choice, value, vec![number.to_string()])),
            }
        }
    }
    let first: Vec<&str> = choices.iter().map(|(choice, ..)| *choice).collect();
    choices.sort_by_key(|(choice, ..)| first.iter().position(|known| known == choice));
    choices
}
