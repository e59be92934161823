//! How to get this page again (HANDS).

use esta_page::{
    markup::{escape, section as markup_section},
    table::table,
};

use super::{
    targets::job,
    view::{View, code, wrapped},
};

pub fn section(view: &View<'_>) -> String {
    let lead = "The same seeds give the same figures on the same kind of device, whatever the number of workers; times \
        differ. What is finished is not run again unless its job or the program's version has changed.";
    let about = view.about;
    let seeds: Vec<String> = view.study.seeds.iter().map(u64::to_string).collect();
    let commands: Vec<String> = about.command.lines().map(code).collect();
    let facts = [
        ("command", commands.join("<br/>")),
        ("one cell by hand", by_hand(view)),
        ("seeds", seeds.join(", ")),
        ("version", escape(&about.version)),
        ("machine", escape(&about.machine)),
        ("device", escape(&about.device)),
        ("made", escape(&about.date)),
    ];
    let known = |words: String| if words.is_empty() { "–".to_owned() } else { wrapped(&words) };
    let rows: Vec<Vec<String>> = facts.into_iter().map(|(name, words)| vec![name.to_owned(), known(words)]).collect();
    markup_section("How to reproduce", lead, &table(&["what", "as it was made"], 2, &rows))
}

/// The first cell as a command.
fn by_hand(view: &View<'_>) -> String {
    let cells = view.study.cells();
    let Some((cell, target)) = cells.first().zip(view.study.targets.first()) else { return String::new() };
    let settings: String = cell.set.iter().map(|setting| format!(" --set {setting}")).collect();
    let name = cell.id.name();
    code(&format!("esta-coordinator run --config {}{settings}", job(target))) + &format!(" ({})", escape(&name))
}
