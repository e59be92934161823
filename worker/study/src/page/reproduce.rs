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
        differ. What is finished is not run again unless its job has changed: of the program's own changes only those \
        that are known to move what jobs come to make results stale, by a number that is raised by hand with them.";
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
    let settings: String = cell.set.iter().map(|setting| format!(" --set {}", quoted(setting))).collect();
    let name = cell.id.name();
    code(&format!("esta-coordinator run --workers 1 --config {}{settings}", job(target)))
        + &format!(" ({})", escape(&name))
}

/// A setting as a shell takes it.
fn quoted(setting: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "=._-+/:,".contains(c);
    if setting.chars().all(plain) { setting.to_owned() } else { format!("'{}'", setting.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_a_shell_would_read_are_quoted() {
        assert_eq!(quoted("train.learning_rate=1e-3"), "train.learning_rate=1e-3");
        assert_eq!(quoted("budgets={gap: 0.5e6}"), "'budgets={gap: 0.5e6}'");
        assert_eq!(quoted("name=it's"), r"'name=it'\''s'");
    }
}
