//! The headline: what is compared, how much of it is there, and what is missing by name (HANDS).

use esta_page::markup::{escape, header, missing, tile};

use super::view::{View, counted};

/// So many missing cells are named.
const NAMED: usize = 20;

pub fn section(view: &View<'_>) -> String {
    let study = view.study;
    let head = header("a study", &study.title, &study.words, &tiles(view));
    head + &missing_note(&view.missing())
}

fn tiles(view: &View<'_>) -> [String; 4] {
    let (study, (wanted, there)) = (view.study, view.summary.cells);
    let rest = match wanted.saturating_sub(there) {
        0 => "every run is there".to_owned(),
        1 => "1 run is missing".to_owned(),
        rest => format!("{rest} runs are missing"),
    };
    let targets: Vec<&str> = study.targets.iter().map(|target| target.name.as_str()).collect();
    let seeds: Vec<String> = study.seeds.iter().map(u64::to_string).collect();
    let first = study.arms.first().map_or_else(String::new, |arm| format!("the first is {}", arm.name));
    [
        tile("cells", &format!("{there} of {wanted}"), &rest),
        tile("targets", &study.targets.len().to_string(), &targets.join(", ")),
        tile("seeds", &study.seeds.len().to_string(), &seeds.join(", ")),
        tile("arms", &study.arms.len().to_string(), &first),
    ]
}

/// Which cells are missing; nothing when none are.
fn missing_note(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let named: Vec<String> = names.iter().take(NAMED).map(|name| whole(name)).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let note = missing(&format!(
        "{} without a result: {}{more}. Figures below rest on what is there; running the study again does only what \
         is missing.",
        counted(names.len(), "cell"),
        named.join(" ")
    ));
    format!("<div style=\"margin-bottom:18px\">{note}</div>\n")
}

/// A name as code that is not broken at its hyphens.
fn whole(name: &str) -> String {
    format!("<code style=\"white-space:nowrap\">{}</code>", escape(name))
}
